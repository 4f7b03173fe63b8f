"""What a redrive of many dead letters does to live traffic, at the usual rate and at the highest that is allowed.

    .venv/bin/python -m benchmarks.redrive [DEAD] [SECONDS]

Starts a PostgreSQL, a RabbitMQ and the Procfile's processes of its own; 100 events a second go to one job, DEAD (100,000)
dead invocations of the same environment are redriven beside them, and each look takes SECONDS (30) or until they are done.
"""

from __future__ import annotations

import sys
import time

from benchmarks import filling, stage, traffic
from kongflow_events.services import environments, keys
from kongflow_events.store import db
from tests import factory

RATE = 100.0
RATES = {"the usual rate": 200, "the highest rate": 10_000}


def main(dead: int, seconds: float) -> None:
    """Print a line for each rate: before, and during."""
    print(f"{stage.load()} before")
    stage.heading("", "redriven", "send p50 ms", "p99", "send to run p50 ms", "p99", "during ÷ before")
    for what, rate in RATES.items():
        with stage.Stage() as service, service.processes("web", "worker", "scheduler"):
            measure(service, what, rate, dead, seconds)
    print(f"{stage.load()} after")


def measure(service: stage.Stage, what: str, rate: int, dead: int, seconds: float) -> None:
    """One redrive at `rate`."""
    with db.unit():
        environment = environments.create_environment("acme", "shop", "DEVELOPMENT")
        key = keys.create_key(environment).key
    to_job = factory.to_job(factory.job(environment))
    factory.dispatcher(environment, "live", to=to_job)
    filling.dead_invocations(service, environment, factory.dispatcher(environment, "backlog", to=to_job), "dead-", dead)
    http = service.http(key)
    with traffic.Traffic(http.url, [traffic.To(key, "live")], RATE) as live:
        traffic.wait(3)
        began = time.time()
        traffic.wait(seconds)
        middle = time.time()
        operation = http("POST", "/api/v1/redrives", {"rate": rate})["id"]
        path = f"/api/v1/redrives/{operation}"
        traffic.wait(seconds, lambda: http("GET", path)["state"] == "DONE" and not service.owed())
        ended = time.time()
        done = http("POST", f"{path}/cancel")["done"]
    traffic.wait(60, lambda: not service.owed())
    runs = traffic.runs(service)
    before = traffic.latency(live.between(began, middle), runs)
    during = traffic.latency(live.between(middle, ended), runs)
    report(what, before, during, f"{done:,} in {ended - middle:.0f} s")


def report(what: str, before: traffic.Latency, during: traffic.Latency, more: str) -> None:
    """Two lines of the table."""
    for when, extra, one in ((f"{what}, before", "", before), (f"{what}, during", more, during)):
        assert one.done == one.sent, f"{one.sent - one.done} live events were not carried out"
        ratio = f"{during.work_p50 / before.work_p50:.1f}, {during.work_p99 / before.work_p99:.1f}" if extra else ""
        stage.row(when, extra, one.send_p50, one.send_p99, one.work_p50, one.work_p99, ratio)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, float(sys.argv[2]) if len(sys.argv) > 2 else 30)
