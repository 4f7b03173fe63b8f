"""Whether the database stays the same size once events are as old as they get, and how long a day's deletion takes.

    .venv/bin/python -m benchmarks.retention [EVENTS] [DAYS]

A day is EVENTS (20,000) events, each with an invocation, a run and an attempt, ten of them dead letters and ten still owed.
DAYS (45) days are written one after the other into a PostgreSQL of its own, autovacuum on, with the retention of that day
after each: events go after 30 days, dead letters after 90.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from benchmarks import stage
from faults.machines import Postgres
from kongflow_events import words
from kongflow_events.services import retain
from kongflow_events.store import db, schema
from tests import factory
from tests.servers import open_to_others

KEEP, DEAD = 30, 90
TABLES = ("event_records", "invocations", "invocation_attempts", "job_runs")
# Of a day's events: dead letters, and those that are still owed.
_KEPT = 10
# The last days, over which the size has to be the same.
_LAST = 10

# A day that began `began` days ago, its rows as old as that.
_EVENTS = """
INSERT INTO event_records (id, event_id, name, payload, payload_raw, organization_id, environment_id, project_id,
                           created_at, updated_at, deliver_at, delivered_at)
SELECT uuidv7(-(%(began)s - number::float / %(count)s) * interval '1 day'), 'event-' || gen_random_uuid(), 'order.paid',
       payload, payload::text, %(organization)s, %(environment)s, %(project)s, at, at, at, at
  FROM (SELECT number, now() - (%(began)s - number::float / %(count)s) * interval '1 day' AS at,
               jsonb_build_object('number', number, 'filler', repeat(md5(number::text), 8)) AS payload
          FROM generate_series(1, %(count)s) AS number) AS numbers
"""
_INVOCATIONS = """
INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable, status, attempts,
                         created_at, completed_at, died_at)
SELECT uuidv7(created_at - now()), environment_id, id, %(dispatcher)s, name, '{"type": "EPHEMERAL", "url": "http://a/"}',
       CASE WHEN number <= %(kept)s THEN 'DEAD' WHEN number <= 2 * %(kept)s THEN 'PENDING' ELSE 'SUCCEEDED' END, 1,
       created_at, created_at, CASE WHEN number <= %(kept)s THEN created_at END
  FROM (SELECT *, row_number() OVER () AS number FROM event_records
         WHERE created_at > now() - %(began)s * interval '1 day') AS day
"""
_ATTEMPTS = """
INSERT INTO invocation_attempts (invocation_id, number, started_at, duration_ms, outcome, status_code, answer)
SELECT id, 1, created_at, 12, 'succeeded', 200, 'ok' FROM invocations
 WHERE created_at > now() - %(began)s * interval '1 day'
"""
_RUNS = """
INSERT INTO job_runs (id, environment_id, job_id, version_id, event_record_id, invocation_id, created_at, updated_at)
SELECT uuidv7(created_at - now()), environment_id, %(job)s, %(version)s, event_record_id, id, created_at, created_at
  FROM invocations WHERE created_at > now() - %(began)s * interval '1 day'
"""
_OWED = """
INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
SELECT id, 'post', dispatcher_id, now(), now() FROM invocations
 WHERE status = 'PENDING' AND created_at > now() - %(began)s * interval '1 day'
"""
_SIZES = f"""
SELECT sum(pg_table_size(name::regclass)) / 1048576.0 AS tables, sum(pg_indexes_size(name::regclass)) / 1048576.0 AS indexes
  FROM unnest(ARRAY{list(TABLES)}) AS name
"""
# Seconds between two looks of autovacuum, which has a day for what it gets a moment for here.
_NAP = 1


class Size(NamedTuple):
    """MB of the tables, and of their indexes."""

    tables: float
    indexes: float


def main(events: int, days: int) -> None:
    """Live through the days, and print their sizes."""
    print(f"{stage.load()} before")
    home = Path(tempfile.mkdtemp(prefix="kf-bench-"))
    open_to_others(home)
    home.chmod(0o755)
    postgres = Postgres(home / "postgres", autovacuum_naptime=f"{_NAP}s")
    try:
        postgres.start()
        schema.migrate(postgres.url())
        db.connect(postgres.url(), statement_seconds=600)
        live(events, days)
    finally:
        db.close()
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)
    print(f"{stage.load()} after")


def live(events: int, days: int) -> None:
    """Write each day, and retain as on its evening; one line a day, and one for the documents."""
    environment = factory.environment("acme")
    job = factory.job(environment)
    dispatcher = factory.dispatcher(environment, to=factory.to_job(job))
    sizes, seconds = [], []
    with db.unit():
        for day in range(days):
            # The last day is today's, and every other one as old as it is on that evening: no row has to be made older.
            age = days - 1 - day
            _write(environment, events, age, dispatcher=dispatcher, job=job.job_id, version=job.id)
            took, deleted = _retain(age)
            seconds.append(took)
            _vacuumed()
            sizes.append(Size(**{name: float(size) for name, size in db.rows(_SIZES)[0].items()}))
            print(
                f"day {day + 1}: {deleted:,} deleted in {took:.1f} s, {sizes[-1].tables:.1f} + {sizes[-1].indexes:.1f} MB",
                flush=True,
            )
        report(events, days, sizes, seconds)


def report(events: int, days: int, sizes: list[Size], seconds: list[float]) -> None:
    """One line for the documents."""
    old = max(0, days - KEEP)
    [stay] = db.rows(
        "SELECT count(*) FILTER (WHERE died_at IS NOT NULL) AS dead, count(*) FILTER (WHERE status = 'PENDING') AS owed"
        " FROM invocations"
    )
    assert stay == {"dead": _KEPT * days, "owed": _KEPT * days}, f"only {stay} are left"
    last = sizes[-_LAST:]
    spread = {
        name: max(getattr(one, name) for one in last) / min(getattr(one, name) for one in last) for name in Size._fields
    }
    stage.heading(
        "events a day",
        "days",
        f"tables MB, day {KEEP}",
        f"day {days}",
        f"indexes MB, day {KEEP}",
        f"day {days}",
        "largest ÷ smallest of the last ten days",
        "a day's deletion s",
    )
    stage.row(
        f"{events:,}",
        days,
        sizes[KEEP - 1].tables,
        sizes[-1].tables,
        sizes[KEEP - 1].indexes,
        sizes[-1].indexes,
        f"{spread['tables']:.3f}, {spread['indexes']:.3f}",
        max(seconds[-old:]),
    )


def _write(environment: words.Environment, events: int, age: int, **ids: object) -> None:
    values = {
        "began": age + 1,
        "count": events,
        "kept": _KEPT,
        "organization": environment.organization_id,
        "environment": environment.id,
        "project": environment.project_id,
        **ids,
    }
    with db.atomic():
        for statement in (_EVENTS, _INVOCATIONS, _ATTEMPTS, _RUNS, _OWED):
            db.run(statement, values)


def _retain(age: int) -> tuple[float, int]:
    """Retention as on the evening of the day that is `age` days ago: the seconds that it took, and the events."""
    began = time.monotonic()
    keeping = retain.Retention(timedelta(days=KEEP + age), timedelta(days=DEAD + age))
    deleted = keeping.advance(1_000_000)
    return time.monotonic() - began, deleted


def _vacuumed() -> None:
    """Until autovacuum has looked, and has nothing to do."""
    time.sleep(2 * _NAP)
    while db.rows("SELECT count(*) AS number FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'")[0][
        "number"
    ]:
        time.sleep(0.2)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, int(sys.argv[2]) if len(sys.argv) > 2 else 45)
