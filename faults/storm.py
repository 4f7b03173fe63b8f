"""Everything at once, at random, for minutes: any process killed, both servers crashed, queues purged; then it drains."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from http import HTTPStatus

from faults.processes import NAMES
from faults.run import Run
from faults.world import POST_LEASE
from kongflow_events import words

# Seconds between two kills, and how often in a storm each server crashes and the queues are purged.
_KILLS_EVERY = 5.0
_CRASHES = 5
_PURGES = 10
_RATE = 200.0
# Events from which the service's capacity is measured, before the storm.
_SAMPLE = 3_000
# The share of what was planned that has to come about.
_MOST_OF_IT = 0.8


def storm(run: Run, minutes: float) -> None:
    """`minutes` of it at 200 events a second offered; the drain's bound follows from backlog and capacity."""
    rows, per_second = _capacities(run)
    plan = _plan(run, 60 * minutes)
    began_at = time.time()
    with run.load(_RATE, senders=24):
        began = time.monotonic()
        for at, do in plan:
            time.sleep(max(0.0, began + at - time.monotonic()))
            with contextlib.suppress(Exception):
                # What is killed may be gone already; a server that does not come back is seen below.
                do()
        time.sleep(max(0.0, began + 60 * minutes - time.monotonic()))
        ended_at = time.time()
        run.world.heal()
    backlog = run.world.owed()
    calls = run.world.number("SELECT count(*) FROM outbox WHERE kind = 'post'")
    run.measured |= {"capacity, rows/s": round(rows, 1), "capacity, calls/s": round(per_second, 1)}
    run.measured |= {"backlog, rows": backlog, "backlog, calls": calls}
    # What is slowest in a sample is most of what is left after a storm.
    run.drain_bound = POST_LEASE + 1.5 * max(backlog / rows, calls / per_second)
    _expect_all_of_it(run, minutes, began_at, ended_at)


def _capacities(run: Run) -> tuple[float, float]:
    """Rows of the outbox, and calls, that the service carries out in a second when nothing stands in its way."""
    run.send_directly(_SAMPLE)
    began = time.monotonic()
    run.world.within(300, "the sample is carried out", lambda: run.world.owed() == 0)
    took = time.monotonic() - began
    # Runs that come with their delivery are no rows of their own.
    made = (
        f"SELECT count(*) FROM invocations WHERE environment_id = '{run.tenant.environment.id}'"
        f" AND dispatchable->>'type' <> '{words.JOB_VERSION}'"
    )
    calls = run.world.number(
        "SELECT count(*) / extract(epoch FROM max(started_at + duration_ms * interval '1 ms') - min(started_at))"
        " FROM invocation_attempts JOIN invocations ON invocations.id = invocation_id"
        f" WHERE environment_id = '{run.tenant.environment.id}'"
    )
    return (_SAMPLE + run.world.number(made)) / took, calls


def _expect_all_of_it(run: Run, minutes: float, began: float, ended: float) -> None:
    """A storm that did not blow proves nothing. What is to be killed may be gone already, now and then."""
    planned = {
        "kills": int(60 * minutes / _KILLS_EVERY),
        "database crashes": _CRASHES,
        "broker crashes": _CRASHES,
        "purges": _PURGES,
    }
    for what, count in planned.items():
        done = run.measured.get(what, 0)
        run.expect(done >= _MOST_OF_IT * count, f"the storm had {done:g} {what}, {count} were planned")
    stored = len(
        {one for attempt in run.attempts(began, ended) if attempt.status == HTTPStatus.OK for one in attempt.ids}
    )
    run.measured["events/s acknowledged"] = rate = round(stored / (ended - began), 1)
    run.expect(rate >= _MOST_OF_IT * _RATE, f"{rate} events/s were acknowledged, {_RATE:g} offered")


def _plan(run: Run, seconds: float) -> list[tuple[float, Callable[[], None]]]:
    kills = [(at, lambda: _kill(run)) for at in _moments(seconds, int(seconds / _KILLS_EVERY))]
    crashes = [(at, lambda: _crash_database(run)) for at in _moments(seconds, _CRASHES, 0.5)]
    ends = [(at, lambda: _crash_broker(run)) for at in _moments(seconds, _CRASHES, 0.75)]
    purges = [(at, lambda: _purge(run)) for at in _moments(seconds, _PURGES, 0.25)]
    return sorted(kills + crashes + ends + purges, key=lambda one: one[0])


def _moments(seconds: float, count: int, offset: float = 0.0) -> list[float]:
    return [(number + offset) * seconds / count for number in range(count)]


def _kill(run: Run) -> None:
    name = run.random.choice(list(NAMES))
    children = run.world.processes.children(name)
    if children and run.random.random() < 0.5:
        run.world.processes.kill_child(name, run.random.choice(children))
    else:
        run.world.processes.kill(name)
    run.count("kills")


def _crash_database(run: Run) -> None:
    run.world.journal.note("database crashed")
    run.world.postgres.crash()
    run.world.postgres.start()
    run.world.journal.note("database started")
    run.count("database crashes")


def _crash_broker(run: Run) -> None:
    run.world.journal.note("broker killed")
    run.world.node.kill()
    run.world.node.start()
    run.world.node.wait()
    run.count("broker crashes")


def _purge(run: Run) -> None:
    connection = run.world.node.connect()
    connection.channel().queue_purge(run.random.choice(words.KINDS))
    connection.close()
    run.count("purges")
