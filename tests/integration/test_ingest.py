"""Sending: idempotency, the update window, delays, accounts, and one transaction for a bulk."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from kongflow_events import errors, models, schemas, words
from kongflow_events.services import cancel, ingest
from kongflow_events.store import db, events
from tests import factory
from tests.processes import query

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def alice() -> words.Environment:
    return factory.environment("alice")


@pytest.fixture
def bob() -> words.Environment:
    return factory.environment("bob")


def send(environment: words.Environment, event: schemas.SendEvent, **options: object) -> models.EventRecord:
    with db.unit():
        return ingest.ingest_send_event(environment, event, schemas.SendOptions(**options))  # type: ignore[arg-type]


def owed() -> list[models.Outbox]:
    with db.unit():
        return list(models.Outbox.select())


def test_an_event_is_stored_with_its_defaults_and_its_delivery_is_owed_at_once(alice: words.Environment) -> None:
    record = send(alice, factory.event("user.created"))

    assert (record.payload, record.payload_raw, record.context) == ({}, "{}", {})
    assert (record.source, record.payload_type) == ("trigger.dev", "JSON")
    assert len(record.event_id) == 26
    assert record.delivered_at is None
    [row] = owed()
    assert (row.subject_id, row.kind, row.lane) == (record.id, "deliver", alice.id)
    assert row.due_at == record.deliver_at


def test_the_payload_keeps_the_senders_bytes(alice: words.Environment) -> None:
    raw = '{"b": 1.10, "a": [1e2, 123456789012345678901234567890]}'

    assert send(alice, factory.event(payload=raw)).payload_raw == raw


def test_a_repeated_id_returns_the_first_event_unchanged(alice: words.Environment) -> None:
    first = send(alice, factory.event(id="1", payload='{"a":1}'))
    again = send(alice, factory.event("other.name", id="1", payload='{"a":2}'))

    assert (again.id, again.name, again.payload) == (first.id, factory.JOB_EVENT, {"a": 1})
    assert len(owed()) == 1


def test_one_id_in_two_environments_is_two_events(alice: words.Environment, bob: words.Environment) -> None:
    assert send(alice, factory.event(id="1")).id != send(bob, factory.event(id="1")).id


def test_a_delayed_event_can_be_changed_and_is_then_due_at_once(alice: words.Environment) -> None:
    first = send(alice, factory.event(id="1", payload='{"a":1}', context='{"c":1}'), deliver_after=60)
    changed = send(alice, factory.event("other.name", id="1", payload='{"a":2}', source="elsewhere"))

    assert (changed.id, changed.payload, changed.context) == (first.id, {"a": 2}, {"c": 1})
    assert (changed.name, changed.source) == (first.name, first.source)
    assert changed.deliver_at < first.deliver_at
    assert owed()[0].due_at == changed.deliver_at


def test_an_event_due_within_five_seconds_is_not_changed_any_more(alice: words.Environment) -> None:
    first = send(alice, factory.event(id="1", payload='{"a":1}'), deliver_after=3)
    again = send(alice, factory.event(id="1", payload='{"a":2}'))

    assert (again.payload, again.deliver_at) == ({"a": 1}, first.deliver_at)


def test_deliver_at_wins_over_deliver_after(alice: words.Environment) -> None:
    at = datetime(2100, 1, 1, tzinfo=UTC)

    assert send(alice, factory.event(), deliver_at=at, deliver_after=5).deliver_at == at


def test_a_negative_delay_is_due_at_once(alice: words.Environment) -> None:
    record = send(alice, factory.event(), deliver_after=-60)

    assert record.deliver_at < datetime.now(UTC)
    assert owed()[0].hint_at > record.deliver_at + timedelta(seconds=30)


def test_a_cancelled_event_is_neither_changed_nor_owed_again(alice: words.Environment) -> None:
    send(alice, factory.event(id="1", payload='{"a":1}'), deliver_after=60)
    with db.unit():
        cancel.cancel_event(alice, "1")
    again = send(alice, factory.event(id="1", payload='{"a":2}'))

    assert again.cancelled_at is not None
    assert again.payload == {"a": 1}
    assert owed() == []


def test_an_account_is_made_at_its_first_use_and_found_after(alice: words.Environment) -> None:
    first = send(alice, factory.event(), account_id="acme")
    second = send(alice, factory.event(), account_id="acme")

    assert first.external_account_id == second.external_account_id is not None


def test_runs_disabled_refuses_before_anything_is_stored(alice: words.Environment) -> None:
    disabled = words.Environment(alice.id, alice.organization_id, alice.project_id, "dev", runs_enabled=False)

    with pytest.raises(errors.Forbidden):
        send(disabled, factory.event())
    assert owed() == []


def test_sixteen_senders_of_one_id_store_one_event(alice: words.Environment) -> None:
    together = threading.Barrier(16)
    seen: list[models.EventRecord] = []

    def sender(number: int) -> None:
        together.wait()
        seen.append(send(alice, factory.event(id="1", payload=f'{{"n":{number}}}'), account_id="acme"))

    threads = [threading.Thread(target=sender, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 16
    assert len({(record.id, record.payload_raw) for record in seen}) == 1
    assert len(owed()) == 1


class TestBulk:
    def bulk(self, alice: words.Environment, *events: schemas.SendEvent) -> list[models.EventRecord]:
        with db.unit():
            return ingest.ingest_send_events(alice, events)

    def test_answers_come_in_the_order_of_the_request(self, alice: words.Environment) -> None:
        records = self.bulk(alice, factory.event(id="z"), factory.event(id="a"), factory.event(id="m"))

        assert [record.event_id for record in records] == ["z", "a", "m"]
        assert len(owed()) == 3

    def test_nothing_gives_nothing(self, alice: words.Environment) -> None:
        assert self.bulk(alice) == []

    def test_a_repeated_id_inside_a_bulk_is_one_event_with_the_first_payload(self, alice: words.Environment) -> None:
        first, again = self.bulk(
            alice, factory.event(id="1", payload='{"n":1}'), factory.event(id="1", payload='{"n":2}')
        )

        assert first.id == again.id
        assert first.payload == again.payload == {"n": 1}

    def test_a_bulk_is_stored_whole_or_not_at_all(self, alice: words.Environment) -> None:
        with pytest.raises(Exception, match="invalid input syntax for type json"):
            self.bulk(alice, factory.event(id="1"), factory.event(id="2", payload="not json"))
        assert owed() == []

    def test_two_bulks_of_the_same_ids_in_opposite_order_do_not_deadlock(self, alice: words.Environment) -> None:
        ids = [str(number) for number in range(200)]
        results: list[list[models.EventRecord]] = []
        together = threading.Barrier(2)

        def sender(order: list[str]) -> None:
            together.wait()
            results.append(self.bulk(alice, *(factory.event(id=one) for one in order)))

        threads = [threading.Thread(target=sender, args=(order,)) for order in (ids, ids[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [len(result) for result in results] == [200, 200]
        assert len(owed()) == 200


def test_a_bulk_that_is_a_deadlocks_victim_is_stored_all_the_same(store: str, alice: words.Environment) -> None:
    batch = [factory.event(id="a"), factory.event(id="b")]
    with db.unit():
        ingest.ingest_send_events(alice, batch)
    with psycopg2.connect(store) as other, other.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        lock = "SELECT FROM event_records WHERE event_id = %s FOR UPDATE"
        cursor.execute(lock, ("b",))

        def again() -> list[models.EventRecord]:
            with db.unit():
                return ingest.ingest_send_events(alice, batch)

        sent = pool.submit(again)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while query(store, waiting) != [(1,)]:
            assert not sent.done()
        # Who waited first looks first for a circle, and is its victim.
        cursor.execute(lock, ("a",))
        other.commit()

        assert [record.event_id for record in sent.result(10)] == ["a", "b"]


class TestTogether:
    """Threads that send at the same time share a statement."""

    def test_each_gets_its_own_event_and_none_is_stored_twice(
        self, alice: words.Environment, bob: words.Environment
    ) -> None:
        asked = [(environment, f"{number % 40}") for number in range(120) for environment in (alice, bob)]
        with ThreadPoolExecutor(16) as pool:
            sent = list(pool.map(lambda one: ingest.ingest_send_event(one[0], factory.event(id=one[1])), asked))

        assert [(record.environment_id, record.event_id) for record in sent] == [(env.id, id) for env, id in asked]
        assert len({record.id for record in sent}) == len(owed()) == 80

    def test_two_who_change_one_delayed_event_each_see_their_own_change(self, alice: words.Environment) -> None:
        send(alice, factory.event(id="1"), deliver_after=60)
        with ThreadPoolExecutor(16) as pool:
            changed = pool.map(
                lambda number: send(alice, factory.event(id="1", payload=f"[{number}]"), deliver_after=60 + number),
                range(64),
            )
            assert [record.payload for record in changed] == [[number] for number in range(64)]

    def test_each_has_a_delay_and_an_account_of_its_own(self, alice: words.Environment) -> None:
        def with_options(number: int) -> models.EventRecord:
            return send(alice, factory.event(), deliver_after=100 * number, account_id=f"account {number % 5}")

        with ThreadPoolExecutor(16) as pool:
            sent = list(pool.map(with_options, range(1, 65)))

        for number, record in enumerate(sent, 1):
            assert record.deliver_at - record.created_at == timedelta(seconds=100 * number)
        with db.unit():
            names = {row.id: row.identifier for row in models.ExternalAccount.select()}
        assert [names[record.external_account_id] for record in sent] == [f"account {n % 5}" for n in range(1, 65)]

    def test_who_waits_for_a_lock_holds_up_nobody_for_longer_than_the_lock_may_be_waited_for(
        self, store: str, alice: words.Environment
    ) -> None:
        db.close()
        db.connect(store, pool_size=20, statement_seconds=1.5)
        held = send(alice, factory.event(id="held"))
        with psycopg2.connect(store) as other, other.cursor() as cursor, ThreadPoolExecutor(16) as pool:
            cursor.execute("SELECT FROM event_records WHERE id = %s FOR UPDATE", (str(held.id),))
            again = [pool.submit(send, alice, factory.event(id="held")) for _ in range(4)]
            others = [pool.submit(send, alice, factory.event(id=f"{number}")) for number in range(8)]

            assert [future.result(10).event_id for future in others] == [f"{number}" for number in range(8)]
            for future in again:
                with pytest.raises(db.AWAY, match="lock timeout"):
                    future.result(10)

    def test_a_large_event_has_a_statement_of_its_own(
        self, alice: words.Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rounds: list[int] = []
        stored = events.send

        def counted(environment: words.Environment, sent: list[events.Sent]) -> dict[str, models.EventRecord]:
            rounds.append(len(sent))
            return stored(environment, sent)

        monkeypatch.setattr(events, "send", counted)
        large = f'["{"x" * 20_000}"]'
        with ThreadPoolExecutor(16) as pool:
            sent = list(pool.map(lambda _: ingest.ingest_send_event(alice, factory.event(payload=large)), range(32)))

        assert {record.payload_raw for record in sent} == {large}
        assert rounds == [1] * 32

    def test_inside_a_transaction_an_event_is_part_of_it(self, alice: words.Environment) -> None:
        with db.unit(), pytest.raises(ZeroDivisionError), db.atomic():
            assert 1 // len(ingest.ingest_send_event(alice, factory.event(payload="[]")).payload)

        assert owed() == []
