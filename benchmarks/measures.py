"""What is measured, on one running system: docs/performance.md says what the letters mean."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg2

from benchmarks import load, machine, workload
from benchmarks.servers import Postgres, Servers
from benchmarks.system import System

CONNECTIONS = 16
# Those of an open loop: enough that a line which is due finds one free.
_OPEN = 64
# Seconds between two looks at whether all runs exist, and that they may take.
_LOOK, _PATIENCE = 0.02, 300

_RUNS = """
SELECT (event.payload->>'order')::int, extract(epoch FROM pg_xact_commit_timestamp(run.xmin))
FROM event_records AS event JOIN job_runs AS run ON run.event_record_id = event.id
WHERE event.created_at >= to_timestamp(%s)
"""

_LAGS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(run.xmin) - event.deliver_at)
FROM event_records AS event JOIN job_runs AS run ON run.event_record_id = event.id
WHERE event.deliver_at >= %s AND event.deliver_at < %s + interval '1 second'
"""


class Bench(NamedTuple):
    """A system and what it stands on."""

    system: System
    servers: Servers
    postgres: Postgres
    # Rules that match one event, each of which starts one run.
    fan_out: int = workload.FAN_OUT

    @property
    def leaders(self) -> dict[str, int]:
        """The groups of processes whose time is counted."""
        return {**self.system.leaders, "PostgreSQL": self.postgres.pid, "RabbitMQ": self.servers.node.pid}


def warm_up(bench: Bench, count: int) -> None:
    """Fill pools, caches and plans with some orders, and wait for their runs."""
    put_through(bench, count)


def put_through(bench: Bench, count: int, rate: float = 0) -> None:
    """Send some orders, as fast as they are taken or at `rate` a second, and wait for their runs."""
    system, bodies = bench.system, workload.singles(_orders(count))
    with Runs(system.database) as runs:
        load.send(system.port, system.path, system.key, bodies, connections=CONNECTIONS, rate=rate)
        runs.wait(count * bench.fan_out)


def flood(bench: Bench, count: int, *, ids: bool = True) -> dict[str, Any]:
    """A, B and D: orders as fast as they are taken, until all of their runs exist. Without `ids` the server makes them."""
    bodies = workload.singles(_orders(count, ids=ids))
    with Runs(bench.system.database) as runs, _counted(bench) as used:
        sent = load.send(bench.system.port, bench.system.path, bench.system.key, bodies, connections=CONNECTIONS)
        ended = runs.wait(count * bench.fan_out)
    return {
        "events": count,
        "requests/s": round(sent.per_second, 1),
        "request p50 ms": percentile(sent.milliseconds, 0.5),
        "request p99 ms": percentile(sent.milliseconds, 0.99),
        "events/s": round(count / (ended - min(sent.due)), 1),
        "cpu s per 1000": used[0].per_thousand(count),
        "own cpu s per 1000": round(1000 * sum(used[0].groups[name] for name in bench.system.leaders) / count, 3),
        "load generator cpu s per 1000": round(1000 * sent.cpu / count, 3),
        **used[0].outside(),
    }


def offer(bench: Bench, rate: float, seconds: float, *, ids: bool = True) -> dict[str, Any]:
    """C: orders at a steady rate, whatever becomes of them; from when each was due to the commit of each of its runs."""
    count = int(rate * seconds)
    bodies = workload.singles(_orders(count, ids=ids))
    began = time.time()
    with Runs(bench.system.database) as runs, _counted(bench) as used:
        sent = load.send(bench.system.port, bench.system.path, bench.system.key, bodies, connections=_OPEN, rate=rate)
        runs.wait(count * bench.fan_out)
        made = runs.rows(_RUNS, began)
    taken = [1000 * (float(at) - sent.due[number]) for number, at in made]
    assert len(taken) == count * bench.fan_out, f"{len(taken)} runs for {count} events"
    return {
        "offered/s": rate,
        "events": count,
        "send to run p50 ms": percentile(taken, 0.5),
        "send to run p99 ms": percentile(taken, 0.99),
        **used[0].outside(),
    }


def bulk(bench: Bench, count: int, size: int = 1000, connections: int = 4) -> dict[str, Any]:
    """E: `size` orders a request; ingest alone, then with all their runs."""
    assert bench.system.bulk_path is not None
    bodies = workload.bulks(list(_orders(count)), size)
    with Runs(bench.system.database) as runs, _counted(bench) as used:
        sent = load.send(bench.system.port, bench.system.bulk_path, bench.system.key, bodies, connections=connections)
        ended = runs.wait(count * bench.fan_out)
    return {
        "events": count,
        "events/s": round(sent.per_second * size, 1),
        "request p50 ms": percentile(sent.milliseconds, 0.5),
        "to the last run events/s": round(count / (ended - min(sent.due)), 1),
        **used[0].outside(),
    }


def lag(bench: Bench, first: datetime, count: int) -> dict[str, Any]:
    """The trigger lag of delayed orders, `count` of which fall due in the second after `first`: to the commit of each run."""
    with Runs(bench.system.database) as runs, _counted(bench) as used:
        runs.wait(count * bench.fan_out)
        late = [1000 * float(one) for (one,) in runs.rows(_LAGS, first, first)]
    assert len(late) == count * bench.fan_out, f"{len(late)} runs for {count} events"
    return {
        "due": count,
        "lag p50 ms": percentile(late, 0.5),
        "lag p99 ms": percentile(late, 0.99),
        **used[0].outside(),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed, to a tenth."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def _orders(count: int, *, ids: bool = True) -> Iterator[dict[str, Any]]:
    """Orders, numbered from zero, with random ids of their sender or none."""
    return (workload.order(number, str(uuid.uuid4()) if ids else None) for number in range(count))


@contextmanager
def _counted(bench: Bench) -> Iterator[list[machine.Used]]:
    """What the machine used meanwhile; the list holds it at the end."""
    clock, own = machine.Clock(bench.leaders), machine.own_seconds()
    found: list[machine.Used] = []
    yield found
    found.append(clock.passed(machine.own_seconds() - own))


class Runs:
    """Watches runs come into being, those since it was made: their ids grow."""

    def __init__(self, database: str) -> None:
        self._connection = psycopg2.connect(database)
        self._connection.autocommit = True
        self._last = self.rows("SELECT id FROM job_runs ORDER BY id DESC LIMIT 1")

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def wait(self, count: int) -> float:
        """Until there are as many more; returns the time of day."""
        began = looked = time.monotonic()
        while (made := self._count()) < count:
            now = time.monotonic()
            if now - began > _PATIENCE:
                raise TimeoutError(f"{made} of {count} runs within {_PATIENCE} s")
            # Looking takes a tenth of one processor at the most.
            time.sleep(max(_LOOK, 10 * (now - looked)))
            looked = time.monotonic()
        return time.time()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def _count(self) -> int:
        if not self._last:
            return int(self.rows("SELECT count(*) FROM job_runs")[0][0])
        return int(self.rows("SELECT count(*) FROM job_runs WHERE id > %s", *self._last[0])[0][0])
