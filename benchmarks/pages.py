"""How long each page of the console takes, over as many stored events as are asked for.

    .venv/bin/python -m benchmarks.pages [EVENTS] [DEAD]

Starts a PostgreSQL, a RabbitMQ and the Procfile's web process and scheduler of its own. There are EVENTS (10,000,000) events
of the last twenty days, with two invocations and two runs each, and DEAD (100,000) dead letters; then PostgreSQL starts anew,
and every page is asked for once, and 20 times more.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import timedelta

import urllib3

from benchmarks import filling, history, ours, stage
from kongflow_events import words
from kongflow_events.console import door
from kongflow_events.services import sign_in
from kongflow_events.store import db
from tests import factory

_TIMES = 20
_FOUND = "<tr"


def main(events: int, dead: int) -> None:
    """Print a line for each page: its first answer, the median and the slowest of the others, and its rows."""
    print(f"{stage.load()} before")
    with stage.Stage() as service:
        began = time.monotonic()
        environment = _fill(service, events, dead)
        print(f"{events:,} events and {dead:,} dead letters put in within {time.monotonic() - began:.0f} s")
        paths = _paths(service)
        service.restart_database()
        with service.processes("web", "scheduler"):
            measure(service, environment, paths)
    print(f"{stage.load()} after")


def measure(service: stage.Stage, environment: words.Environment, paths: dict[str, str]) -> None:
    """Ask for every page as an operator who is signed in."""
    with db.unit():
        session = sign_in.sign_in_by_link(sign_in.make_link("night"), "127.0.0.1")
    pool = urllib3.PoolManager(headers={"Cookie": f"{door.SESSION_COOKIE}={session.token}"}, retries=False)
    base = f"{service.http('').url}/console/env/{environment.id}/"
    stage.heading("page", "first ms", "p50 ms", "slowest ms", "rows")
    for what, path in paths.items():
        first, rows = _ask(pool, base + path)
        others = [_ask(pool, base + path)[0] for _ in range(_TIMES)]
        stage.row(what, first, statistics.median(others), max(others), rows)


def _ask(pool: urllib3.PoolManager, url: str) -> tuple[float, int]:
    """Milliseconds until the whole page is there, and rows of its tables."""
    began = time.monotonic()
    answer = pool.request("GET", url, redirect=False)
    ms = 1000 * (time.monotonic() - began)
    assert answer.status == 200, f"{url} answered {answer.status}"
    return ms, answer.data.decode().count(_FOUND)


def _fill(service: stage.Stage, events: int, dead: int) -> words.Environment:
    environment, _ = ours.make_environment(service.database)
    ours.make_rules(service.database, environment)
    history.events(service.database, environment, events, until=timedelta())
    # What made the rules has closed the store behind itself.
    db.connect(service.database, pool_size=4, statement_seconds=600)
    with db.unit():
        hook = factory.dispatcher(environment, "backlog", to=factory.to_job(factory.job(environment, "late")))
    filling.dead_invocations(service, environment, hook, "dead-", dead)
    history.settle(service.database)
    return environment


def _paths(service: stage.Stage) -> dict[str, str]:
    """Every page, and what its filters make it look at: the rarest things, in the middle of what is stored, far back."""
    [[old]] = service.rows("SELECT id FROM event_records ORDER BY id OFFSET 1000 LIMIT 1")
    [[event, event_id, order]] = service.rows(
        "SELECT id, event_id, payload->>'order' FROM event_records"
        " WHERE id > (SELECT id FROM event_records ORDER BY id OFFSET 5000 LIMIT 1) AND name <> 'backlog' LIMIT 1"
    )
    [[run]] = service.rows(f"SELECT id FROM job_runs WHERE event_record_id = '{event}' LIMIT 1")
    [[busy]] = service.rows("SELECT dispatcher_id FROM invocations WHERE status = 'SUCCEEDED' LIMIT 1")
    [[dead_event]] = service.rows("SELECT event_record_id FROM invocations WHERE status = 'DEAD' LIMIT 1")
    since = service.rows("SELECT to_char(now() - interval '10 days', 'YYYY-MM-DD')")[0][0]
    return {
        "overview": "overview",
        "its live part": "overview/live",
        "events": "events",
        "events, far back": f"events?before={old}",
        "events of a time": f"events?until={since}",
        "events by a sender's id": f"events?id={event_id}",
        "events by a name that nobody sends": "events?name=nobody",
        "events by state, none there": "events?state=pending",
        "events by payload": f"events?q=payload.order:{order}",
        "event": f"events/{event}",
        "event with a dead letter": f"events/{dead_event}",
        "dispatchers": "dispatchers",
        "dispatcher": f"dispatchers/{busy}",
        "dead letters": "dead",
        "dead letters by a name that nobody sends": "dead?name=nobody",
        "dead letters, counted": "dead/redrive",
        "dead deliveries": "dead?of=deliveries",
        "runs": "runs",
        "runs by a job": "runs?job=job-3",
        "runs by status, none there": "runs?status=FAILURE",
        "run": f"runs/{run}",
        "keys": "keys",
        "audit log": "audit",
    }


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 100_000,
    )
