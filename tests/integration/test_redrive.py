"""Dead letters get new attempts: one by one, or many at a pace that survives whoever carries it on."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from kongflow_events import errors, models, words
from kongflow_events.services import bulk_operations, deliver, ingest, invoke, post, redrive
from kongflow_events.store import db, redrives
from tests import factory
from tests.plans import rows_read

pytestmark = pytest.mark.usefixtures("store")

NOWHERE = "http://127.0.0.1:9/"
INVOCATIONS = redrives.Wanted(of="invocations")
DELIVERIES = redrives.Wanted(of="deliveries")


@pytest.fixture
def alice() -> words.Environment:
    return factory.environment("alice")


def send(environment: words.Environment, **fields: Any) -> uuid.UUID:
    with db.unit():
        return ingest.ingest_send_event(environment, factory.event(**fields)).id


def dead(
    environment: words.Environment, count: int = 1, name: str = factory.JOB_EVENT, **columns: Any
) -> list[uuid.UUID]:
    """Invocations whose job version does not exist: dead at their first attempt."""
    to = {"type": words.JOB_VERSION, "id": str(uuid.uuid4())}
    factory.dispatcher(environment, name, to=to, **columns)
    made = deliver.deliver([send(environment, name=name) for _ in range(count)])["invoke"]
    invoke.invoke(made)
    return made


def dead_post(environment: words.Environment) -> uuid.UUID:
    """An invocation whose target cannot be reached, after its last attempt."""
    factory.dispatcher(environment, "posted", to=factory.to_url(NOWHERE))
    [made] = deliver.deliver([send(environment, name="posted")])["post"]
    exhaust(made)
    return made


def exhaust(invocation_id: uuid.UUID) -> None:
    with db.unit():
        db.run("UPDATE outbox SET attempts = 9, due_at = now() WHERE subject_id = %s", (invocation_id,))
    post.post([invocation_id])


def row(invocation_id: uuid.UUID) -> models.Invocation:
    with db.unit():
        return models.Invocation.get_by_id(invocation_id)


def owed() -> list[models.Outbox]:
    with db.unit():
        return list(models.Outbox.select().order_by(models.Outbox.subject_id))


def start(environment: words.Environment, wanted: redrives.Wanted = INVOCATIONS, rate: int = 1000) -> str:
    with db.unit():
        return str(redrive.start_redrive(environment, wanted, rate).id)


def advance() -> bool:
    with db.unit():
        return redrive.advance_redrives()


def state(environment: words.Environment, operation_id: str) -> models.BulkOperation:
    with db.unit():
        return bulk_operations.get_operation(environment, redrive.KIND, operation_id)


def hurry() -> None:
    with db.unit():
        db.run("UPDATE bulk_operations SET next_at = now()")


class TestOne:
    def test_an_invocation_gets_a_new_round_of_attempts(self, alice: words.Environment) -> None:
        [made] = dead(alice)
        assert (row(made).status, row(made).last_outcome) == ("DEAD", "missing")
        with db.unit():
            redrive.redrive_invocation(alice, str(made))

        again = row(made)
        assert (again.status, again.attempts, again.redrives, again.died_at) == ("PENDING", 0, 1, None)
        [work] = owed()
        assert (work.subject_id, work.kind, work.lane, work.attempts) == (made, "invoke", alice.id, 0)
        invoke.invoke([made])
        assert row(made).status == "DEAD"
        with db.unit():
            rounds = [(one.round, one.number, one.outcome) for one in models.InvocationAttempt.select()]
        assert rounds == [(0, 1, "missing"), (1, 1, "missing")]

    def test_a_call_keeps_the_ledger_of_every_round(self, alice: words.Environment) -> None:
        made = dead_post(alice)
        with db.unit():
            redrive.redrive_invocation(alice, str(made))
        assert [work.kind for work in owed()] == ["post"]
        post.post([made])
        with db.unit():
            rounds = [(one.round, one.number) for one in models.InvocationAttempt.select()]
        assert rounds == [(0, 10), (1, 1)]
        assert (row(made).status, row(made).last_outcome) == ("PENDING", "unreachable")

    def test_a_delivery_gets_new_attempts_and_is_delivered(self, alice: words.Environment) -> None:
        factory.dispatcher(alice, to=factory.to_job(factory.job(alice)))
        event = send(alice, id="1")
        with db.unit():
            db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity', attempts = 5, last_error = 'odd'")
        deliver.deliver([event])
        with db.unit():
            assert models.Invocation.select().count() == 0
            redrive.redrive_event(alice, "1")

        assert [(work.attempts, work.died_at) for work in owed()] == [(0, None)]
        deliver.deliver([event])
        with db.unit():
            assert models.Invocation.select().count() == 1

    def test_what_is_not_dead_is_refused(self, alice: words.Environment) -> None:
        [made] = dead(alice)
        send(alice, id="1")
        bob = factory.environment("bob")
        with db.unit():
            redrive.redrive_invocation(alice, str(made))
            for verb in (redrive.redrive_invocation, redrive.dismiss_invocation):
                with pytest.raises(errors.Conflict):
                    verb(alice, str(made))
                with pytest.raises(errors.NotFound):
                    verb(bob, str(made))
            for verb in (redrive.redrive_event, redrive.dismiss_event):
                with pytest.raises(errors.Conflict):
                    verb(alice, "1")
                with pytest.raises(errors.NotFound):
                    verb(bob, "1")

    def test_of_two_who_redrive_one_wins(self, alice: words.Environment) -> None:
        [made] = dead(alice)
        together = threading.Barrier(2)
        outcomes: list[str] = []

        def click() -> None:
            together.wait()
            with db.unit():
                try:
                    redrive.redrive_invocation(alice, str(made))
                    outcomes.append("redriven")
                except errors.Conflict:
                    outcomes.append("refused")

        threads = [threading.Thread(target=click) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(outcomes) == ["redriven", "refused"]
        assert (row(made).redrives, len(owed())) == (1, 1)

    def test_a_dismissed_one_is_no_dead_letter_any_more(self, alice: words.Environment) -> None:
        [made] = dead(alice)
        send(alice, id="1", name="unheard")
        with db.unit():
            db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity'")
            redrive.dismiss_invocation(alice, str(made))
            redrive.dismiss_event(alice, "1")
            assert redrive.count_dead(alice, INVOCATIONS) == redrive.count_dead(alice, DELIVERIES) == 0

        ended = row(made)
        assert (ended.status, ended.died_at) == ("CANCELED", None)
        assert ended.reason.startswith("dismissed: its JOB_VERSION")
        assert owed() == []

    @pytest.mark.parametrize("change", ["enabled = FALSE", "expires_at = now()"])
    def test_one_whose_dispatcher_would_have_it_skipped_stays_a_dead_letter(
        self, alice: words.Environment, change: str
    ) -> None:
        [made] = dead(alice)
        with db.unit():
            db.run(f"UPDATE event_dispatchers SET {change}")
        with db.unit(), pytest.raises(errors.Conflict, match="enabled"):
            redrive.redrive_invocation(alice, str(made))
        operation = start(alice)
        advance()

        assert (row(made).status, owed()) == ("DEAD", [])
        assert (state(alice, operation).done, state(alice, operation).state) == (0, "DONE")

        with db.unit():
            db.run("UPDATE event_dispatchers SET enabled = TRUE, expires_at = NULL")
            redrive.redrive_invocation(alice, str(made))
        assert row(made).status == "PENDING"

    def test_a_one_shot_dispatcher_waits_for_one_event_at_a_time(self, alice: words.Environment) -> None:
        factory.dispatcher(alice, "once", to=factory.to_url(NOWHERE), one_shot=True)
        letters = []
        for _ in range(2):
            [made] = deliver.deliver([send(alice, name="once")])["post"]
            exhaust(made)
            letters.append(made)
        operation = start(alice)
        advance()

        assert [row(letter).status for letter in letters] == ["PENDING", "DEAD"]
        assert state(alice, operation).done == 1
        with db.unit(), pytest.raises(errors.Conflict):
            redrive.redrive_invocation(alice, str(letters[1]))


class TestMany:
    def test_all_are_redriven_step_by_step_and_only_those_that_were_dead_then(self, alice: words.Environment) -> None:
        letters = dead(alice, 7)
        operation = start(alice, rate=30)
        steps = 0
        while state(alice, operation).state == "RUNNING":
            assert advance()
            hurry()
            steps += 1
            # They die again at once, and are not redriven for ever.
            invoke.invoke([work.subject_id for work in owed()])

        ended = state(alice, operation)
        assert (ended.state, ended.total, ended.done, ended.finished_at is not None) == ("DONE", 7, 7, True)
        assert steps == 3
        assert {row(letter).redrives for letter in letters} == {1}
        assert not advance()

    @pytest.mark.parametrize(
        ("wanted", "count"),
        [
            ({}, 5),
            ({"name": "order.late"}, 2),
            ({"error_class": "missing"}, 5),
            ({"error_class": "timeout"}, 0),
            ({"since": timedelta(hours=1)}, 0),
            ({"until": timedelta(hours=1)}, 5),
            ({"until": timedelta(hours=-1)}, 0),
        ],
    )
    def test_they_are_chosen_by_what_is_asked(self, alice: words.Environment, wanted: Any, count: int) -> None:
        dead(factory.environment("bob"), 3)
        dead(alice, 3)
        dead(alice, 2, name="order.late")
        with db.unit():
            now = db.rows("SELECT now() AS now")[0]["now"]
        asked = {key: now + value if isinstance(value, timedelta) else value for key, value in wanted.items()}
        chosen = redrives.Wanted(of="invocations", **asked)
        with db.unit():
            assert redrive.count_dead(alice, chosen) == count
        operation = start(alice, chosen)
        advance()

        assert (state(alice, operation).done, state(alice, operation).state) == (count, "DONE")
        assert len(owed()) == count

    def test_one_dispatchers_dead_letters_alone(self, alice: words.Environment) -> None:
        mine, other = dead(alice, 2), dead(alice, 2, name="order.late")
        operation = start(alice, redrives.Wanted(of="invocations", dispatcher=row(mine[0]).dispatcher_id))
        advance()

        assert state(alice, operation).done == 2
        assert {row(one).status for one in other} == {"DEAD"}

    def test_deliveries_too(self, alice: words.Environment) -> None:
        for name in ("a", "a", "b"):
            send(alice, name=name)
        with db.unit():
            db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity', attempts = 5")
        operation = start(alice, redrives.Wanted(of="deliveries", name="a"))
        advance()

        assert (state(alice, operation).total, state(alice, operation).done) == (2, 2)
        assert sorted(work.attempts for work in owed()) == [0, 0, 5]

    def test_the_pace_is_kept(self, alice: words.Environment) -> None:
        dead(alice, 10)
        operation = start(alice, rate=1)

        assert advance()
        assert not advance()  # one row at one a second: not due for a second
        assert state(alice, operation).done == 1

    def test_a_step_looks_at_a_stretch_of_the_dead_however_few_are_wanted(self, alice: words.Environment) -> None:
        dead(alice, 300)
        rare = redrives.Wanted(of="invocations", name="nobody.has.this")
        with db.unit():
            db.run("ANALYZE")
            asked = {"environment": alice.id, "started": db.now(), "after": None, "look": 20, "most": 5}
            [explained] = db.rows(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {redrives._NEXT_INVOCATIONS}", asked | msgspec.structs.asdict(rare)
            )
            stretch = redrives.next_dead(alice.id, rare, db.now(), None, 20, 5)

        assert rows_read(explained["QUERY PLAN"][0]["Plan"])["invocations"] <= 2 * 20
        assert (stretch.chosen, stretch.last is None) == ([], False)

    def test_steps_that_find_nothing_go_on_to_what_is_wanted(
        self, alice: words.Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redrive, "_LOOK", 10)
        dead(alice, 25)
        wanted = dead(alice, 3, name="rare")
        dead(alice, 11)
        operation = start(alice, redrives.Wanted(of="invocations", name="rare"))
        steps = 0
        while advance():
            hurry()
            steps += 1

        assert (steps, state(alice, operation).state, state(alice, operation).done) == (6, "DONE", 3)
        assert [row(one).status for one in wanted] == ["PENDING"] * 3

    def test_cancelling_keeps_what_was_done(self, alice: words.Environment) -> None:
        dead(alice, 6)
        operation = start(alice, rate=20)
        advance()
        with db.unit():
            cancelled = bulk_operations.cancel_operation(alice, redrive.KIND, operation)
        hurry()

        assert (cancelled.state, cancelled.done) == ("CANCELED", 2)
        assert not advance()
        with db.unit():
            assert bulk_operations.cancel_operation(alice, redrive.KIND, operation).state == "CANCELED"
            with pytest.raises(errors.NotFound):
                bulk_operations.cancel_operation(factory.environment("bob"), redrive.KIND, operation)

    def test_two_schedulers_take_turns_and_redrive_each_once(self, alice: words.Environment) -> None:
        letters = dead(alice, 40)
        operation = start(alice, rate=20)
        stop = threading.Event()

        def scheduler() -> None:
            while not stop.is_set():
                hurry()
                if not advance() and state(alice, operation).state != "RUNNING":
                    return

        threads = [threading.Thread(target=scheduler) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        stop.set()

        assert state(alice, operation).done == 40
        assert {row(letter).redrives for letter in letters} == {1}

    def test_a_step_that_fails_says_so_and_is_taken_again(
        self, alice: words.Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dead(alice, 2)
        operation = start(alice)
        with monkeypatch.context() as patched:
            patched.setattr(redrives, "revive", lambda *_: 1 / 0)
            assert advance()
        assert state(alice, operation).last_error == "division by zero"
        assert not advance()
        hurry()
        advance()

        ended = state(alice, operation)
        assert (ended.state, ended.done, ended.last_error) == ("DONE", 2, None)
