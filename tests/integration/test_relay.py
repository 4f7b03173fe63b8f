"""The relay: what it hints, in which order, and what it does when the broker does not answer."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from kongflow_events import errors, models, words
from kongflow_events.services.relay import Relay
from kongflow_events.store import db, outbox
from kongflow_events.words import HintBatch
from tests.plans import rows_read
from tests.servers import eventually

pytestmark = pytest.mark.usefixtures("store")


class Queues:
    """A broker in memory that keeps what it is given; `away` makes it unreachable, `taken` empties a queue."""

    def __init__(self) -> None:
        self.messages: dict[str, list[HintBatch]] = {kind: [] for kind in words.KINDS}
        self.away = False
        self.refuses = False

    def depth(self, queue_name: str) -> int:
        if self.away:
            raise errors.Retryable("no broker")
        return len(self.messages[queue_name])

    def consumers(self, queue_name: str) -> int:
        return 2

    def publish(self, queue_name: str, messages: Sequence[HintBatch]) -> None:
        if self.refuses:
            raise errors.Retryable("not confirmed")
        self.messages[queue_name] += messages

    def taken(self, queue: str) -> list[str]:
        ids = [one for batch in self.messages[queue] for one in batch.ids]
        self.messages[queue] = []
        return ids


@pytest.fixture
def queues() -> Queues:
    return Queues()


@pytest.fixture
def relay(queues: Queues) -> Relay:
    return Relay(queues, batch=10, high_water=5, places=4)


def owe(count: int, kind: str = "deliver", lane: uuid.UUID | None = None, due: str = "0 s", hints: int = 0) -> None:
    with db.unit():
        db.run(
            """INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, hints)
               SELECT gen_random_uuid(), %s, %s, now() + %s::interval, now() + %s::interval, %s
                 FROM generate_series(1, %s)""",
            (kind, lane or uuid.uuid4(), due, due, hints, count),
        )


def rows() -> list[models.Outbox]:
    with db.unit():
        return list(models.Outbox.select().order_by(models.Outbox.hint_at))


def do(ids: list[str]) -> list[str]:
    with db.unit():
        db.run("DELETE FROM outbox WHERE subject_id = ANY(%s::uuid[])", (ids,))
    return ids


def test_what_is_due_is_hinted_in_messages_of_many_ids(relay: Relay, queues: Queues) -> None:
    owe(25)

    assert relay.tick() == 25
    assert [len(batch.ids) for batch in queues.messages["deliver"]] == [10, 10, 5]
    assert {row.hints for row in rows()} == {1}


def test_what_is_not_due_is_not_hinted(relay: Relay, queues: Queues) -> None:
    owe(1, due="1 hour")

    assert relay.tick() == 0
    assert queues.messages["deliver"] == []


def test_a_hint_is_not_repeated_before_its_pause_is_over_and_each_pause_is_twice_as_long(
    relay: Relay, queues: Queues
) -> None:
    owe(1)
    assert [relay.tick(), relay.tick()] == [1, 0]

    pauses = []
    for _ in range(8):
        with db.unit():
            [row] = db.rows("SELECT round(extract(epoch FROM hint_at - now())) AS pause FROM outbox")
            pauses.append(int(row["pause"]))
            db.run("UPDATE outbox SET hint_at = now()")
        queues.taken("deliver")
        assert relay.tick() == 1

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_row_with_six_hints_travels_alone(relay: Relay, queues: Queues) -> None:
    owe(2)
    owe(1, hints=6)
    relay.tick()

    assert sorted((len(batch.ids), batch.alone) for batch in queues.messages["deliver"]) == [(1, True), (2, False)]


def test_a_call_to_a_url_gets_a_message_of_its_own(relay: Relay, queues: Queues) -> None:
    owe(3, kind="post")
    relay.tick()

    assert [len(batch.ids) for batch in queues.messages["post"]] == [1, 1, 1]


def test_a_queue_is_never_filled_above_the_high_water_mark(relay: Relay, queues: Queues) -> None:
    owe(100)
    owed, hinted = sorted(str(row.subject_id) for row in rows()), []
    while len(hinted) < 100 and relay.tick():
        relay.tick()
        assert len(queues.messages["deliver"]) <= 5
        hinted += do(queues.taken("deliver"))
    assert sorted(hinted) == owed


def test_a_full_queue_of_one_kind_does_not_stand_before_another(relay: Relay, queues: Queues) -> None:
    owe(1000, kind="post")
    owe(10, kind="invoke")
    relay.tick()

    assert len(queues.taken("invoke")) == 10


def test_the_broker_is_not_asked_about_posts_before_there_is_a_round_of_the_targets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kongflow_events.services.relay._ROUND", 3600.0)
    asked: list[str] = []

    class Asked(Queues):
        def depth(self, queue_name: str) -> int:
            asked.append(queue_name)
            return super().depth(queue_name)

    relay = Relay(Asked(), batch=10, high_water=5, places=4)
    owe(1, kind="post")
    relay.tick()
    owe(1, kind="post")

    assert relay.tick() == 0
    assert asked == ["post"]


class Endless(Queues):
    """Workers that keep pace with a backlog that does not end."""

    def depth(self, queue_name: str) -> int:
        return 0

    def publish(self, queue_name: str, messages: Sequence[HintBatch]) -> None:
        super().publish(queue_name, messages)
        if queue_name == "deliver":
            owe(20)


def test_a_tick_ends_although_the_backlog_does_not_and_leaves_no_other_kind_behind() -> None:
    queues = Endless()
    owe(1000)
    owe(3, kind="post")

    assert Relay(queues, batch=10, high_water=5, places=4).tick() > 0
    assert len(queues.taken("post")) == 3


def test_lanes_take_turns_once_not_everything_fits(relay: Relay, queues: Queues) -> None:
    busy, quiet = uuid.UUID(int=1), uuid.UUID(int=2)
    owe(1000, lane=busy)
    relay.tick()
    queues.taken("deliver")
    owe(10, lane=quiet)

    relay.tick()

    lanes = {str(row.subject_id): row.lane for row in rows()}
    assert Counter(lanes[one] for one in queues.taken("deliver"))[quiet] == 10


def test_who_has_few_rows_is_in_no_message_of_who_has_many_and_before_them(queues: Queues) -> None:
    busy, quiet = uuid.UUID(int=1), uuid.UUID(int=2)
    relay = Relay(queues, batch=10, high_water=50, places=4)
    owe(1000, lane=busy)
    relay.tick()
    do(queues.taken("deliver"))
    owe(3, lane=quiet)

    relay.tick()

    lanes = {str(row.subject_id): row.lane for row in rows()}
    first, *others = queues.messages["deliver"]
    assert [lanes[one] for one in first.ids] == [quiet] * 3
    assert {lanes[one] for batch in others for one in batch.ids} == {busy}


def test_no_more_rows_of_a_crowded_lane_are_under_way_than_workers_can_take_and_fewer_beside_others(
    queues: Queues,
) -> None:
    busy, quiet = uuid.UUID(int=1), uuid.UUID(int=2)
    relay = Relay(queues, batch=10, high_water=50, places=4)
    owe(1000, lane=busy)
    under_way: list[int] = []
    for others in (0, 0, 1, 1):
        owe(others, lane=quiet)
        for _ in range(5):
            relay.tick()
        under_way.append(len(queues.messages["deliver"]) - others)
        do(queues.taken("deliver"))

    # Two messages go before anybody knows of a crowd; then two for each of two workers; a part of one beside others.
    assert under_way == [6, 4, 4, 1]


@pytest.mark.parametrize("at_first", [3, 30])
def test_a_lane_with_many_rows_is_not_held_back_for_its_own_sake(queues: Queues, at_first: int) -> None:
    relay, lane = Relay(queues, batch=20, high_water=50, places=4), uuid.UUID(int=1)
    owe(at_first, lane=lane)
    relay.tick()
    do(queues.taken("deliver"))
    owe(1000, lane=lane)
    for _ in range(5):
        relay.tick()

    assert sum(len(batch.ids) for batch in queues.messages["deliver"]) == 20 * (2 + 4)


def test_rows_of_a_crowded_lane_whose_messages_were_lost_hold_up_no_others(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kongflow_events.services.relay._LOST", 0.0)
    relay = Relay(queues, batch=10, high_water=50, places=4)
    owe(1000)
    hinted: set[str] = set()
    while len(hinted) < 1000 and relay.tick():
        hinted |= set(queues.taken("deliver"))

    assert len(hinted) == 1000


def test_everything_is_hinted_in_the_end_whatever_the_number_of_lanes(relay: Relay, queues: Queues) -> None:
    for number in range(150):
        owe(3, lane=uuid.UUID(int=number + 1))
    hinted: set[str] = set()
    while len(hinted) < 450 and relay.tick():
        hinted |= set(queues.taken("deliver"))

    assert hinted == {str(row.subject_id) for row in rows()}


def test_nothing_moves_while_the_broker_cannot_be_asked(relay: Relay, queues: Queues) -> None:
    owe(3)
    queues.away = True

    assert relay.tick() == 0
    assert {row.hints for row in rows()} == {0}
    queues.away = False
    # It rests a moment before it asks again.
    eventually(lambda: relay.tick() == 3)


def test_rows_are_set_back_when_publishing_fails(queues: Queues) -> None:
    owe(3)
    queues.refuses = True
    assert Relay(queues, batch=10, high_water=5, places=4).tick() == 0

    assert {row.hints for row in rows()} == {0}
    queues.refuses = False
    assert Relay(queues, batch=10, high_water=5, places=4).tick() == 3


def test_two_relays_hint_each_row_once(queues: Queues) -> None:
    owe(40)
    relays = [Relay(queues, batch=10, high_water=50, places=4) for _ in range(2)]

    assert sum(relay.tick() for relay in relays) == 40
    assert len(set(queues.taken("deliver"))) == 40


def test_a_row_that_somebody_has_leased_is_left_alone_until_the_lease_is_over(relay: Relay, queues: Queues) -> None:
    owe(1)
    with db.unit():
        db.run("UPDATE outbox SET lease_until = now() + interval '1 hour'")
    assert relay.tick() == 0

    with db.unit():
        db.run("UPDATE outbox SET lease_until = now() - interval '1 s'")
    assert relay.tick() == 1


def test_a_dead_delivery_is_never_hinted(relay: Relay) -> None:
    owe(1)
    with db.unit():
        db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity'")

    assert relay.tick() == 0


def test_a_row_that_is_taken_alone_is_hinted_when_its_lease_is_over_whatever_its_pause(
    relay: Relay, queues: Queues
) -> None:
    owe(1, hints=12)
    [row] = rows()
    with db.unit():
        db.run("UPDATE outbox SET hint_at = now() + interval '1 hour'")
        assert outbox.claim("deliver", row.subject_id, 0.01)

    eventually(lambda: relay.tick() == 1)


@pytest.mark.parametrize("statement", [outbox._WAITING.sql, outbox._HINT_OLDEST.sql, outbox._HINT_LANES])
def test_a_look_reads_what_it_hints_however_much_waits(statement: str) -> None:
    owe(30_000, lane=uuid.UUID(int=1))
    owe(5, lane=uuid.UUID(int=2))
    parameters = {
        "kind": "deliver",
        "kinds": list(words.KINDS),
        "since": datetime(1970, 1, 1, tzinfo=UTC),
        "after": outbox.FIRST_LANE,
        "bite": 100,
        "limit": 200,
    }
    with db.unit():
        db.run("ANALYZE outbox")
        [explained] = db.rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)

    # Found and locked, then written; and a few for each lane.
    assert rows_read(explained["QUERY PLAN"][0]["Plan"])["outbox"] < 1000
