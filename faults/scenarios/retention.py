"""Old events are deleted while new ones come in: F28."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

import psycopg2

from faults.machines import Every
from faults.run import Run
from faults.scenarios.registry import fault
from kongflow_events import words
from kongflow_events.store import db
from tests import factory

# Events are kept for a day and dead letters for two; every event of the archive is older than the one, and the deaths
# lie on both sides of the other.
_KEPT = {"KONGFLOW_RETENTION_DAYS": "1", "KONGFLOW_DEAD_RETENTION_DAYS": "2"}
_LONGEST_WAIT_MS = 200.0
_LOOK = 0.03
# Retention is known by its lock, the only advisory one of a service that is not being migrated.
_WAITS = """
SELECT extract(epoch FROM clock_timestamp() - waitstart)::float * 1000
  FROM pg_locks AS waiting
 WHERE NOT granted AND waitstart IS NOT NULL AND EXISTS (
           SELECT FROM pg_locks AS retention
            WHERE retention.locktype = 'advisory' AND retention.granted
              AND retention.pid = ANY (pg_blocking_pids(waiting.pid) || waiting.pid))
"""


class Kind(NamedTuple):
    """A kind of old event: what became of it, and whether retention has to leave it.

    `status` is its invocation's, None for one that was never delivered; `died` is days ago, None for what did not die.
    """

    name: str
    stays: bool
    status: str | None = None
    died: int | None = None


_FINISHED = Kind("finished", stays=False, status="SUCCEEDED")
_OTHERS = (
    Kind("undelivered", stays=True),
    Kind("pending", stays=True, status="PENDING"),
    Kind("dead", stays=True, status="DEAD", died=0),
    Kind("dead-delivery", stays=True, died=0),
    Kind("long-dead", stays=False, status="DEAD", died=3),
    Kind("long-dead-delivery", stays=False, died=3),
)
_SOME = 500

_EVENTS = """
INSERT INTO event_records (event_id, name, organization_id, environment_id, project_id, created_at, delivered_at)
SELECT %(kind)s || '/' || n, 'order.old', %(organization)s, %(environment)s, %(project)s, at,
       CASE WHEN %(delivered)s THEN at END
  FROM generate_series(1, %(count)s) AS n, (SELECT now() - interval '30 hours') AS old(at)
"""
_INVOCATIONS = """
INSERT INTO invocations
       (environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable, status, attempts, created_at, died_at)
SELECT environment_id, id, gen_random_uuid(), name, '{"type": "JOB_VERSION"}', %(status)s, 1, created_at,
       now() - %(died)s * interval '1 day'
  FROM event_records WHERE environment_id = %(environment)s AND event_id LIKE %(kind)s || '/%%'
"""
_ATTEMPTS = """
INSERT INTO invocation_attempts (invocation_id, number, started_at, duration_ms, outcome)
SELECT id, 1, created_at, 5, 'succeeded' FROM invocations WHERE environment_id = %(environment)s AND status = 'SUCCEEDED'
"""
_RUNS = """
INSERT INTO job_runs (environment_id, job_id, version_id, event_record_id, invocation_id)
SELECT environment_id, %(job)s, %(version)s, event_record_id, id
  FROM invocations WHERE environment_id = %(environment)s AND status = 'SUCCEEDED'
"""
# Due only tomorrow, so that nobody carries it out before retention has passed it.
_OWED = """
INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, died_at)
SELECT id, %(work)s, environment_id, tomorrow, CASE WHEN %(died)s IS NULL THEN tomorrow ELSE 'infinity' END,
       now() - %(died)s * interval '1 day'
  FROM {subjects}, (SELECT now() + interval '1 day') AS later(tomorrow) WHERE environment_id = %(environment)s AND {of_kind}
"""


@fault("F28", "old events are deleted under load, among them some that are owed, and dead letters")
def old_events_deleted(run: Run) -> None:
    """Nobody waits long for a lock, what is over goes, and what is owed stays and is carried out afterwards."""
    archive = factory.environment(f"archive-{run.seed}-{run.canary[-6:]}")
    _fill(archive, int(run.between(5_000, 40_000)))
    with _watched_waits(run) as waits, run.load():
        calm, began = run.stretch(run.between(4, 15)), time.time()
        for name in ("scheduler-1", "scheduler-2"):
            run.world.processes.dress(name, **_KEPT)
        run.within(run.between(45, 150), "what is over is gone", lambda: not _left(run, archive, stays=False))
        until = time.time()
    run.measured["longest wait for a lock, ms"] = longest = round(max(waits, default=0.0), 1)
    run.expect(
        longest <= _LONGEST_WAIT_MS, f"somebody waited {longest:.0f} ms for a lock of retention's, or it for one"
    )
    run.expect_no_failed_request()
    run.expect_latency(calm, (began, until), 2.0)
    staying = sum(kind.stays for kind in _OTHERS)
    run.expect(
        _left(run, archive, stays=True) == staying * _SOME,
        "an event that was owed or had died lately is not there any more",
    )
    _owe_now(archive)
    run.within(30, "what was owed is carried out", lambda: not _owed(run, archive))


def _fill(archive: words.Environment, finished: int) -> None:
    version = factory.job(archive)
    ids = {
        "environment": archive.id,
        "organization": archive.organization_id,
        "project": archive.project_id,
        "job": version.job_id,
        "version": version.id,
    }
    with db.unit(), db.atomic():
        for kind in (_FINISHED, *_OTHERS):
            _fill_kind(kind, {**ids, "count": finished if kind is _FINISHED else _SOME})
        db.run(_ATTEMPTS, ids)
        db.run(_RUNS, ids)


def _fill_kind(kind: Kind, ids: dict[str, object]) -> None:
    values = {**ids, "kind": kind.name, "status": kind.status, "died": kind.died, "delivered": kind.status is not None}
    db.run(_EVENTS, values)
    if kind.status is not None:
        db.run(_INVOCATIONS, values)
    if kind.status == "PENDING":
        pending = _OWED.format(subjects="invocations", of_kind="status = 'PENDING'")
        db.run(pending, {**values, "work": "invoke"})
    if kind.status is None:
        undelivered = _OWED.format(subjects="event_records", of_kind="event_id LIKE %(kind)s || '/%%'")
        db.run(undelivered, {**values, "work": "deliver"})


def _left(run: Run, archive: words.Environment, *, stays: bool) -> float:
    """How many events of the kinds that have to stay are there, or of the others."""
    names = ", ".join(f"'{kind.name}'" for kind in (_FINISHED, *_OTHERS) if kind.stays is stays)
    return run.world.number(
        f"SELECT count(*) FROM event_records WHERE environment_id = '{archive.id}'"
        f" AND split_part(event_id, '/', 1) IN ({names})"
    )


def _owe_now(archive: words.Environment) -> None:
    with db.unit():
        db.run("UPDATE outbox SET due_at = now(), hint_at = now() WHERE lane = %s AND died_at IS NULL", (archive.id,))


def _owed(run: Run, archive: words.Environment) -> float:
    return run.world.number(
        f"SELECT (SELECT count(*) FROM outbox WHERE lane = '{archive.id}' AND died_at IS NULL)"
        f" + (SELECT count(*) FROM invocations WHERE environment_id = '{archive.id}' AND status = 'PENDING')"
    )


@contextmanager
def _watched_waits(run: Run) -> Iterator[list[float]]:
    """The milliseconds of every wait for a lock that retention held, or waited for itself, as they are seen to grow."""
    waits: list[float] = []
    with closing(psycopg2.connect(run.world.postgres.url(run.world.database))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()

        def look() -> None:
            cursor.execute(_WAITS)
            waits.extend(wait for (wait,) in cursor.fetchall())

        with Every(_LOOK, look):
            yield waits
