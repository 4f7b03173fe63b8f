"""Whether a backlog drains as fast at its end as at its beginning, and what it costs.

    .venv/bin/python -m benchmarks.backlog [EVENTS]

EVENTS (1,000,000) that one job waits for are stored while nothing runs, in a PostgreSQL and a RabbitMQ of its own; then the
Procfile's worker and scheduler start. Prints the pace of every tenth, and what the draining took.
"""

from __future__ import annotations

import itertools
import sys
import time

from benchmarks import filling, stage
from faults.machines import members, peak_memory
from kongflow_events.services import environments
from kongflow_events.store import db
from tests import factory

_MOMENTS = """
SELECT extract(epoch FROM at)::float FROM (
    SELECT at, row_number() OVER (ORDER BY at) AS number
      FROM (SELECT pg_xact_commit_timestamp(xmin) AS at FROM job_runs) AS runs
) AS ordered WHERE number IN ({numbers}) ORDER BY number
"""


def main(events: int) -> None:
    """Fill, drain, and print."""
    print(f"{stage.load()} before")
    with stage.Stage() as service:
        with db.unit():
            environment = environments.create_environment("acme", "shop", "DEVELOPMENT")
        factory.dispatcher(environment, "backlog", to=factory.to_job(factory.job(environment)))
        filling.owed_deliveries(service, environment, "backlog", "event-", events)
        began = time.monotonic()
        with service.processes("worker", "scheduler") as leaders:
            while service.owed():
                time.sleep(1)
            seconds = time.monotonic() - began
            memory = max(peak_memory(pid) for leader in leaders for pid in members(leader))
        report(service, events, seconds, memory)
    print(f"{stage.load()} after")


def report(service: stage.Stage, events: int, seconds: float, memory: float) -> None:
    """The paces, and one line for the documents."""
    numbers = [1, *(events * tenth // 10 for tenth in range(1, 11))]
    moments = [at for (at,) in service.rows(_MOMENTS.format(numbers=", ".join(map(str, numbers))))]
    paces = [(events / 10) / (after - before) for before, after in itertools.pairwise(moments)]
    print("runs/s in each tenth: " + ", ".join(f"{pace:,.0f}" for pace in paces))
    hinted = service.number("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'outbox'")
    stage.heading(
        "waiting",
        "drained in s",
        "runs/s",
        "last ÷ first tenth",
        "deepest queue",
        "relay's hints/row",
        "largest process MB",
    )
    stage.row(
        f"{events:,}",
        round(seconds),
        f"{events / (moments[-1] - moments[0]):,.0f}",
        f"{paces[-1] / paces[0]:.2f}",
        max(service.deepest.values()),
        f"{hinted / events:.2f}",
        f"{memory:.0f}",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
