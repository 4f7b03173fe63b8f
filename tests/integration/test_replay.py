"""Past events are delivered again: to whom, which ones, once each, whoever carries it on."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kongflow_events import errors, models, schemas, words
from kongflow_events.services import bulk_operations, cancel, deliver, ingest, invoke, replay
from kongflow_events.store import db, replays
from tests import factory

pytestmark = pytest.mark.usefixtures("store")

ALL = replays.Wanted()


@pytest.fixture
def alice() -> words.Environment:
    return factory.environment("alice")


@pytest.fixture
def rule(alice: words.Environment) -> Callable[..., uuid.UUID]:
    """Makes dispatchers that start jobs of their own."""

    def make(*names: str, **columns: Any) -> uuid.UUID:
        return factory.dispatcher(alice, *names, to=factory.to_job(factory.job(alice, uuid.uuid4().hex)), **columns)

    return make


def send(environment: words.Environment, event_id: str, account: str | None = None, **fields: Any) -> uuid.UUID:
    """Send an event and deliver it."""
    options = schemas.SendOptions(account_id=account)
    with db.unit():
        record_id: uuid.UUID = ingest.ingest_send_event(environment, factory.event(id=event_id, **fields), options).id
    deliver.deliver([record_id])
    return record_id


def start(environment: words.Environment, wanted: replays.Wanted = ALL, rate: int = 1000) -> str:
    with db.unit():
        return str(replay.start_replay(environment, wanted, rate).id)


def advance() -> bool:
    with db.unit():
        return replay.advance_replays()


def hurry() -> None:
    with db.unit():
        db.run("UPDATE bulk_operations SET next_at = now()")


def run(environment: words.Environment, wanted: replays.Wanted = ALL, rate: int = 1000) -> models.BulkOperation:
    operation = start(environment, wanted, rate)
    while state(environment, operation).state == "RUNNING":
        assert advance()
        assert state(environment, operation).last_error is None
        hurry()
    return state(environment, operation)


def state(environment: words.Environment, operation: str) -> models.BulkOperation:
    with db.unit():
        return bulk_operations.get_operation(environment, replay.KIND, operation)


def replayed() -> set[tuple[str, uuid.UUID]]:
    """The events (by their sender's id) and dispatchers of all invocations that replays made."""
    with db.unit():
        found = db.rows(
            "SELECT event_id, dispatcher_id FROM invocations JOIN event_records r ON r.id = event_record_id WHERE replay > 0"
        )
    assert len({(row["event_id"], row["dispatcher_id"]) for row in found}) == len(found)
    return {(row["event_id"], row["dispatcher_id"]) for row in found}


def test_every_past_event_reaches_who_wants_it_now(alice: words.Environment, rule: Callable[..., uuid.UUID]) -> None:
    old = rule()
    send(alice, "1")
    send(alice, "unheard", name="unheard")
    new, other = rule(), rule("unheard")
    ended = run(alice)

    assert (ended.state, ended.total, ended.seen, ended.done) == ("DONE", 2, 2, 3)
    assert replayed() == {("1", old), ("1", new), ("unheard", other)}
    with db.unit():
        owed = [row.subject_id for row in models.Outbox.select()]
        assert models.EventRecord.get(event_id="unheard").delivered_at is None
    invoke.invoke(owed)
    with db.unit():
        assert models.JobRun.select().count() == 4


def test_a_second_replay_is_another_one(alice: words.Environment, rule: Callable[..., uuid.UUID]) -> None:
    rule()
    send(alice, "1")
    first, second = run(alice), run(alice)

    with db.unit():
        replays_of = [one.replay for one in models.Invocation.select().order_by(models.Invocation.replay)]
    assert replays_of == [0, first.id, second.id]


def test_named_dispatchers_alone_get_them(alice: words.Environment, rule: Callable[..., uuid.UUID]) -> None:
    rule()
    send(alice, "1")
    late, disabled, deaf = rule(), rule(enabled=False), rule(payload_filter={"a": [1]})
    run(alice, replays.Wanted(dispatchers=[late, disabled, deaf]))

    assert replayed() == {("1", late)}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"1", "2", "3"}),
        ({"name": "order.late"}, {"3"}),
        ({"source": "shop"}, {"2"}),
        ({"account": "acme"}, {"2"}),
        ({"account": "nobody"}, set()),
        ({"payload_filter": {"n": [{"$gt": 1}]}}, {"2", "3"}),
        ({"context_filter": {"eu": [True]}}, {"3"}),
        ({"payload_filter": {"n": [{"$gt": 1}]}, "name": factory.JOB_EVENT}, {"2"}),
        ({"until": timedelta(hours=-1)}, set()),
        ({"since": timedelta(hours=-1), "until": timedelta(hours=1)}, {"1", "2", "3"}),
        ({"since": timedelta(hours=1)}, set()),
    ],
)
def test_events_are_chosen_by_what_is_asked(
    alice: words.Environment, rule: Callable[..., uuid.UUID], wanted: Any, expected: set[str]
) -> None:
    with db.unit():
        now = db.now()
    send(alice, "1", payload='{"n":1}')
    send(alice, "2", payload='{"n":2}', source="shop", account="acme")
    send(alice, "3", payload='{"n":3}', name="order.late", context='{"eu":true}')
    rule("order.*")
    rule("order.*", source="shop")
    run(alice, replays.Wanted(**{k: now + v if isinstance(v, timedelta) else v for k, v in wanted.items()}))

    assert {event_id for event_id, _ in replayed()} == expected


def test_what_is_not_past_is_left_alone(alice: words.Environment, rule: Callable[..., uuid.UUID]) -> None:
    rule()
    send(alice, "cancelled")
    with db.unit():
        cancel.cancel_event(alice, "cancelled")
        ingest.ingest_send_event(alice, factory.event(id="delayed"), schemas.SendOptions(deliver_after=60))
    send(factory.environment("bob"), "bobs")
    operation = start(alice)
    send(alice, "later")
    advance()

    assert (state(alice, operation).total, state(alice, operation).state) == (0, "DONE")
    assert replayed() == set()


def test_a_one_shot_dispatcher_waits_for_new_events_only(
    alice: words.Environment, rule: Callable[..., uuid.UUID]
) -> None:
    send(alice, "1")
    waiting = factory.dispatcher(alice, to=factory.to_url("http://127.0.0.1:9/"), one_shot=True)
    run(alice)
    assert replayed() == set()

    with db.unit(), pytest.raises(errors.Invalid, match="waits for one new event"):
        replay.start_replay(alice, replays.Wanted(dispatchers=[waiting]), 10)


def test_an_event_that_is_cancelled_while_a_step_waits_for_it_is_left_out(
    alice: words.Environment, rule: Callable[..., uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule()
    send(alice, "1")
    operation = start(alice)
    hold = replays.hold

    def cancelled_first(ids: Any) -> set[uuid.UUID]:
        other = threading.Thread(target=lambda: cancel_in_a_unit(alice))
        other.start()
        other.join()
        return hold(ids)

    monkeypatch.setattr(replays, "hold", cancelled_first)
    advance()

    assert state(alice, operation).done == 0
    assert replayed() == set()


def cancel_in_a_unit(environment: words.Environment) -> None:
    with db.unit():
        cancel.cancel_event(environment, "1")


def test_it_goes_on_where_it_was_after_a_restart_and_makes_nothing_twice(
    alice: words.Environment, rule: Callable[..., uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule()
    for number in range(10):
        send(alice, str(number))
    operation = start(alice, rate=30)
    made = deliver_and_die = 0
    invoke_all = replay.deliveries.invoke

    def dies(*args: Any, **chosen: Any) -> Any:
        nonlocal deliver_and_die
        deliver_and_die += 1
        result = invoke_all(*args, **chosen)
        if deliver_and_die % 2:
            raise KeyboardInterrupt  # in the open transaction, as a killed process leaves it
        return result

    monkeypatch.setattr(replay.deliveries, "invoke", dies)
    while state(alice, operation).state == "RUNNING":
        try:
            advance()
        except KeyboardInterrupt:
            made += 1
        hurry()

    assert made >= 4
    assert (state(alice, operation).done, len(replayed())) == (10, 10)


def test_two_schedulers_replay_each_once(alice: words.Environment, rule: Callable[..., uuid.UUID]) -> None:
    rule()
    for number in range(30):
        send(alice, str(number))
    operation = start(alice, rate=20)

    def scheduler() -> None:
        while state(alice, operation).state == "RUNNING":
            hurry()
            advance()

    threads = [threading.Thread(target=scheduler) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert (state(alice, operation).done, len(replayed())) == (30, 30)


def test_an_event_with_more_matches_than_the_pace_stays_whole(
    alice: words.Environment, rule: Callable[..., uuid.UUID]
) -> None:
    for _ in range(5):
        rule()
    for number in range(2):
        send(alice, str(number))
    operation = start(alice, rate=2)
    advance()

    assert state(alice, operation).done == 5
    assert not advance()  # five invocations at two a second


def test_cancelling_keeps_what_was_done(alice: words.Environment, rule: Callable[..., uuid.UUID]) -> None:
    rule()
    for number in range(6):
        send(alice, str(number))
    operation = start(alice, rate=20)
    advance()
    with db.unit():
        assert bulk_operations.cancel_operation(alice, replay.KIND, operation).state == "CANCELED"
    hurry()

    assert not advance()
    assert len(replayed()) == 2


def test_a_preview_counts_and_changes_nothing(alice: words.Environment, rule: Callable[..., uuid.UUID]) -> None:
    rule()
    for number in range(3):
        send(alice, str(number), payload=f'{{"n":{number}}}')
    with db.unit():
        asked = replays.Wanted(payload_filter={"n": [{"$gte": 1}]})
        assert replay.preview_replay(alice, asked) == (3, 3, 2, 2)
        assert models.BulkOperation.select().count() == 0


def test_a_mistake_is_named_before_anything_begins(alice: words.Environment, rule: Callable[..., uuid.UUID]) -> None:
    bobs = factory.dispatcher(factory.environment("bob"), to={"type": words.JOB_VERSION, "id": "x"})
    asked = replays.Wanted(dispatchers=[rule(), bobs], payload_filter={"a": 1}, context_filter={"b": [{"$x": 1}]})
    for verb in (replay.preview_replay, lambda *given: replay.start_replay(*given, 10)):
        with db.unit(), pytest.raises(errors.Invalid) as caught:
            verb(alice, asked)
        paths = [issue.path for issue in caught.value.issues]
        assert paths == ["dispatchers[1]", "filter.a", "contextFilter.b[0].$x"]
    with db.unit():
        assert models.BulkOperation.select().count() == 0
