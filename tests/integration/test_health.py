"""Old snapshots are noticed: when one keeps vacuum from cleaning for too long, the log says so, and says when it is over."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg2
from apscheduler.schedulers.background import BackgroundScheduler
from structlog.testing import capture_logs

from kongflow_events import broker, scheduler, settings, words
from kongflow_events.services import health
from kongflow_events.store import db
from tests.servers import eventually

BEGAN, ENDED = "an old snapshot keeps vacuum from cleaning", "no old snapshot is held any more"


@contextmanager
def held(url: str) -> Iterator[int]:
    """A snapshot in a session of its own, whose process id it gives."""
    with closing(psycopg2.connect(url, application_name="report")) as connection:
        connection.set_session(isolation_level="REPEATABLE READ")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            yield connection.info.backend_pid


def look(watch: health.SnapshotWatch) -> list[Any]:
    with capture_logs() as said, db.unit():
        watch.look()
    return said


def test_a_snapshot_that_is_held_too_long_is_said_once_and_so_is_its_end(store: str) -> None:
    watch = health.SnapshotWatch(0)
    assert look(watch) == []
    with held(store) as pid:
        [said] = look(watch)
        assert (said["event"], said["log_level"]) == (BEGAN, "warning")
        assert said["holder"].startswith(f"session {pid} of ")
        assert said["holder"].endswith("(report, idle in transaction)")
        assert look(watch) == []

    # The session ends a moment after its connection.
    eventually(lambda: [one["event"] for one in look(watch)] == [ENDED])
    assert look(watch) == []


def test_a_snapshot_that_is_young_enough_is_nothing_to_speak_of(store: str) -> None:
    with held(store):
        assert look(health.SnapshotWatch(60)) == []


def test_an_open_transaction_that_looked_at_nothing_holds_nothing_back(store: str) -> None:
    with closing(psycopg2.connect(store)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert look(health.SnapshotWatch(0)) == []


def test_one_that_has_written_and_waits_is_said_too(store: str) -> None:
    with closing(psycopg2.connect(store)) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM token_buckets WHERE pg_current_xact_id() IS NULL")
        assert [one["event"] for one in look(health.SnapshotWatch(0))] == [BEGAN]


def test_a_role_that_may_not_see_other_roles_sessions_looks_on_without_a_complaint(store: str) -> None:
    role = f"blind_{uuid.uuid4().hex[:8]}"
    with held(store), db.unit():
        db.run(f"CREATE ROLE {role}")
        try:
            with db.atomic():
                db.run(f"SET LOCAL ROLE {role}")
                assert look(health.SnapshotWatch(0)) == []
        finally:
            db.run(f"DROP ROLE {role}")


def test_the_scheduler_keeps_watch(store: str) -> None:
    memory = broker.MemoryBroker()
    hints = broker.MemoryHints(dict.fromkeys(words.KINDS, memory), batch=100, high_water=100)
    ticking = scheduler.build(BackgroundScheduler, settings.Settings(snapshot_alarm=0.001), hints)
    with held(store), capture_logs() as said:
        ticking.start()
        # As the watch over the wall clock does: every job runs now.
        for job in ticking.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))
        try:
            eventually(lambda: BEGAN in [one["event"] for one in said])
        finally:
            ticking.shutdown()
