"""Who meets whom: two at one row, in every order of their statements; the database decides, and never twice.

Each test is one sentence about two verbs. Hypothesis draws whose statement comes next, so that each of the two is also met
while it holds its transaction open.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kongflow_events import errors, models, schemas, words
from kongflow_events.services import cancel, deliver, dispatchers, expire, ingest, invoke, post, redrive, retain
from kongflow_events.store import db, outbox
from tests import factory
from tests.receiver import Receiver
from tests.stepping import Interleaving, halting

# Whose statement comes next. One goes so many statements and stands there, its transaction open, until the other can go
# no further; or they mix as luck has it. What is not said goes in turn.
ORDERS = st.builds(
    lambda first, count: [first] * count + [1 - first] * 20, st.integers(0, 1), st.integers(0, 9)
) | st.lists(st.integers(0, 1), max_size=14)

# The rows of an example bear fresh ids, so that the database can be the test's.
in_any_order = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def at_once(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interleaving]:
    """Does several things at once."""
    interleaving = Interleaving(store)
    with halting(monkeypatch):
        yield interleaving
    interleaving.close()


@pytest.fixture
def alice(store: str) -> words.Environment:
    return factory.environment("alice")


@pytest.fixture
def job(alice: words.Environment) -> models.JobVersion:
    return factory.job(alice)


def name() -> str:
    """A name that only this example's event and dispatchers have."""
    return uuid.uuid4().hex


def send(environment: words.Environment, event: str, n: int = 1, **options: Any) -> models.EventRecord:
    with db.unit():
        sent = factory.event(event, id=event, payload=f'{{"n":{n}}}')
        return ingest.ingest_send_event(environment, sent, schemas.SendOptions(**options))


def cancelled(environment: words.Environment, event: str) -> models.EventRecord:
    with db.unit():
        return cancel.cancel_event(environment, event)


def invocations(record: models.EventRecord) -> list[models.Invocation]:
    with db.unit():
        return list(models.Invocation.select().where(models.Invocation.event_record_id == record.id))


def runs(record: models.EventRecord) -> int:
    with db.unit():
        return models.JobRun.select().where(models.JobRun.event_record_id == record.id).count()


def stored(record: models.EventRecord) -> models.EventRecord:
    with db.unit():
        return models.EventRecord.get_by_id(record.id)


def owed(*subjects: uuid.UUID) -> list[models.Outbox]:
    with db.unit():
        return list(models.Outbox.select().where(models.Outbox.subject_id.in_(subjects)))


def delivered(record: models.EventRecord) -> list[uuid.UUID]:
    """Deliver now, alone, so that every invocation is owed; returns those that are to be invoked."""
    return deliver.deliver([record.id], one_by_one=True)["invoke"]


class TestTwoSends:
    @pytest.fixture(autouse=True)
    def _apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in two processes: threads of one would share a statement."""
        monkeypatch.setattr(ingest._together, "do", lambda _line, asked: ingest._store_together([asked])[0])

    @pytest.mark.parametrize("bulk", [False, True], ids=["single", "bulk"])
    @in_any_order
    @given(order=ORDERS, account=st.booleans())
    def test_two_sends_of_one_id_give_one_record_and_one_row_and_both_get_the_first(
        self, at_once: Interleaving, alice: words.Environment, bulk: bool, order: list[int], account: bool
    ) -> None:
        event = name()
        options = schemas.SendOptions(account_id=event if account else None)

        def sender(n: int) -> Callable[[], models.EventRecord]:
            def work() -> models.EventRecord:
                sent = factory.event(event, id=event, payload=f'{{"n":{n}}}')
                with db.unit():
                    if bulk:
                        return ingest.ingest_send_events(alice, [factory.event(name()), sent], options)[1]
                    return ingest.ingest_send_event(alice, sent, options)

            return work

        first, second = at_once(order, sender(1), sender(2))

        assert (first.id, first.payload, first.external_account_id) == (
            second.id,
            second.payload,
            second.external_account_id,
        )
        assert stored(first).payload == first.payload
        assert len(owed(first.id)) == 1


class TestCancelAgainstDeliver:
    @pytest.mark.parametrize("alone", [False, True], ids=["together", "alone"])
    @in_any_order
    @given(order=ORDERS)
    def test_a_cancelled_event_that_had_no_invocation_never_gets_one(
        self, at_once: Interleaving, alice: words.Environment, job: models.JobVersion, alone: bool, order: list[int]
    ) -> None:
        event = name()
        factory.dispatcher(alice, event, to=factory.to_job(job))
        record = send(alice, event)

        def canceller() -> int:
            cancelled(alice, event)
            return len(invocations(record))

        seen, _ = at_once(order, canceller, lambda: deliver.deliver([record.id], one_by_one=alone))
        send(alice, event)
        delivered(record)

        assert len(invocations(record)) == seen
        assert (stored(record).delivered_at is not None) == (seen == 1)
        kinds = [row.kind for row in owed(record.id, *(one.id for one in invocations(record)))]
        assert (kinds, runs(record)) in ((["invoke"] * seen, 0), ([], seen))

    @in_any_order
    @given(order=ORDERS)
    def test_a_url_is_called_only_if_its_event_was_not_cancelled_before_the_call_was_claimed(
        self, at_once: Interleaving, alice: words.Environment, order: list[int]
    ) -> None:
        event = name()
        with Receiver() as target:
            factory.dispatcher(alice, event, to=factory.to_url(target.url), one_shot=True)
            record = send(alice, event)
            [one] = deliver.deliver([record.id])["post"]

            def canceller() -> bool:
                cancelled(alice, event)
                with db.unit():
                    # In one statement: it must not change between two looks.
                    [seen] = db.rows(
                        """SELECT status = 'SUCCEEDED' OR EXISTS (SELECT FROM outbox WHERE subject_id = id) AS claimed
                             FROM invocations WHERE id = %s""",
                        (one,),
                    )
                return bool(seen["claimed"])

            claimed, _ = at_once(order, canceller, lambda: post.post([one]))
            post.post([one])

            [ended] = invocations(record)
            assert (ended.status, len(target.calls)) == (("SUCCEEDED", 1) if claimed else ("CANCELED", 0))
            assert owed(one) == []

    @in_any_order
    @given(order=ORDERS)
    def test_a_url_whose_event_was_cancelled_while_it_was_delivered_is_not_called(
        self, at_once: Interleaving, alice: words.Environment, order: list[int]
    ) -> None:
        event = name()
        with Receiver() as target:
            factory.dispatcher(alice, event, to=factory.to_url(target.url))
            record = send(alice, event)
            at_once(order, lambda: cancelled(alice, event), lambda: deliver.deliver([record.id]))
            post.post([one.id for one in invocations(record)])

            assert target.calls == []
            assert {one.status for one in invocations(record)} <= {"CANCELED"}
            assert owed(record.id, *(one.id for one in invocations(record))) == []

    @in_any_order
    @given(order=ORDERS)
    def test_an_event_that_is_cancelled_while_it_is_sent_again_is_not_delivered(
        self, at_once: Interleaving, alice: words.Environment, job: models.JobVersion, order: list[int]
    ) -> None:
        event = name()
        record = send(alice, event)
        assert delivered(record) == []  # nobody hears it, so that sending it again owes it again
        factory.dispatcher(alice, event, to=factory.to_job(job))

        def sender() -> None:
            with db.unit():
                ingest.ingest_send_events(alice, [factory.event(event, id=event)])

        at_once(order, lambda: cancelled(alice, event), sender)
        delivered(record)

        assert invocations(record) == []
        assert owed(record.id) == []


class TestUpdateAgainstDeliver:
    @pytest.mark.parametrize("alone", [False, True], ids=["together", "alone"])
    @in_any_order
    @given(order=ORDERS, due=st.booleans())
    def test_what_an_update_was_answered_is_what_is_delivered(
        self,
        at_once: Interleaving,
        alice: words.Environment,
        job: models.JobVersion,
        alone: bool,
        order: list[int],
        due: bool,
    ) -> None:
        event = name()
        listening = {
            factory.dispatcher(alice, event, to=factory.to_job(job), payload_filter={"n": [n]}): {"n": n}
            for n in (1, 2)
        }
        record = send(alice, event, deliver_after=3600)
        if due:
            # As if the hour were over for whoever delivers, and not yet for the sender.
            with db.unit():
                db.run("UPDATE outbox SET due_at = now() WHERE subject_id = %s", (record.id,))

        answered, _ = at_once(
            order, lambda: send(alice, event, 2), lambda: deliver.deliver([record.id], one_by_one=alone)
        )
        delivered(record)

        [made] = invocations(record)
        assert listening[made.dispatcher_id] == answered.payload == stored(record).payload
        assert owed(record.id) == []

    @in_any_order
    @given(order=ORDERS)
    def test_an_event_that_is_sent_again_while_nobody_hears_it_is_owed_again_or_known_to_be(
        self, at_once: Interleaving, alice: words.Environment, job: models.JobVersion, order: list[int]
    ) -> None:
        event = name()
        record = send(alice, event)

        def late() -> None:
            factory.dispatcher(alice, event, to=factory.to_job(job))
            send(alice, event)

        at_once(order, late, lambda: deliver.deliver([record.id]))
        delivered(record)

        assert len(invocations(record)) == 1

    @in_any_order
    @given(order=ORDERS)
    def test_a_row_that_found_its_event_in_other_hands_has_used_up_no_attempt(
        self, at_once: Interleaving, alice: words.Environment, order: list[int]
    ) -> None:
        event = name()
        record = send(alice, event)

        def sender() -> None:
            with db.unit():
                ingest.ingest_send_events(alice, [factory.event(event, id=event)])

        at_once(order, sender, lambda: deliver.deliver([record.id], one_by_one=True))

        assert [(row.attempts, row.lease_until) for row in owed(record.id)] in ([], [(0, None)])


class TestTwoWorkers:
    @in_any_order
    @given(order=ORDERS, alone=st.tuples(st.booleans(), st.booleans()))
    def test_two_deliveries_of_an_event_make_one_invocation_for_each_match(
        self,
        at_once: Interleaving,
        alice: words.Environment,
        job: models.JobVersion,
        order: list[int],
        alone: tuple[bool, bool],
    ) -> None:
        event = name()
        heard = {factory.dispatcher(alice, event, to=factory.to_job(job)) for _ in range(2)}
        record = send(alice, event)

        at_once(order, *(lambda one=one: deliver.deliver([record.id], one_by_one=one) for one in alone))
        delivered(record)

        assert sorted(one.dispatcher_id for one in invocations(record)) == sorted(heard)
        # Who delivered together had both runs with it, who did it alone owes both.
        left = owed(record.id, *(one.id for one in invocations(record)))
        assert sorted((len(left), runs(record))) == [0, 2]

    @in_any_order
    @given(order=ORDERS)
    def test_two_events_for_a_one_shot_dispatcher_leave_one_pending_and_one_superseded(
        self, at_once: Interleaving, alice: words.Environment, order: list[int]
    ) -> None:
        heard = name()
        factory.dispatcher(alice, heard, f"{heard}.*", to=factory.to_url("http://127.0.0.1:1/"), one_shot=True)
        records = [send(alice, heard), send(alice, f"{heard}.too")]

        at_once(order, *(lambda record=record: deliver.deliver([record.id]) for record in records))

        states = [(one.status, len(owed(one.id))) for record in records for one in invocations(record)]
        assert sorted(states) == [("PENDING", 1), ("SKIPPED", 0)]

    @in_any_order
    @given(order=ORDERS, alone=st.tuples(st.booleans(), st.booleans()))
    def test_two_workers_on_an_invocation_make_its_run_once(
        self,
        at_once: Interleaving,
        alice: words.Environment,
        job: models.JobVersion,
        order: list[int],
        alone: tuple[bool, bool],
    ) -> None:
        event = name()
        factory.dispatcher(alice, event, to=factory.to_job(job))
        record = send(alice, event)
        [one] = delivered(record)

        at_once(order, *(lambda how=how: invoke.invoke([one], one_by_one=how) for how in alone))

        [ended] = invocations(record)
        assert (ended.status, ended.attempts, runs(record), owed(one)) == ("SUCCEEDED", 1, 1, [])

    @in_any_order
    @given(order=ORDERS)
    def test_two_workers_on_a_call_make_it_once(
        self, at_once: Interleaving, alice: words.Environment, order: list[int]
    ) -> None:
        event = name()
        with Receiver() as target:
            factory.dispatcher(alice, event, to=factory.to_url(target.url))
            record = send(alice, event)
            [one] = deliver.deliver([record.id])["post"]

            at_once(order, *[lambda: post.post([one])] * 2)

            [ended] = invocations(record)
            assert (ended.status, ended.attempts, len(target.calls), owed(one)) == ("SUCCEEDED", 1, 1, [])


class TestRedrive:
    """A dead letter of a one-shot dispatcher, which its next event and its redrive may want at once."""

    @pytest.fixture
    def dead(self, alice: words.Environment) -> Callable[[str], uuid.UUID]:
        """Makes a dead invocation for a one-shot dispatcher that hears this name."""

        def die(heard: str) -> uuid.UUID:
            factory.dispatcher(alice, heard, f"{heard}.*", to=factory.to_url("nowhere"), one_shot=True)
            [one] = deliver.deliver([send(alice, heard).id])["post"]
            post.post([one])
            return one

        return die

    @in_any_order
    @given(order=ORDERS)
    def test_of_a_redrive_and_a_new_event_one_is_pending(
        self, at_once: Interleaving, alice: words.Environment, dead: Callable[[str], uuid.UUID], order: list[int]
    ) -> None:
        heard = name()
        one = dead(heard)
        record = send(alice, f"{heard}.too")

        redriven, _ = at_once(order, lambda: redriving(alice, one), lambda: deliver.deliver([record.id]))

        [made] = invocations(record)
        assert {redriven, made.status == "PENDING"} == {True, False}
        assert len(owed(one, made.id)) == 1

    @in_any_order
    @given(order=ORDERS)
    def test_two_redrives_of_a_dead_letter_owe_it_once(
        self, at_once: Interleaving, alice: words.Environment, dead: Callable[[str], uuid.UUID], order: list[int]
    ) -> None:
        one = dead(name())

        assert sorted(at_once(order, *[lambda: redriving(alice, one)] * 2)) == [False, True]
        assert len(owed(one)) == 1

    @in_any_order
    @given(order=ORDERS)
    def test_of_a_redrive_and_retention_the_first_has_it(
        self, at_once: Interleaving, alice: words.Environment, dead: Callable[[str], uuid.UUID], order: list[int]
    ) -> None:
        one = dead(name())
        with db.unit():
            db.run("UPDATE event_records SET created_at = now() - interval '100 days'")
            db.run("UPDATE invocations SET died_at = now() - interval '100 days' WHERE died_at IS NOT NULL")

        redriven, deleted = at_once(order, lambda: redriving(alice, one), retaining)

        with db.unit():
            left = [found.id for found in models.Invocation.select().where(models.Invocation.id == one)]
        assert (left, deleted) == (([one], 0) if redriven else ([], 1))
        assert len(owed(one)) == len(left)


def retaining() -> int:
    """Delete what is over; returns how many events that were."""
    with db.unit():
        return retain.Retention(timedelta(days=30), timedelta(days=90)).advance(1)


def redriving(environment: words.Environment, invocation: uuid.UUID) -> bool:
    """Redrive a dead invocation; whether that was possible."""
    with db.unit():
        try:
            # In a transaction, as a step of many is.
            with db.atomic():
                redrive.redrive_invocation(environment, str(invocation))
        except (errors.Conflict, errors.NotFound):
            return False
    return True


class TestRulesAgainstInvoke:
    """A dispatcher that ends while an invocation of it is carried out."""

    @pytest.mark.parametrize("alone", [False, True], ids=["together", "alone"])
    @pytest.mark.parametrize(
        ("ending", "reasons"),
        [
            ("disabled", {"the dispatcher is disabled"}),
            ("expired", {"the dispatcher has expired"}),
            ("swept", {"the dispatcher has expired", "the dispatcher was deleted"}),
            ("deleted", {"the dispatcher was deleted"}),
        ],
    )
    @in_any_order
    @given(order=ORDERS)
    def test_one_that_ended_before_the_invocation_was_taken_has_no_run_and_one_that_did_not_has_one(
        self,
        at_once: Interleaving,
        alice: words.Environment,
        job: models.JobVersion,
        alone: bool,
        ending: str,
        reasons: set[str],
        order: list[int],
    ) -> None:
        event = name()
        dispatcher = factory.dispatcher(alice, event, to=factory.to_job(job))
        record = send(alice, event)
        [one] = delivered(record)

        def ender() -> tuple[bool, bool]:
            before = is_taken(one)
            end(alice, dispatcher, ending)
            return before, is_taken(one)

        (before, after), _ = at_once(order, ender, lambda: invoke.invoke([one], one_by_one=alone))

        [ended] = invocations(record)
        outcome = (ended.status, ended.reason in reasons, runs(record))
        assert outcome in {("SKIPPED", True, 0), ("SUCCEEDED", False, 1)}
        assert not before or ended.status == "SUCCEEDED"
        assert after or ended.status == "SKIPPED"
        assert (ended.attempts, owed(one)) == (1, [])

    @pytest.mark.parametrize("ending", ["disabled", "swept", "deleted"])
    @in_any_order
    @given(order=ORDERS)
    def test_an_event_is_stamped_delivered_only_with_an_invocation(
        self, at_once: Interleaving, alice: words.Environment, job: models.JobVersion, ending: str, order: list[int]
    ) -> None:
        event = name()
        dispatcher = factory.dispatcher(alice, event, to=factory.to_job(job))
        record = send(alice, event)

        at_once(order, lambda: end(alice, dispatcher, ending), lambda: deliver.deliver([record.id]))

        made = invocations(record)
        assert (stored(record).delivered_at is not None) == (len(made) == 1)
        assert owed(record.id) == []
        # Its run is there with it, or still to come.
        assert len(made) == runs(record) + len(owed(*(one.id for one in made)))

    @in_any_order
    @given(order=ORDERS)
    def test_a_job_that_is_deleted_meanwhile_leaves_its_event_delivered_and_no_run_of_it(
        self, at_once: Interleaving, alice: words.Environment, order: list[int]
    ) -> None:
        event = name()
        job = factory.job(alice, event)
        factory.dispatcher(alice, event, to=factory.to_job(job))
        record = send(alice, event)

        def delete() -> None:
            with db.unit():
                db.run("DELETE FROM jobs WHERE id = %s", (job.job_id,))

        at_once(order, delete, lambda: deliver.deliver([record.id]))

        [made] = invocations(record)
        # With the job go its runs, whenever they were made.
        assert (made.status, len(owed(made.id)), runs(record)) in {("SUCCEEDED", 0, 0), ("PENDING", 1, 0)}


class TestOrderOfLocks:
    """Rows of the outbox are locked by id, however they lie in the table and whoever locks several."""

    def test_hints_that_were_not_published_are_set_back_in_the_order_of_their_ids(self, at_once: Interleaving) -> None:
        low, high = sorted(uuid.uuid4() for _ in "12")
        with db.unit():
            for one in (high, low):
                db.run(
                    "INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, hints)"
                    " VALUES (%s, 'deliver', %s, now(), now(), 3)",
                    (one, one),
                )

        def unhinter() -> None:
            with db.unit(), db.atomic():
                outbox.unhint([high, low])

        at_once([0, 0, 1, 1, 1], lambda: lock_in_order(low, high), unhinter)

        assert [row.hints for row in owed(low, high)] == [2, 2]

    def test_what_a_cancelled_event_owes_is_taken_back_in_the_order_of_the_ids(
        self, at_once: Interleaving, alice: words.Environment
    ) -> None:
        event = name()
        for path in "12":
            factory.dispatcher(alice, event, to=factory.to_url(f"http://127.0.0.1:1/{path}"))
        record = send(alice, event)
        high, last = sorted(deliver.deliver([record.id])["post"])
        low = uuid.UUID(int=1)
        with db.unit():
            # The lower one lies behind the other.
            db.run("UPDATE invocations SET id = %s WHERE id = %s", (low, last))
            db.run("UPDATE outbox SET subject_id = %s WHERE subject_id = %s", (low, last))

        at_once([0, 0, 1, 1, 1], lambda: lock_in_order(low, high), lambda: cancelled(alice, event))

        assert {one.status for one in invocations(record)} == {"CANCELED"}
        assert owed(low, high) == []


def lock_in_order(*ids: uuid.UUID) -> None:
    """Lock rows of the outbox one after the other, in one transaction."""
    with db.unit(), db.atomic():
        for one in ids:
            db.run("SELECT FROM outbox WHERE subject_id = %s FOR UPDATE", (one,))


def is_taken(invocation: uuid.UUID) -> bool:
    """Whether somebody has carried it out, or holds its row in a transaction that is still open."""
    with db.unit():
        return not db.rows("SELECT FROM outbox WHERE subject_id = %s FOR UPDATE SKIP LOCKED", (invocation,))


def end(environment: words.Environment, dispatcher: uuid.UUID, how: str) -> None:
    """Make a dispatcher end: disabled, expired (and swept away), or deleted."""
    with db.unit():
        if how == "disabled":
            dispatchers.update_event_dispatcher(environment, str(dispatcher), schemas.DispatcherChange(enabled=False))
        elif how == "deleted":
            dispatchers.delete_event_dispatcher(environment, str(dispatcher))
        else:
            db.run("UPDATE event_dispatchers SET expires_at = now() - interval '1 s' WHERE id = %s", (dispatcher,))
            if how == "swept":
                expire.expire_dispatchers()
