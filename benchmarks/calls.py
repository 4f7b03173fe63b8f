"""How many calls a second the poster makes while some targets have plenty waiting, and what one costs.

    .venv/bin/python -m benchmarks.calls [CALLS]

Starts a PostgreSQL, a RabbitMQ, one poster and one scheduler of the Procfile, and a receiver that answers at once; CALLS
(6,000) wait for one, two and eight targets of one environment.
"""

from __future__ import annotations

import sys
import time

from benchmarks import filling, machine, stage
from kongflow_events.services import environments
from kongflow_events.store import db
from tests import factory

_TARGETS = (1, 2, 8)


def main(calls: int) -> None:
    """Print a line for each number of targets."""
    print(f"{stage.load()} before")
    stage.heading("targets", "calls", "calls/s", "poster, ms of processor a call")
    for targets in _TARGETS:
        with stage.Stage() as service, stage.sink(service.home) as (url, _):
            measure(service, url, targets, calls)
    print(f"{stage.load()} after")


def measure(service: stage.Stage, url: str, targets: int, calls: int) -> None:
    """Fill the outbox while nobody works, then let the poster."""
    with db.unit():
        environment = environments.create_environment("acme", "shop", "DEVELOPMENT")
    for number in range(targets):
        target = factory.dispatcher(environment, f"to-{number}", to=factory.to_url(f"{url}/ok/{number}"))
        filling.owed_posts(service, environment, target, f"event-{number}-", calls // targets)
    with service.processes("poster", "scheduler") as (poster, _):
        while (left := _waiting(service)) == calls // targets * targets:
            time.sleep(0.02)
        clock = machine.Clock({"poster": poster})
        while service.owed():
            time.sleep(0.05)
        used = clock.passed()
    stage.row(targets, left, left / used.seconds, used.per_thousand(left)["poster"])


def _waiting(service: stage.Stage) -> int:
    return int(service.number("SELECT count(*) FROM outbox"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6_000)
