"""Invocations inside PostgreSQL: their runs, made once, and the ways they can end."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest

from kongflow_events import errors, models, retries, words
from kongflow_events.services import deliver, deliver_event, ingest, invoke, invoke_dispatcher
from kongflow_events.store import db
from tests import factory

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def alice() -> words.Environment:
    return factory.environment("alice")


@pytest.fixture
def job(alice: words.Environment) -> models.JobVersion:
    return factory.job(alice)


@pytest.fixture
def pending(alice: words.Environment) -> Callable[[], list[uuid.UUID]]:
    """Send an event and deliver it alone, so that all of its invocations are owed; returns what is to be invoked."""

    def send_and_deliver() -> list[uuid.UUID]:
        with db.unit():
            record = ingest.ingest_send_event(alice, factory.event())
        return deliver.deliver([record.id], one_by_one=True)["invoke"]

    return send_and_deliver


def runs() -> list[models.JobRun]:
    with db.unit():
        return list(models.JobRun.select())


def invocation(invocation_id: uuid.UUID) -> models.Invocation:
    with db.unit():
        return models.Invocation.get_by_id(invocation_id)


def owed() -> list[models.Outbox]:
    with db.unit():
        return list(models.Outbox.select())


def test_a_job_version_gives_one_pending_run(
    alice: words.Environment, job: models.JobVersion, pending: Callable[[], list[uuid.UUID]]
) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    [one] = pending()
    invoke.invoke([one])

    [run] = runs()
    assert (run.status, run.job_id, run.version_id, run.invocation_id) == ("PENDING", job.job_id, job.id, one)
    ended = invocation(one)
    assert (ended.status, ended.attempts, ended.completed_at is not None) == ("SUCCEEDED", 1, True)
    assert owed() == []


def test_a_dynamic_trigger_gives_one_run_for_each_job_that_has_a_latest_version(
    alice: words.Environment, pending: Callable[[], list[uuid.UUID]]
) -> None:
    jobs = [factory.job(alice, slug) for slug in ("one", "two", "without-latest")]
    with db.unit():
        models.JobAlias.delete().where(models.JobAlias.job_id == jobs[2].job_id).execute()
    trigger = factory.trigger(alice, *(job.job_id for job in jobs))
    factory.dispatcher(alice, to={"type": words.DYNAMIC_TRIGGER, "id": str(trigger)})

    invoke.invoke(pending())

    assert {run.job_id for run in runs()} == {jobs[0].job_id, jobs[1].job_id}


def test_a_dynamic_trigger_without_jobs_succeeds_with_no_run(
    alice: words.Environment, pending: Callable[[], list[uuid.UUID]]
) -> None:
    factory.dispatcher(alice, to={"type": words.DYNAMIC_TRIGGER, "id": str(factory.trigger(alice))})
    [one] = pending()
    invoke.invoke([one])

    assert invocation(one).status == "SUCCEEDED"
    assert runs() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE event_dispatchers SET enabled = FALSE", "the dispatcher is disabled"),
        ("UPDATE event_dispatchers SET expires_at = now() - interval '1 s'", "the dispatcher has expired"),
        ("DELETE FROM event_dispatchers", "the dispatcher was deleted"),
    ],
)
def test_a_dispatcher_that_is_not_there_any_more_skips_with_the_reason(
    alice: words.Environment,
    job: models.JobVersion,
    pending: Callable[[], list[uuid.UUID]],
    change: str,
    reason: str,
) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    [one] = pending()
    with db.unit():
        db.run(change)
    invoke.invoke([one])

    ended = invocation(one)
    assert (ended.status, ended.reason) == ("SKIPPED", reason)
    assert runs() == []
    assert owed() == []


def test_a_target_that_does_not_exist_is_a_dead_letter_with_the_reason(
    alice: words.Environment, pending: Callable[[], list[uuid.UUID]]
) -> None:
    missing = str(uuid.uuid4())
    factory.dispatcher(alice, to={"type": words.JOB_VERSION, "id": missing})
    [one] = pending()
    invoke.invoke([one])

    ended = invocation(one)
    assert (ended.status, ended.reason) == ("DEAD", f"its JOB_VERSION {missing} does not exist")
    assert ended.died_at is not None


def test_a_target_without_an_id_holds_up_no_other(
    alice: words.Environment, job: models.JobVersion, pending: Callable[[], list[uuid.UUID]]
) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    broken = factory.dispatcher(alice, to=factory.to_job(job))
    with db.unit():
        db.run("""UPDATE event_dispatchers SET dispatchable = '{"type": "JOB_VERSION"}' WHERE id = %s""", (broken,))
    ids = pending()
    invoke.invoke(ids)

    ends = {invocation(one).dispatcher_id == broken: invocation(one) for one in ids}
    assert (ends[True].status, ends[True].attempts) == ("DEAD", 1)
    assert ends[False].status == "SUCCEEDED"


def test_a_repeated_hint_makes_no_second_run(
    alice: words.Environment, job: models.JobVersion, pending: Callable[[], list[uuid.UUID]]
) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    ids = pending() + pending()
    together = threading.Barrier(4)

    def worker() -> None:
        together.wait()
        invoke.invoke([*ids, *ids])

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    invoke.invoke(ids)

    assert sorted(run.invocation_id for run in runs()) == sorted(ids)
    assert owed() == []


class TestFailure:
    """One invocation whose run cannot be written, beside one that is fine."""

    @pytest.fixture
    def ids(
        self, alice: words.Environment, job: models.JobVersion, pending: Callable[[], list[uuid.UUID]]
    ) -> list[uuid.UUID]:
        """A bad invocation, then a good one. The database refuses runs of the bad one's job."""
        bad = factory.job(alice, "bad")
        factory.dispatcher(alice, to=factory.to_job(bad))
        factory.dispatcher(alice, to=factory.to_job(job))
        ids = pending()
        with db.unit():
            db.run(f"ALTER TABLE job_runs ADD CONSTRAINT no_bad_runs CHECK (job_id <> '{bad.job_id}')")
        return sorted(ids, key=lambda one: invocation(one).dispatchable["id"] != str(bad.id))

    def test_the_good_one_is_carried_out_and_the_bad_one_waits_for_its_next_try(self, ids: list[uuid.UUID]) -> None:
        invoke.invoke(ids)

        bad, good = map(invocation, ids)
        assert (good.status, bad.status) == ("SUCCEEDED", "PENDING")
        assert "no_bad_runs" in bad.last_error
        [row] = owed()
        assert (row.subject_id, row.attempts, row.hints) == (bad.id, 1, 0)

    def test_every_failed_attempt_is_written_down(self, ids: list[uuid.UUID]) -> None:
        invoke.invoke(ids)

        with db.unit():
            [attempt] = models.InvocationAttempt.select()
        assert (attempt.invocation_id, attempt.number, attempt.outcome) == (ids[0], 1, "failed")
        assert "no_bad_runs" in attempt.error

    def test_it_is_a_dead_letter_when_its_attempts_are_used_up(self, ids: list[uuid.UUID]) -> None:
        for _ in range(retries.LIMITS["invoke"]):
            with db.unit():
                db.run("UPDATE outbox SET due_at = now()")
            invoke.invoke(ids, one_by_one=True)

        bad = invocation(ids[0])
        assert (bad.status, bad.attempts) == ("DEAD", retries.LIMITS["invoke"])
        assert "no_bad_runs" in bad.reason
        assert owed() == []


def test_a_row_whose_workers_died_is_buried_without_being_tried(
    alice: words.Environment, job: models.JobVersion, pending: Callable[[], list[uuid.UUID]]
) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    [one] = pending()
    with db.unit():
        db.run("UPDATE outbox SET attempts = %s", (retries.LIMITS["invoke"],))
    invoke.invoke([one], one_by_one=True)

    assert (invocation(one).status, invocation(one).reason) == ("DEAD", retries.WORKER_LOST)
    with db.unit():
        [attempt] = models.InvocationAttempt.select()
    assert (attempt.number, attempt.outcome) == (retries.LIMITS["invoke"] + 1, "lost")
    assert runs() == []
    assert owed() == []


class TestInvokeDispatcher:
    """The public verb that carries one pair out now."""

    def test_it_carries_out_what_delivery_left(self, alice: words.Environment, job: models.JobVersion) -> None:
        dispatcher = factory.dispatcher(alice, to=factory.to_job(job))
        with db.unit():
            record = ingest.ingest_send_event(alice, factory.event())
        deliver_event(record.id)
        invoke_dispatcher(dispatcher, record.id)
        invoke_dispatcher(dispatcher, record.id)

        assert len(runs()) == 1

    def test_it_makes_the_invocation_that_a_manual_dispatcher_never_gets(
        self, alice: words.Environment, job: models.JobVersion
    ) -> None:
        dispatcher = factory.dispatcher(alice, to=factory.to_job(job), manual=True)
        with db.unit():
            record = ingest.ingest_send_event(alice, factory.event())
        invoke_dispatcher(dispatcher, record.id)

        assert [run.event_record_id for run in runs()] == [record.id]

    def test_what_does_not_exist_is_final(self, alice: words.Environment) -> None:
        with pytest.raises(errors.Final):
            invoke_dispatcher(uuid.uuid4(), uuid.uuid4())
