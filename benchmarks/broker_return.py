"""How long runs take to appear when RabbitMQ comes back, and what a send costs while it is away.

    .venv/bin/python -m benchmarks.broker_return [ROUNDS]

Starts a PostgreSQL, a RabbitMQ and the Procfile's processes of its own; 200 sends with the broker killed, each round.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from kongflow_events.embedded import EmbeddedPostgres
from kongflow_events.store import schema
from tests.integration.test_whole_path import Service
from tests.processes import procfile, running
from tests.servers import RabbitMQNode, eventually

SENDS = 200
JOBS = ("ship", "bill")


def main(rounds: int) -> None:
    """Print one line for the broker present, and one for each round without it."""
    home = Path(tempfile.mkdtemp(prefix="kf-bench-"))
    home.chmod(0o755)
    node = RabbitMQNode()
    node.start()
    node.wait()
    try:
        with EmbeddedPostgres(home / "postgres", options={"max_connections": "200"}) as postgres:
            schema.migrate(postgres.url)
            service = Service(postgres.url, node, home / "processes.log")
            commands = [procfile()[name] for name in ("web", "worker", "scheduler")]
            with running(commands, service.environ, service.log):
                service.http.wait()
                measure(service, node, rounds)
    finally:
        node.stop()
        shutil.rmtree(home, ignore_errors=True)


def measure(service: Service, node: RabbitMQNode, rounds: int) -> None:
    """Send, with the broker and without; wait for the runs."""
    service.register(*JOBS)
    report("with the broker", send_all(service, "with"))
    for number in range(rounds):
        eventually(lambda: service.count() == SENDS * len(JOBS) * (number + 1), 60)
        node.kill()
        seconds = send_all(service, f"without-{number}")
        node.start()
        node.wait()
        returned = time.monotonic()
        eventually(lambda: service.count() == SENDS * len(JOBS) * (number + 2), 60)
        report("without", seconds, f"all runs {time.monotonic() - returned:.2f} s after its return")


def send_all(service: Service, name: str) -> list[float]:
    """The seconds that each send took."""
    taken = []
    for number in range(SENDS):
        began = time.monotonic()
        service.send(f"{name}-{number}")
        taken.append(time.monotonic() - began)
    return taken


def report(what: str, seconds: list[float], more: str = "") -> None:
    """One line."""
    milliseconds = [1000 * one for one in seconds]
    print(f"{what:16} send p50 {statistics.median(milliseconds):.1f} ms, slowest {max(milliseconds):.0f} ms  {more}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
