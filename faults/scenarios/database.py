"""PostgreSQL crashes, freezes, runs out of connections and of disk, and is made to work hard: F14 to F18, F25."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2

from faults import evidence
from faults.machines import peak_memory
from faults.run import Run
from faults.scenarios.registry import fault
from kongflow_events import models, words
from kongflow_events.services import ingest
from kongflow_events.store import db, outbox
from tests import factory

_FAN = 10_000
# MB that a worker's process may have grown by.
_MORE_MB = 100
_CLAIM_MS = 5.0
# What the schedulers say about an old snapshot, and the seconds that they get: two looks and a little more.
_ALARM, _ALL_CLEAR = "an old snapshot keeps vacuum from cleaning", "no old snapshot is held any more"
_ALARM_SECONDS = 12.0
_SCHEDULERS = ("scheduler-1", "scheduler-2")
_PROBE = """
INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at) VALUES (%s, 'post', %s, now(), now() + interval '1 hour')
"""
_OURS = "application_name = 'kongflow-events' AND datname = current_database()"


@fault("F14", "PostgreSQL crashes and is started again", quick=True)
def crashed(run: Run) -> None:
    """Clients are told 503, and the first success follows the server within two seconds."""
    with run.load():
        for _ in range(int(run.between(1, 3))):
            run.pause(2)
            run.world.journal.note("database crashed")
            run.world.postgres.crash()
            run.pause(1)
            run.world.postgres.start()
            run.world.journal.note("database started")
            back = time.time()
            run.within(2, "first success", partial(_succeeded, run, back))
            run.pause(1)
    _expect_503(run)


@fault("F15", "no connection is left in PostgreSQL")
def exhausted(run: Run) -> None:
    """503 with Retry-After within 1.5 s; everything works within five seconds of the end."""
    with run.load():
        run.pause(2)
        with _all_connections(run):
            since = time.time() + 0.5
            run.pause(run.between(6, 30))
            until = time.time()
        run.within(5, "first success", lambda: _succeeded(run, until))
    refused = [one for one in run.attempts(since, until) if one.status != 200]
    run.expect(refused, "the fault did not happen: no request was refused")
    run.expect(
        all(one.status == 503 and one.retry_after for one in refused), "not every refusal was a 503 with Retry-After"
    )
    _expect_fast(run, since, until, 1_500)


@fault("F16", "PostgreSQL is a black hole, then its sessions are ended at random")
def frozen(run: Run) -> None:
    """Requests end within five seconds, and no transaction is left open."""
    with run.load():
        run.pause(2)
        run.world.journal.note("database frozen")
        run.world.to_database.set("freeze")
        since = time.time()
        run.pause(run.between(10, 20))
        until = time.time()
        run.world.to_database.set("pass")
        run.world.journal.note("database flows")
        run.within(5, "first success", lambda: _succeeded(run, until))
        _end_sessions(run, run.between(4, 15))
    _expect_503(run)
    _expect_fast(run, since, until, 5_000)


@fault("F17", "a snapshot is held for a long time under load")
def long_snapshot(run: Run) -> None:
    """A claim by id stays cheap, however many dead rows the table keeps, and the schedulers say who holds it."""
    alarm, all_clear = _said_again(run, _ALARM), _said_again(run, _ALL_CLEAR)
    holder = psycopg2.connect(run.world.postgres.url(run.world.database))
    holder.set_session(isolation_level="REPEATABLE READ")
    with holder.cursor() as cursor, run.load():
        run.pause(2)
        before = _time_of_a_claim()
        cursor.execute("SELECT 1")
        run.pause(run.between(15, 300))
        claim = _time_of_a_claim()
        run.within(_ALARM_SECONDS, "every scheduler says who holds it", alarm)
    holder.close()
    run.within(_ALARM_SECONDS, "every scheduler says that it is over", all_clear)
    run.measured |= {"claim p99 before, ms": before, "claim p99, ms": claim}
    # Five milliseconds, or what two claims take on a machine that is busy with other things.
    run.expect(claim <= max(_CLAIM_MS, 2 * before), f"a claim takes {claim:.1f} ms in its 99th percentile")


@fault("F18", "the disk of PostgreSQL's log is full")
def disk_full(run: Run) -> None:
    """The server is down until there is room and it is started; what it acknowledged is there."""
    small = Path(run.world.postgres.data) / "pg_wal"
    with run.load():
        run.pause(2)
        run.world.journal.note("database disk full")
        filler = small.parent.parent / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], capture_output=True, check=False)
        run.within(90, "the server gives up", lambda: not _alive_after_a_switch(run))
        run.pause(2)
        filler.unlink()
        run.world.postgres.start()
        run.world.journal.note("database started")
        back = time.time()
        run.within(5, "first success", lambda: _succeeded(run, back))
    _expect_503(run)


@fault("F25", "one event for 10,000 dispatchers, its workers killed while they write", quick=True)
def fan_out(run: Run) -> None:
    """Exactly 10,000 invocations; the expansion takes five seconds at most; others hardly notice."""
    run.drain_bound = 60
    crowd = factory.environment(f"crowd-{run.seed}-{run.canary[-6:]}")
    version = factory.job(crowd, run.canary)
    _crowd(crowd, version)
    with run.load(20):
        run.pause(2)
        killed = _send_to(crowd, "killed")
        for share in (0.3, 0.6, 0.9):
            time.sleep(share * run.random.uniform(0.2, 1.0))
            for name in ("worker-1", "worker-2"):
                for pid in run.world.processes.children(name):
                    run.world.processes.kill_child(name, pid)
        run.within(40, "expanded after kills", lambda: _invocations(run, killed) == _FAN)
        run.world.within(90, "up", run.world.consuming)
        run.pause(2)
        calm, began = run.stretch(4), time.time()
        before = _memory(run)
        whole = _send_to(crowd, "whole")
        run.within(5, "expanded", lambda: _invocations(run, whole) == _FAN)
        until = time.time()
    run.world.within(run.drain_bound, "every run", lambda: run.world.owed() == 0)
    runs = f"SELECT count(*), count(DISTINCT invocation_id) FROM job_runs WHERE environment_id = '{crowd.id}'"
    run.expect(run.world.rows(runs)[0] == (2 * _FAN, 2 * _FAN), f"20,000 runs were wanted: {run.world.rows(runs)[0]}")
    run.measured["more memory of a worker, MB"] = more = round(_memory(run) - before, 1)
    run.expect(more <= _MORE_MB, f"a worker's memory grew by {more} MB, {_MORE_MB} at most")
    run.expect_latency(calm, (began, until), 2.0)


def _memory(run: Run) -> float:
    """The most MB that a process of the workers has had."""
    return max(peak_memory(pid) for name in ("worker-1", "worker-2") for pid in run.world.processes.children(name))


def _crowd(crowd: words.Environment, version: models.JobVersion) -> None:
    target = factory.to_job(version)
    with db.unit(), db.atomic():
        db.run(
            "INSERT INTO event_dispatchers (event, source, dispatchable_id, dispatchable, environment_id)"
            " SELECT 'fan.out', 'trigger.dev', 'crowd-' || n, jsonb_build_object('type', %s, 'id', %s), %s"
            " FROM generate_series(1, %s) AS n",
            (target["type"], target["id"], crowd.id, _FAN),
        )
        db.run(
            "INSERT INTO event_dispatcher_names (environment_id, source, name, dispatcher_id)"
            " SELECT environment_id, source, event, id FROM event_dispatchers WHERE environment_id = %s",
            (crowd.id,),
        )


def _send_to(crowd: words.Environment, event_id: str) -> str:
    with db.unit():
        return str(ingest.ingest_send_event(crowd, factory.event("fan.out", id=event_id)).id)


def _invocations(run: Run, record_id: str) -> object:
    return run.world.rows(f"SELECT count(*) FROM invocations WHERE event_record_id = '{record_id}'")[0][0]


def _succeeded(run: Run, since: float) -> bool:
    return any(one.status == 200 for one in run.attempts(since))


def _expect_503(run: Run) -> None:
    odd = {one.status for one in run.attempts()} - {None, 200, 503}
    run.expect(not odd, f"I10: the API answered {sorted(map(str, odd))}")


def _expect_fast(run: Run, since: float, until: float, most_ms: float) -> None:
    taken = [one.ms for one in run.attempts(since, until)]
    run.measured["slowest request, ms"] = max(taken, default=0)
    run.measured["p99 request, ms"] = evidence.percentile(taken, 0.99)
    run.expect(
        max(taken, default=0) <= most_ms,
        f"I10: a request took {max(taken, default=0):.0f} ms, {most_ms:.0f} ms at most",
    )


def _end_sessions(run: Run, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run.world.journal.note("database session ended")
        run.world.rows(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OURS} ORDER BY random() LIMIT 1"
        )
        time.sleep(0.5)


@contextlib.contextmanager
def _all_connections(run: Run) -> Iterator[None]:
    """Hold every connection that the server has, the service's among them."""
    held: list[Any] = []
    ender = psycopg2.connect(run.world.postgres.url(run.world.database))
    ender.autocommit = True
    run.world.journal.note("database connections taken")
    try:
        left = True
        while left:
            _take_all(run, held)
            with ender.cursor() as cursor:
                cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OURS}")
                left = bool(cursor.rowcount)
            time.sleep(0.05)
        yield
    finally:
        for connection in [*held, ender]:
            connection.close()
        run.world.journal.note("database connections given back")


def _take_all(run: Run, held: list[Any]) -> None:
    """Connect until there is no slot left. That one connection was long in coming does not say so."""
    while True:
        try:
            held.append(psycopg2.connect(run.world.postgres.url()))
        except psycopg2.OperationalError as error:
            if any(said in str(error) for said in ("too many clients", "connection slots")):
                return


def _time_of_a_claim() -> float:
    """The 99th percentile, in milliseconds, of claiming a row of the outbox by its id."""
    taken = []
    with db.unit():
        for _ in range(300):
            with contextlib.suppress(ZeroDivisionError), db.atomic():
                row = words.new_id()
                db.run(_PROBE, (row, row))
                began = time.monotonic()
                outbox.claim("post", row, 1.0)
                taken.append(1000 * (time.monotonic() - began))
                # The probe was never there.
                raise ZeroDivisionError
    return evidence.percentile(taken, 0.99)


def _said_again(run: Run, what: str) -> Callable[[], bool]:
    """Whether every scheduler has said so once more than by now."""
    before = {name: run.world.processes.log(name).count(what) for name in _SCHEDULERS}
    return lambda: all(run.world.processes.log(name).count(what) > count for name, count in before.items())


def _alive_after_a_switch(run: Run) -> bool:
    """Whether the server still runs after it was asked for one more piece of its log."""
    with contextlib.suppress(Exception):
        run.world.postgres.execute("SELECT pg_switch_wal()")
    return run.world.postgres.alive
