"""When a receiver is slow, full, or down: limits that hold over all workers, rests, circuits, and the end of a target."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from kongflow_events import circuits, models, notices, schemas, settings, vault, words
from kongflow_events.services import deliver, dispatchers, explain, ingest, post, redrive, replay
from kongflow_events.services.relay import Relay
from kongflow_events.store import db, outbox, posts, replays
from tests import factory, receiver
from tests.plans import rows_read
from tests.queues import Queue
from tests.receiver import Receiver
from tests.stepping import Interleaving, halting

pytestmark = pytest.mark.usefixtures("store")

LEASE = 60.0
NOWHERE = "http://127.0.0.1:1/hook"


@pytest.fixture
def alice() -> words.Environment:
    return factory.environment("alice")


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets settings for the test."""

    def set_(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"KONGFLOW_{name.upper()}", str(value))
        settings.current.cache_clear()

    yield set_
    monkeypatch.undo()
    settings.current.cache_clear()


@pytest.fixture
def interleaved(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interleaving]:
    with halting(monkeypatch):
        interleaving = Interleaving(store)
        yield interleaving
        interleaving.close()


class Target:
    """A webhook with events that wait for it, one invocation each, oldest first."""

    def __init__(self, environment: words.Environment, url: str, **wishes: Any) -> None:
        self.environment = environment
        self.name = f"to.{uuid.uuid4().hex}"
        to = {"type": words.WEBHOOK, "url": url, **wishes}
        self.id = factory.dispatcher(environment, self.name, to=to)
        with db.unit():
            vault.keep(self.id, "hmac", None)

    def deliver(self, number: int = 1) -> list[uuid.UUID]:
        """Send events and deliver them; returns the invocations, whether they are hinted or not."""
        with db.unit():
            records = [ingest.ingest_send_event(self.environment, factory.event(self.name)).id for _ in range(number)]
        deliver.deliver(records)
        with db.unit():
            invocations = models.Invocation.select().where(models.Invocation.event_record_id.in_(records))
            made = [row.id for row in invocations.order_by(models.Invocation.id)]
            db.run("UPDATE outbox SET hint_at = due_at WHERE subject_id = ANY(%s)", (made,))
            return made

    def row(self) -> models.Target:
        with db.unit():
            return models.Target.get_by_id(self.id)

    def shown(self) -> schemas.Dispatcher:
        """The dispatcher as the API shows it."""
        with db.unit():
            listed = dispatchers.get_event_dispatcher(self.environment, str(self.id))
            assert listed.standing is not None
            target = schemas.target(listed.standing, rests=listed.rests, paused_at=listed.paused_at)
            return schemas.dispatcher(listed.row, listed.names, listed.account, target=target)

    def age(self, time: str) -> None:
        """Let time pass for the target and for what waits for it."""
        with db.unit():
            db.run(
                """UPDATE targets SET rests_until = rests_until - %(time)s::interval,
                          opened_at = opened_at - %(time)s::interval, failing_since = failing_since - %(time)s::interval,
                          held_until = held_until - %(time)s::interval, paced_until = paced_until - %(time)s::interval
                    WHERE dispatcher_id = %(id)s""",
                {"time": time, "id": self.id},
            )
            db.run(
                """UPDATE outbox SET due_at = due_at - %(time)s::interval, hint_at = hint_at - %(time)s::interval,
                          lease_until = lease_until - %(time)s::interval WHERE lane = %(id)s""",
                {"time": time, "id": self.id},
            )


def claim(invocation_id: uuid.UUID, most: int = 4) -> posts.Claimed | None:
    with db.unit():
        return posts.claim(invocation_id, LEASE, most)


def claimed(*ids: uuid.UUID, most: int = 4) -> list[posts.Claimed]:
    return [found for one in ids if (found := claim(one, most)) is not None]


def state(invocation_id: uuid.UUID) -> tuple[str, str | None, int]:
    with db.unit():
        row = models.Invocation.get_by_id(invocation_id)
        return row.status, row.reason, row.attempts


def owed(invocation_id: uuid.UUID) -> models.Outbox:
    with db.unit():
        return models.Outbox.get_by_id(invocation_id)


def records(name: str) -> list[models.EventRecord]:
    with db.unit():
        return list(models.EventRecord.select().where(models.EventRecord.name == name))


def hinted() -> list[uuid.UUID]:
    """What a relay hints in one round."""
    queue = Queue()
    Relay(queue, batch=100, high_water=500, places=4).tick()
    return queue.hinted


class TestConcurrency:
    def test_a_target_gets_as_many_calls_at_once_as_the_setting_says_and_the_others_keep_their_place(
        self, alice: words.Environment
    ) -> None:
        waiting = Target(alice, NOWHERE).deliver(6)

        taken = claimed(*waiting, most=4)

        assert [one.id for one in taken] == waiting[:4]
        for one in waiting[4:]:
            row = owed(one)
            assert (row.attempts, row.token, row.lease_until, row.hint_at) == (0, None, None, row.due_at)

    def test_a_target_may_say_how_many_it_takes(self, alice: words.Environment) -> None:
        waiting = Target(alice, NOWHERE, maxConcurrency=2).deliver(5)

        assert len(claimed(*waiting, most=4)) == 2

    def test_a_target_that_wants_more_than_the_service_makes_gets_what_the_service_makes(
        self, alice: words.Environment
    ) -> None:
        waiting = Target(alice, NOWHERE, maxConcurrency=100).deliver(6)

        assert len(claimed(*waiting, most=4)) == 4

    @pytest.mark.parametrize(("failures", "places"), [(0, 4), (1, 2), (2, 1), (3, 1), (100, 1)])
    def test_a_target_whose_calls_fail_gets_fewer_at_once_and_one_at_least(
        self, alice: words.Environment, failures: int, places: int
    ) -> None:
        target = Target(alice, NOWHERE)
        waiting = target.deliver(6)
        [first] = claimed(waiting[0])
        with db.unit():
            posts.finish(first, "SUCCEEDED", None, None)
            db.run("UPDATE targets SET failures = %s WHERE dispatcher_id = %s", (failures, target.id))

        assert len(claimed(*waiting[1:], most=4)) == places

    def test_after_a_success_a_target_has_all_of_its_places_again(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(500), receiver.status(200)) as hook:
            target = Target(alice, hook.url)
            failed, succeeds, *others = target.deliver(6)
            post.post([failed])
            post.post([succeeds])

        assert len(claimed(*others, most=4)) == 4

    def test_a_one_shot_dispatcher_has_no_standing_to_keep(self, alice: words.Environment) -> None:
        factory.dispatcher(alice, to=factory.to_url(NOWHERE), one_shot=True)
        with db.unit():
            record = ingest.ingest_send_event(alice, factory.event())
        [made] = deliver.deliver([record.id])["post"]

        [taken] = claimed(made)

        assert not taken.limited
        with db.unit():
            assert models.Target.select().count() == 0

    def test_a_place_is_free_when_its_call_has_ended_whatever_the_end(self, alice: words.Environment) -> None:
        waiting = Target(alice, NOWHERE).deliver(3)
        [first] = claimed(*waiting[:2], most=1)
        with db.unit():
            posts.finish(first, "SUCCEEDED", None, posts.Attempt(1, "succeeded", 1, 200))
        [second] = claimed(waiting[1], most=1)
        with db.unit():
            posts.postpone(second, 60, posts.Attempt(1, "refused", 1, 500))

        assert len(claimed(waiting[2], most=1)) == 1

    def test_the_place_of_a_worker_that_died_is_free_when_its_lease_is_over(self, alice: words.Environment) -> None:
        target = Target(alice, NOWHERE)
        dead, waiting = target.deliver(2)
        assert claim(dead, 1)
        assert claim(waiting, 1) is None

        target.age("61 seconds")

        assert claim(waiting, 1)
        assert target.row().calls == [waiting]

    def test_targets_do_not_share_their_places(self, alice: words.Environment) -> None:
        full, free = Target(alice, NOWHERE), Target(alice, NOWHERE)
        claimed(*full.deliver(2), most=1)

        assert len(claimed(*free.deliver(2), most=1)) == 1

    @budget(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(order=st.lists(st.integers(0, 3), max_size=16), most=st.integers(1, 3))
    def test_in_whatever_order_workers_claim_no_more_are_let_in_than_there_are_places(
        self, alice: words.Environment, interleaved: Interleaving, order: list[int], most: int
    ) -> None:
        waiting = Target(alice, NOWHERE).deliver(4)

        def taking(one: uuid.UUID) -> Callable[[], posts.Claimed | None]:
            def work() -> posts.Claimed | None:
                with db.unit(), db.atomic():
                    return posts.claim(one, LEASE, most)

            return work

        taken = interleaved(order, *map(taking, waiting))

        assert sum(one is not None for one in taken) == most

    def test_many_workers_at_once_never_call_it_more_often_than_it_takes_and_everything_is_called(
        self, alice: words.Environment
    ) -> None:
        inside, seen, lock = 0, [], threading.Lock()
        together = threading.Barrier(3)

        def answer(handler: Any) -> None:
            nonlocal inside
            with lock:
                inside += 1
                seen.append(inside)
            if len(seen) <= 3:
                # The first three are there at the same time, so that the limit is reached.
                together.wait(30)
            with lock:
                inside -= 1
            receiver.status(200)(handler)

        with Receiver(answer) as hook, ThreadPoolExecutor(8) as workers:
            left = Target(alice, hook.url, maxConcurrency=3).deliver(30)
            while left:
                list(workers.map(lambda one: post.post([one]), left))
                with db.unit():
                    left = [row.subject_id for row in models.Outbox.select()]

        assert (max(seen), len(seen)) == (3, 30)


class TestWhatIsHinted:
    def test_the_end_of_a_call_hints_the_one_that_has_waited_longest(self, alice: words.Environment) -> None:
        with Receiver() as hook:
            target = Target(alice, hook.url)
            first, second, third = target.deliver(3)

            assert post.post([first]) == {"post": [second]}
            assert post.post([second]) == {"post": [third]}
            assert post.post([third]) == {"post": []}

    def test_who_goes_on_calls_the_next_of_the_target_himself(self, alice: words.Environment) -> None:
        turns = iter([True, False])
        with Receiver() as hook:
            waiting = Target(alice, hook.url).deliver(4)

            assert post.post(waiting[:1], lambda: next(turns)) == {"post": [waiting[2]]}
            assert [call.headers["webhook-id"] for call in hook.calls] == [str(one) for one in waiting[:2]]

    def test_what_goes_wrong_with_the_next_is_not_said_of_the_one_that_was_asked_for(
        self, alice: words.Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Receiver() as hook:
            first, second = Target(alice, hook.url).deliver(2)
            claim = posts.claim

            def claims(invocation_id: uuid.UUID, *rest: Any) -> posts.Claimed | None:
                if invocation_id == second:
                    raise ZeroDivisionError
                return claim(invocation_id, *rest)

            monkeypatch.setattr(posts, "claim", claims)
            assert post.post([first], lambda: True) == {"post": []}

        assert state(first)[0] == "SUCCEEDED"

    def test_the_relay_leaves_a_target_alone_that_has_no_place_until_a_moment_later(
        self, alice: words.Environment
    ) -> None:
        full, free = Target(alice, NOWHERE, maxConcurrency=1), Target(alice, NOWHERE)
        claimed(*full.deliver(2))
        others = free.deliver(2)

        assert sorted(hinted()) == others
        full.age("2 seconds")
        assert len(hinted()) == 1

    def test_the_relay_hints_no_more_of_a_target_in_one_round_than_it_takes_at_once(
        self, alice: words.Environment
    ) -> None:
        busy, quiet = Target(alice, NOWHERE), Target(alice, NOWHERE)
        waiting, other = busy.deliver(20), quiet.deliver(1)

        first = hinted()

        assert sorted(first) == sorted(waiting[:4] + other)
        assert sorted(hinted()) == waiting[4:8]

    def test_what_waits_for_a_target_that_rests_is_not_touched(self, alice: words.Environment) -> None:
        target = Target(alice, NOWHERE)
        waiting = target.deliver(50)
        claimed(waiting[0])
        with db.unit():
            db.run("UPDATE targets SET rests_until = now() + interval '1 hour'")
            before = db.rows("SELECT subject_id, xmin, hint_at FROM outbox ORDER BY subject_id")

        assert hinted() == []
        with db.unit():
            assert db.rows("SELECT subject_id, xmin, hint_at FROM outbox ORDER BY subject_id") == before

    def test_an_event_for_a_target_that_rests_is_not_hinted_by_those_who_deliver_it(
        self, alice: words.Environment
    ) -> None:
        target = Target(alice, NOWHERE)
        claimed(*target.deliver(1))
        with db.unit():
            db.run("UPDATE targets SET rests_until = now() + interval '1 hour'")
            record = ingest.ingest_send_event(alice, factory.event(target.name))

        assert deliver.deliver([record.id])["post"] == []
        with db.unit():
            assert models.Outbox.select().where(models.Outbox.lane == target.id).count() == 2

    def test_nothing_is_hinted_after_a_call_whose_target_rests(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(503, Retry_After="60")) as hook:
            first, _ = Target(alice, hook.url).deliver(2)

            assert post.post([first]) == {"post": []}


class TestWhatALookReads:
    """However much waits for a target that takes nothing."""

    @pytest.fixture
    def crowded(self, alice: words.Environment) -> tuple[Target, list[uuid.UUID]]:
        """30,000 rows that wait for a target that rests, and five for one that does not."""
        crowd, few = Target(alice, NOWHERE), Target(alice, NOWHERE)
        claimed(*crowd.deliver(1))
        with db.unit():
            db.run("UPDATE targets SET rests_until = now() + interval '1 hour'")
            db.run(
                """INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
                   SELECT gen_random_uuid(), 'post', %s, now(), now() FROM generate_series(1, 30000)""",
                (crowd.id,),
            )
        waiting = few.deliver(5)
        with db.unit():
            db.run("ANALYZE outbox")
        return few, waiting

    @pytest.mark.parametrize("statement", [outbox._WAITING.sql, outbox._HINT_TARGETS, outbox._HINT_NEXT.sql])
    def test_a_look_reads_a_few_rows(self, crowded: tuple[Target, list[uuid.UUID]], statement: str) -> None:
        few, _ = crowded
        asked = {"kinds": ["deliver"], "since": "-infinity", "after": outbox.FIRST_LANE, "bite": 4, "limit": 50}
        with db.unit():
            [explained] = db.rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", {**asked, "lane": few.id})

        assert rows_read(explained["QUERY PLAN"][0]["Plan"])["outbox"] < 50

    def test_the_plan_that_is_kept_reads_as_few(self, crowded: tuple[Target, list[uuid.UUID]]) -> None:
        few, _ = crowded
        with db.unit():
            # Statistics of a moment at which all that waits is one target's.
            db.run("DELETE FROM outbox WHERE lane = %s", (few.id,))
            db.run("ANALYZE outbox")
            db.run("SET plan_cache_mode = force_generic_plan")
            [explained] = db.rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {outbox._HINT_NEXT.planned()}", {"lane": few.id})
            db.run("RESET plan_cache_mode")

        assert rows_read(explained["QUERY PLAN"][0]["Plan"])["outbox"] < 50

    def test_what_waits_elsewhere_is_hinted_as_ever(self, crowded: tuple[Target, list[uuid.UUID]]) -> None:
        assert sorted(hinted()) == crowded[1][:4]


class TestShare:
    def test_an_environment_that_has_its_share_is_let_in_no_more_and_uses_up_nothing(
        self, alice: words.Environment
    ) -> None:
        target = Target(alice, NOWHERE)
        [first] = target.deliver(1)

        with db.unit():
            assert posts.claim(first, 30, 4, [alice.id]) is None
        assert (owed(first).attempts, owed(first).hint_at) == (0, owed(first).due_at)
        assert hinted() == []
        with db.unit():
            assert posts.claim(first, 30, 4, [uuid.uuid4()])

    def test_a_call_that_has_no_target_to_rest_waits_a_second(self, alice: words.Environment) -> None:
        with db.unit():
            one_shot = factory.dispatcher(alice, to=factory.to_url(NOWHERE), one_shot=True)
            record = ingest.ingest_send_event(alice, factory.event())
            [waiting] = deliver.deliver([record.id])["post"]
            assert posts.claim(waiting, 30, 4, [alice.id]) is None
            row = owed(waiting)
            assert row.hint_at > row.due_at
            assert posts.claim(waiting, 30, 4)
            assert one_shot


class TestRate:
    def test_calls_take_their_turns_at_the_rate_that_the_target_asks_for(self, alice: words.Environment) -> None:
        target = Target(alice, NOWHERE, rateLimit=1)

        taken = claimed(*target.deliver(5), most=100)

        waits = [one.wait for one in taken]
        assert waits[0] == 0
        # Turns are a second apart, whenever they were given; a worker waits for a near one only.
        assert all(wait <= posts.PATIENCE for wait in waits)
        assert len(taken) < 5

    def test_a_turn_that_is_far_off_is_not_waited_for_and_costs_no_attempt(self, alice: words.Environment) -> None:
        target = Target(alice, NOWHERE, rateLimit=1)
        first, second = target.deliver(2)

        assert claim(first)
        assert claim(second) is None
        assert (owed(second).attempts, owed(second).hint_at) == (0, owed(second).due_at)
        assert hinted() == []
        target.age("1 second")
        assert claim(second)

    def test_a_target_that_was_not_called_for_long_gets_no_burst(self, alice: words.Environment) -> None:
        target = Target(alice, NOWHERE, rateLimit=2)
        waiting = target.deliver(3)
        assert claim(waiting[0])
        target.age("1 hour")

        assert len(claimed(*waiting[1:])) == 1

    @budget(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(order=st.lists(st.integers(0, 3), max_size=16))
    def test_in_whatever_order_workers_claim_no_turn_is_given_twice(
        self, alice: words.Environment, interleaved: Interleaving, order: list[int]
    ) -> None:
        target = Target(alice, NOWHERE, rateLimit=1000)
        turns: list[Any] = []

        def taking(one: uuid.UUID) -> Callable[[], None]:
            def work() -> None:
                with db.unit(), db.atomic():
                    assert posts.claim(one, LEASE, 100)
                    [row] = db.rows("SELECT paced_until FROM targets WHERE dispatcher_id = %s", (target.id,))
                    turns.append(row["paced_until"])

            return work

        interleaved(order, *map(taking, target.deliver(4)))

        assert all((later - earlier).total_seconds() >= 0.001 for earlier, later in pairwise(sorted(turns)))

    def test_calls_reach_the_receiver_no_faster_than_it_asks_for(self, alice: words.Environment) -> None:
        with Receiver() as hook, ThreadPoolExecutor(4) as workers:
            left = Target(alice, hook.url, rateLimit=20).deliver(8)
            [started] = _clock()
            while left:
                list(workers.map(lambda one: post.post([one]), left))
                with db.unit():
                    left = [row.subject_id for row in models.Outbox.select()]
            [ended] = _clock()

        assert len(hook.calls) == 8
        # Seven pauses of a twentieth of a second lie between eight calls.
        assert (ended - started).total_seconds() >= 7 / 20


class TestRests:
    @pytest.mark.parametrize("status", [429, 503])
    def test_a_receiver_that_asks_to_be_left_alone_is_and_what_waits_uses_no_attempts(
        self, alice: words.Environment, status: int
    ) -> None:
        with Receiver(receiver.status(status, Retry_After="120"), receiver.status(200)) as hook:
            target = Target(alice, hook.url)
            first, second = target.deliver(2)
            post.post([first])
            post.post([second])

            assert len(hook.calls) == 1
            assert (owed(first).attempts, owed(second).attempts) == (1, 0)
            assert target.shown().target.resumes_at is not None
            assert target.shown().target.state == "closed"
            target.age("121 seconds")
            post.post([second, first])

        assert [state(one) for one in (first, second)] == [("SUCCEEDED", None, 2), ("SUCCEEDED", None, 1)]

    def test_a_wish_with_another_answer_is_about_that_call_alone(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(500, Retry_After="120"), receiver.status(200)) as hook:
            first, second = Target(alice, hook.url).deliver(2)
            post.post([first, second])

        assert state(second)[0] == "SUCCEEDED"

    def test_a_redirect_is_a_failure(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(302, Location=NOWHERE)) as hook:
            target = Target(alice, hook.url)
            post.post(target.deliver(1))

        assert target.row().failures == 1


class TestCircuit:
    @pytest.fixture
    def failing(self, alice: words.Environment) -> Iterator[tuple[Target, Receiver]]:
        """A target whose circuit has opened."""
        with Receiver(receiver.status(500)) as hook:
            target = Target(alice, hook.url)
            for one in target.deliver(4):
                post.post([one])
            target.age("10 seconds")
            post.post(target.deliver(1))
            yield target, hook

    def test_five_failures_in_a_row_open_it(self, failing: tuple[Target, Receiver]) -> None:
        target, _ = failing

        shown = target.shown().target
        assert shown is not None
        assert (shown.state, shown.consecutive_failures) == ("open", 5)
        assert shown.opened_at is not None
        assert shown.resumes_at is not None

    def test_while_it_is_open_nothing_is_called_and_nothing_dies(self, failing: tuple[Target, Receiver]) -> None:
        target, hook = failing
        waiting = target.deliver(20)
        before = len(hook.calls)

        for _ in range(12):
            post.post(waiting)

        assert len(hook.calls) == before
        assert {state(one) for one in waiting} == {("PENDING", None, 0)}
        assert hinted() == []

    def test_after_the_pause_one_call_is_let_in_and_a_success_closes_it(self, failing: tuple[Target, Receiver]) -> None:
        target, hook = failing
        waiting = target.deliver(3)
        target.age("13 seconds")
        hook.answers = [receiver.status(200)]
        [probe] = claimed(*waiting)

        assert target.shown().target.state == "halfOpen"
        assert hinted() == []
        with db.unit():
            db.run("UPDATE outbox SET lease_until = NULL, token = NULL")
        post.post(waiting)
        assert target.shown().target.state == "closed"
        assert target.row().held_until is None
        assert {state(one)[0] for one in waiting} == {"SUCCEEDED"}
        assert probe.id == waiting[0]

    def test_a_probe_that_fails_begins_a_longer_pause_and_the_others_wait_on(
        self, failing: tuple[Target, Receiver]
    ) -> None:
        target, hook = failing
        waiting = target.deliver(3)
        target.age("13 seconds")
        before = len(hook.calls)
        post.post(waiting)

        assert len(hook.calls) == before + 1
        assert [state(one)[2] for one in waiting] == [1, 0, 0]
        target.age("15 seconds")
        assert target.shown().target.state == "open"
        target.age("10 seconds")
        assert target.shown().target.state == "halfOpen"

    def test_a_probe_whose_worker_dies_is_followed_by_another(self, failing: tuple[Target, Receiver]) -> None:
        target, _ = failing
        first, second = target.deliver(2)
        target.age("13 seconds")
        assert claim(first)
        assert claim(second) is None

        target.age("61 seconds")

        assert claim(second)
        assert claim(first) is None

    @budget(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(order=st.lists(st.integers(0, 2), max_size=12))
    def test_in_whatever_order_workers_claim_there_is_one_probe(
        self, failing: tuple[Target, Receiver], interleaved: Interleaving, order: list[int]
    ) -> None:
        target, _ = failing
        waiting = target.deliver(3)
        target.age("1 hour")

        def taking(one: uuid.UUID) -> Callable[[], posts.Claimed | None]:
            def work() -> posts.Claimed | None:
                with db.unit(), db.atomic():
                    return posts.claim(one, LEASE, 4)

            return work

        taken = interleaved(order, *map(taking, waiting))

        assert sum(one is not None for one in taken) == 1

    def test_a_dispatcher_that_is_enabled_again_begins_anew(self, failing: tuple[Target, Receiver]) -> None:
        target, _ = failing
        with db.unit():
            dispatchers.update_event_dispatcher(
                target.environment, str(target.id), schemas.DispatcherChange(enabled=True)
            )

        assert target.shown().target == schemas.target(circuits.Standing(), rests=False, paused_at=None)
        assert len(claimed(*target.deliver(4))) == 4

    def test_a_success_among_failures_begins_the_count_anew(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(500), receiver.status(500), receiver.status(200)) as hook:
            target = Target(alice, hook.url)
            for one in target.deliver(2):
                post.post([one])
            assert target.row().failures == 2
            post.post(target.deliver(1))

        assert target.row().failures == 0

    def test_what_is_not_the_receivers_fault_is_not_held_against_it(self, alice: words.Environment) -> None:
        target = Target(alice, "nonsense")
        [made] = target.deliver(1)
        post.post([made])

        assert state(made)[0] == "DEAD"
        assert target.row().failures == 0

    def test_calls_that_end_at_once_are_all_counted(self, alice: words.Environment, rules: Callable[..., None]) -> None:
        rules(target_concurrency=8)
        together = threading.Barrier(8)

        def refuse(handler: BaseHTTPRequestHandler) -> None:
            together.wait(10)
            receiver.status(500)(handler)

        with Receiver(refuse) as hook, ThreadPoolExecutor(8) as workers:
            target = Target(alice, hook.url)
            list(workers.map(lambda one: post.post([one]), target.deliver(8)))

        assert target.row().failures == 8


class TestTheEnd:
    def test_a_410_disables_the_webhook_and_what_waits_is_skipped(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(410)) as hook:
            target = Target(alice, hook.url)
            waiting = target.deliver(3)
            following = post.post(waiting[:1])
            post.post(waiting)

        shown = target.shown()
        assert not shown.enabled
        assert shown.target is not None
        assert (shown.target.state, shown.target.disabled_reason) == ("disabled", "the target answered 410")
        assert len(hook.calls) == 1
        assert [state(one) for one in waiting] == [
            ("DEAD", "the target answered 410", 1),
            ("SKIPPED", "the dispatcher is disabled", 1),
            ("SKIPPED", "the dispatcher is disabled", 1),
        ]
        assert following == {"post": [waiting[1]]}

    def test_what_a_410_refused_can_be_redriven_once_the_webhook_is_enabled(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(410), receiver.status(200)) as hook:
            target = Target(alice, hook.url)
            [refused] = target.deliver(1)
            post.post([refused])
            with db.unit():
                change = schemas.DispatcherChange(enabled=True)
                dispatchers.update_event_dispatcher(alice, str(target.id), change)
                redrive.redrive_invocation(alice, str(refused))
            post.post([refused])

        assert state(refused)[0] == "SUCCEEDED"
        assert target.shown().target.disabled_at is None

    def test_a_410_of_a_receiver_that_waits_for_one_event_is_an_ordinary_refusal(
        self, alice: words.Environment
    ) -> None:
        with Receiver(receiver.status(410)) as hook:
            one_shot = factory.dispatcher(alice, to=factory.to_url(hook.url), one_shot=True)
            with db.unit():
                record = ingest.ingest_send_event(alice, factory.event())
            [made] = deliver.deliver([record.id])["post"]
            post.post([made])

        assert state(made) == ("PENDING", None, 1)
        with db.unit():
            assert models.EventDispatcher.get_by_id(one_shot).enabled

    @pytest.mark.parametrize(("days", "enabled"), [("5 days", False), ("4 days", True)])
    def test_five_days_of_nothing_but_failures_disable_it(
        self, alice: words.Environment, days: str, enabled: bool
    ) -> None:
        with Receiver(receiver.status(500)) as hook:
            target = Target(alice, hook.url)
            for one in target.deliver(4):
                post.post([one])
            target.age(days)
            [last] = target.deliver(1)
            post.post([last])

        assert target.shown().enabled is enabled
        assert state(last) == ("PENDING", None, 1)

    @budget(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(order=st.lists(st.integers(0, 3), max_size=30), last=st.sampled_from(["enabled", "deleted"]))
    def test_in_whatever_order_it_comes_with_changes_of_the_dispatcher_nobody_waits_in_a_circle(
        self, alice: words.Environment, interleaved: Interleaving, order: list[int], last: str
    ) -> None:
        with Receiver(receiver.status(410)) as hook:
            target = Target(alice, hook.url)
            first, second, third = target.deliver(3)

            def change() -> None:
                with db.unit():
                    if last == "deleted":
                        dispatchers.delete_event_dispatcher(alice, str(target.id))
                    else:
                        change = schemas.DispatcherChange(enabled=True)
                        dispatchers.update_event_dispatcher(alice, str(target.id), change)

            works = [lambda one=one: post.post([one]) for one in (first, second, third)]
            # A deadlock would be an error of one of them.
            interleaved(order, *works, change)

        with db.unit():
            assert not models.Outbox.select().where(models.Outbox.token.is_null(False)).exists()

    def test_a_dispatcher_that_is_deleted_takes_its_standing_with_it(self, alice: words.Environment) -> None:
        target = Target(alice, NOWHERE)
        claimed(*target.deliver(1))
        with db.unit():
            dispatchers.delete_event_dispatcher(alice, str(target.id))
            assert models.Target.select().count() == 0


class TestNotices:
    def listen(self, environment: words.Environment, name: str = "kongflow.**") -> uuid.UUID:
        names = {"kongflow.**": (notices.DISABLED, notices.DEAD)}.get(name, (name,))
        to = factory.to_job(factory.job(environment, uuid.uuid4().hex))
        return factory.dispatcher(environment, *names, to=to, source=words.OWN_SOURCE)

    def heard(self, listener: uuid.UUID) -> list[str]:
        """The names of the events that were delivered to the dispatcher."""
        factory.work()
        with db.unit():
            found = db.rows(
                """SELECT name FROM invocations JOIN event_records ON event_records.id = event_record_id
                    WHERE dispatcher_id = %s ORDER BY invocations.id""",
                (listener,),
            )
            return [row["name"] for row in found]

    def bury(self, target: Target) -> uuid.UUID:
        [made] = target.deliver(1)
        with db.unit():
            db.run("UPDATE outbox SET attempts = 9 WHERE subject_id = %s", (made,))
        post.post([made])
        return made

    def test_the_end_of_a_dispatcher_is_an_event_that_others_hear(self, alice: words.Environment) -> None:
        listener = self.listen(alice)
        with Receiver(receiver.status(410)) as hook:
            target = Target(alice, f"{hook.url}/secret?token=secret")
            post.post(target.deliver(1))

        [told] = records(notices.DISABLED)
        assert (told.internal, told.source, told.environment_id) == (True, "kongflow", alice.id)
        assert told.payload == {
            "dispatcherId": str(target.id),
            "reason": "the target answered 410",
            "target": {"type": "WEBHOOK", "origin": hook.url.removesuffix("/hook")},
        }
        assert sorted(self.heard(listener)) == [notices.DISABLED, notices.DEAD]

    def test_a_dead_letter_is_an_event_that_others_hear(self, alice: words.Environment) -> None:
        listener = self.listen(alice, notices.DEAD)
        with Receiver(receiver.status(500)) as hook:
            target = Target(alice, hook.url)
            buried = self.bury(target)

        [told] = records(notices.DEAD)
        [event] = records(target.name)
        assert told.payload == {
            "invocationId": str(buried),
            "dispatcherId": str(target.id),
            "eventId": event.event_id,
            "eventName": target.name,
            "attempts": 10,
            "reason": "the target answered 500",
            "target": {"type": "WEBHOOK", "origin": hook.url.removesuffix("/hook")},
        }
        assert self.heard(listener) == [notices.DEAD]

    def test_a_job_that_is_missing_is_told_of_too(self, alice: words.Environment) -> None:
        listener = self.listen(alice)
        missing = str(uuid.uuid4())
        factory.dispatcher(alice, to={"type": words.JOB_VERSION, "id": missing})
        with db.unit():
            ingest.ingest_send_event(alice, factory.event())
        factory.work()

        assert self.heard(listener) == [notices.DEAD]
        assert records(notices.DEAD)[0].payload["target"] == {"type": "JOB_VERSION", "id": missing}

    def test_without_a_listener_there_is_no_notice(self, alice: words.Environment) -> None:
        self.listen(factory.environment("bob"))
        with Receiver(receiver.status(410)) as hook:
            post.post(Target(alice, hook.url).deliver(1))

        assert records(notices.DISABLED) == records(notices.DEAD) == []

    def test_a_receiver_of_notices_is_not_told_of_its_own_failures(self, alice: words.Environment) -> None:
        other = self.listen(alice)
        with Receiver(receiver.status(410)) as hook:
            target = Target(alice, hook.url)
            with db.unit():
                change = schemas.DispatcherChange(
                    event=[target.name, notices.DEAD, notices.DISABLED], source="kongflow"
                )
                dispatchers.update_event_dispatcher(alice, str(target.id), change)
                record = ingest.ingest_send_event(alice, factory.event(target.name, source="kongflow"))
            post.post(deliver.deliver([record.id])["post"])
            with db.unit():
                change = schemas.DispatcherChange(enabled=True)
                dispatchers.update_event_dispatcher(alice, str(target.id), change)

        assert sorted(self.heard(other)) == [notices.DISABLED, notices.DEAD]
        assert self.heard(target.id) == [target.name]

    def test_explain_says_so(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(410)) as hook:
            target = Target(alice, hook.url)
            self.listen(alice)
            post.post(target.deliver(1))
        factory.work()
        [told] = records(notices.DISABLED)
        with db.unit():
            change = schemas.DispatcherChange(event=[notices.DISABLED], source="kongflow", enabled=True)
            dispatchers.update_event_dispatcher(alice, str(target.id), change)
            asked = schemas.parse_explain(b'{"eventId": "%s"}' % told.event_id.encode())
            explained = explain.explain_dispatcher(alice, str(target.id), asked)

        assert not explained.matches
        assert [reason.code for reason in explained.reasons] == ["notice"]

    def test_nor_does_a_replay_bring_them(self, alice: words.Environment) -> None:
        other = self.listen(alice)
        with Receiver(receiver.status(410)) as hook:
            target = Target(alice, hook.url)
            post.post(target.deliver(1))
        factory.work()
        with db.unit():
            change = schemas.DispatcherChange(event=[notices.DISABLED], source="kongflow", enabled=True)
            dispatchers.update_event_dispatcher(alice, str(target.id), change)
            replay.start_replay(alice, replays.Wanted(name=notices.DISABLED), 1000)
            assert replay.advance_replays()
            replayed = models.Invocation.select().where(models.Invocation.replay > 0)
            assert [row.dispatcher_id for row in replayed] == [other]

    def test_a_notice_that_dies_is_not_told_of(self, alice: words.Environment) -> None:
        with Receiver(receiver.status(500)) as hook:
            sick, nurse = Target(alice, hook.url), Target(alice, hook.url)
            with db.unit():
                change = schemas.DispatcherChange(event=[notices.DEAD], source="kongflow")
                dispatchers.update_event_dispatcher(alice, str(nurse.id), change)
            self.bury(sick)
            [told] = records(notices.DEAD)
            [to_nurse] = deliver.deliver([told.id])["post"]
            with db.unit():
                db.run("UPDATE outbox SET attempts = 9 WHERE subject_id = %s", (to_nurse,))
            post.post([to_nurse])

        assert state(to_nurse)[0] == "DEAD"
        assert len(records(notices.DEAD)) == 1

    def test_a_notice_is_written_with_what_it_tells_of_or_not_at_all(
        self, alice: words.Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.listen(alice)

        def broken(_lane: uuid.UUID) -> list[uuid.UUID]:
            raise RuntimeError("the last statement of the transaction fails")

        with Receiver(receiver.status(500)) as hook, monkeypatch.context() as patch:
            patch.setattr(outbox, "hint_next", broken)
            with pytest.raises(RuntimeError, match="the last statement"):
                self.bury(Target(alice, hook.url))

        assert records(notices.DEAD) == []


def _clock() -> list[Any]:
    with db.unit():
        return [db.rows("SELECT clock_timestamp() AS now")[0]["now"]]
