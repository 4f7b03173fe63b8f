"""What the rate limits cost a send: over one connection, without them, with the key's, with the organization's too.

    .venv/bin/python -m benchmarks.limits [ROUNDS]

Starts a PostgreSQL and the Procfile's web process of its own; 400 sends of each kind, each round.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.broker_return import report, send_all
from kongflow_events.embedded import EmbeddedPostgres
from kongflow_events.store import schema
from tests.integration.test_whole_path import Service
from tests.processes import procfile, running
from tests.servers import RabbitMQ

# Never used up, so that every send pays for the whole of it.
KEY = {"KONGFLOW_KEY_RATE": "100000", "KONGFLOW_KEY_BURST": "1000000"}
ORGANIZATION = {"KONGFLOW_ORGANIZATION_RATE": "100000", "KONGFLOW_ORGANIZATION_BURST": "1000000"}
KINDS = {"no limits": {}, "key's": KEY, "both": KEY | ORGANIZATION}


def main(rounds: int) -> None:
    """Print a line for each kind, over all rounds."""
    home = Path(tempfile.mkdtemp(prefix="kf-bench-"))
    home.chmod(0o755)
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    try:
        with EmbeddedPostgres(home / "postgres") as postgres:
            schema.migrate(postgres.url)
            # The web process never asks for the broker.
            service = Service(postgres.url, RabbitMQ("amqp://127.0.0.1"), home / "processes.log")
            for number in range(rounds):
                for kind, variables in KINDS.items():
                    with running([procfile()["web"]], service.environ | variables, service.log):
                        service.http.wait("/healthz")
                        send_all(service, f"warm-{kind}-{number}")
                        for part in ("a", "b"):
                            taken[kind] += send_all(service, f"{kind}-{number}-{part}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for kind, seconds in taken.items():
        report(kind, seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
