"""Retention: what is over goes with all that hangs on it, what is owed stays."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from kongflow_events import models, schemas, words
from kongflow_events.services import deliver, ingest, invoke, redrive, retain
from kongflow_events.store import db, retention
from tests import factory

pytestmark = pytest.mark.usefixtures("store")

KEEP, DEAD = timedelta(days=30), timedelta(days=90)


@pytest.fixture
def alice() -> words.Environment:
    return factory.environment("alice")


def send(environment: words.Environment, event_id: str, days_ago: float, **options: Any) -> uuid.UUID:
    with db.unit():
        made = ingest.ingest_send_event(environment, factory.event(id=event_id), schemas.SendOptions(**options))
        db.run("UPDATE event_records SET created_at = now() - %s WHERE id = %s", (timedelta(days=days_ago), made.id))
    record_id: uuid.UUID = made.id
    return record_id


def advance(keep: timedelta = KEEP, dead: timedelta = DEAD, batches: int = 10) -> int:
    with db.unit():
        return retain.Retention(keep, dead).advance(batches)


def left() -> set[str]:
    with db.unit():
        return {record.event_id for record in models.EventRecord.select()}


def die(invocation_id: uuid.UUID, days_ago: float) -> None:
    with db.unit():
        db.run("UPDATE invocations SET died_at = now() - %s WHERE id = %s", (timedelta(days=days_ago), invocation_id))


def test_old_events_go_with_their_invocations_attempts_and_runs(alice: words.Environment) -> None:
    factory.dispatcher(alice, to=factory.to_job(factory.job(alice)))
    old, new = send(alice, "old", 31), send(alice, "new", 29)
    invoke.invoke(deliver.deliver([old, new])["invoke"])
    with db.unit():
        for invocation in models.Invocation.select():
            models.InvocationAttempt.create(
                invocation_id=invocation.id, round=0, number=1, started_at=db.now(), duration_ms=1, outcome="failed"
            )

    assert advance() == 1
    assert left() == {"new"}
    with db.unit():
        for table in (models.Invocation, models.InvocationAttempt, models.JobRun):
            assert table.select().count() == 1


def test_an_unmatched_event_goes_too_and_its_id_is_free_again(alice: words.Environment) -> None:
    deliver.deliver([send(alice, "1", 31)])
    assert advance() == 1

    again = send(alice, "1", 0)
    with db.unit():
        assert models.Outbox.get().subject_id == again


def test_what_is_owed_stays_however_old(alice: words.Environment) -> None:
    factory.dispatcher(alice, to=factory.to_job(factory.job(alice)))
    send(alice, "undelivered", 400)
    send(alice, "delayed", 400, deliver_after=3600)
    deliver.deliver([send(alice, "invocation pending", 400)], one_by_one=True)

    assert advance() == 0
    assert left() == {"undelivered", "delayed", "invocation pending"}


def test_dead_letters_have_a_time_of_their_own(alice: words.Environment) -> None:
    factory.dispatcher(alice, to={"type": words.JOB_VERSION, "id": str(uuid.uuid4())})
    for event_id, days in (("fresh", 89), ("stale", 91)):
        [made] = deliver.deliver([send(alice, event_id, 400)])["invoke"]
        invoke.invoke([made])
        die(made, days)
    for event_id, days in (("fresh delivery", 89), ("stale delivery", 91)):
        record = send(alice, event_id, 400)
        with db.unit():
            db.run(
                "UPDATE outbox SET died_at = now() - %s, hint_at = 'infinity' WHERE subject_id = %s",
                (timedelta(days=days), record),
            )

    assert advance(dead=timedelta(0)) == 0
    assert advance() == 2
    assert left() == {"fresh", "fresh delivery"}
    with db.unit():
        assert models.Outbox.select().count() == 1


def test_a_dismissed_dead_letter_is_over(alice: words.Environment) -> None:
    factory.dispatcher(alice, to={"type": words.JOB_VERSION, "id": str(uuid.uuid4())})
    [made] = deliver.deliver([send(alice, "1", 31)])["invoke"]
    invoke.invoke([made])
    assert advance() == 0
    with db.unit():
        redrive.dismiss_invocation(alice, str(made))

    assert advance() == 1


def test_zero_keeps_everything(alice: words.Environment) -> None:
    deliver.deliver([send(alice, "1", 4000)])

    assert advance(keep=timedelta(0)) == 0


def test_it_goes_on_behind_what_has_to_stay(alice: words.Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retain, "_BATCH", 2)
    for number in range(5):
        send(alice, f"owed {number}", 400 - number)
    over = [send(alice, f"over {number}", 40 - number / 10) for number in range(5)]
    deliver.deliver(over)
    keeping = retain.Retention(KEEP, DEAD)
    with db.unit():
        assert [keeping.advance(1) for _ in range(6)] == [0, 0, 1, 2, 2, 0]

    assert left() == {f"owed {number}" for number in range(5)}


def test_an_event_that_is_owed_again_by_the_time_it_is_locked_stays(
    alice: words.Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = send(alice, "1", 31)
    deliver.deliver([record])
    next_old = retention.next_old

    def sent_again_meanwhile(*given: Any) -> list[retention.Old]:
        found = next_old(*given)
        ingest.ingest_send_event(alice, factory.event(id="1"))
        return found

    monkeypatch.setattr(retention, "next_old", sent_again_meanwhile)

    assert advance() == 0
    assert left() == {"1"}


def test_old_operations_go_with_the_dead_letters_they_were_about(
    alice: words.Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.unit():
        for days in (91, 89):
            models.BulkOperation.insert(
                environment_id=alice.id,
                kind="redrive",
                state="DONE",
                criteria={},
                rate=1,
                total=0,
                seen=0,
                done=0,
                finished_at=db.now() - timedelta(days=days),
            ).execute()
    monkeypatch.setattr(retain, "_AGAIN", 0.0)
    advance()

    with db.unit():
        assert models.BulkOperation.select().count() == 1
