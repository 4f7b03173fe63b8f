"""What one tenant's backlog, or one target that hangs, does to the others.

    .venv/bin/python -m benchmarks.fairness [WAITING] [SECONDS]

Starts a PostgreSQL, a RabbitMQ and the Procfile's processes of its own; 100 events a second go to ten others, for SECONDS
(30) without and then with WAITING (50,000) rows: first the deliveries of an eleventh environment, beside ten environments;
then the calls to an eleventh target that never answers, beside ten targets.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from benchmarks import filling, stage, traffic
from kongflow_events import words
from kongflow_events.services import environments, keys
from kongflow_events.store import db
from tests import factory

OTHERS = 10
RATE = 100.0


def main(waiting: int, seconds: float) -> None:
    """Print two lines for each kind of backlog: without, and with."""
    print(f"{stage.load()} before")
    stage.heading("", "live events", "send p50 ms", "p99", "send to end p50 ms", "p99", "with ÷ without")
    with stage.Stage() as service, service.processes("web", "worker", "scheduler"):
        beside_an_environment(service, waiting, seconds)
    with stage.Stage() as service, service.processes("web", "worker", "poster", "scheduler"):
        beside_a_target(service, waiting, seconds)
    print(f"{stage.load()} after")


def beside_an_environment(service: stage.Stage, waiting: int, seconds: float) -> None:
    """Ten environments, each with a job, and one whose deliveries wait."""
    tenants = [_tenant(f"tenant-{number}") for number in range(OTHERS + 1)]
    for environment, _ in tenants:
        factory.dispatcher(environment, "live", to=factory.to_job(factory.job(environment, environment.slug)))
    busy, _ = tenants.pop()
    to = [traffic.To(key, "live") for _, key in tenants]

    def fill() -> None:
        filling.owed_deliveries(service, busy, "live", "event-", waiting)

    live = _Live(service, to, seconds, fill)
    live.report("environments", traffic.runs(service))


def beside_a_target(service: stage.Stage, waiting: int, seconds: float) -> None:
    """Ten targets that answer, and one that hangs."""
    environment, key = _tenant("acme")
    with stage.sink(service.home) as (url, log):
        for number in range(OTHERS):
            factory.dispatcher(environment, f"live-{number}", to=factory.to_url(f"{url}/ok/{number}"))
        hanging = factory.dispatcher(environment, "backlog", to=factory.to_url(f"{url}/hang"))
        to = [traffic.To(key, f"live-{number}") for number in range(OTHERS)]

        def fill() -> None:
            filling.owed_posts(service, environment, hanging, "event-", waiting)

        live = _Live(service, to, seconds, fill)
        live.report("targets", traffic.calls(service, log))


class _Live:
    """The traffic, without and then with what `fill` makes; what is left undone a minute later was held up for good."""

    def __init__(self, service: stage.Stage, to: list[traffic.To], seconds: float, fill: Callable[[], None]) -> None:
        with traffic.Traffic(service.http("").url, to, RATE) as live:
            # Caches and pools fill, and the first plans are made.
            traffic.wait(3)
            began = time.time()
            traffic.wait(seconds)
            middle = time.time()
            fill()
            filled = time.time()
            traffic.wait(seconds, lambda: not service.owed())
            ended = time.time()
        self.without, self.beside = live.between(began, middle), live.between(filled, ended)
        traffic.wait(60, lambda: not service.owed())

    def report(self, what: str, done: dict[str, float]) -> None:
        """Two lines of the table."""
        without, beside = traffic.latency(self.without, done), traffic.latency(self.beside, done)
        ratio = f"{beside.work_p50 / without.work_p50:.1f}, {beside.work_p99 / without.work_p99:.1f}"
        for when, extra, one in ((f"{what}, without", "", without), (f"{what}, with", ratio, beside)):
            ended = (
                f"{one.sent:,}" if one.done == one.sent else f"{one.sent:,}, of which {one.sent - one.done:,} not done"
            )
            stage.row(when, ended, one.send_p50, one.send_p99, one.work_p50, one.work_p99, extra)


def _tenant(name: str) -> tuple[words.Environment, str]:
    with db.unit():
        environment = environments.create_environment(name, name, "DEVELOPMENT")
        return environment, keys.create_key(environment).key


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000, float(sys.argv[2]) if len(sys.argv) > 2 else 30)
