"""`make bench`: the service, what a team would write by hand, and the limit of the machine, in one run.

    .venv/bin/python -m benchmarks.compare --ours-only --runs 1

prints a quick figure in about a minute.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks import ceiling, machine, measures, ours, peers, report
from benchmarks.measures import Bench
from benchmarks.servers import Servers
from benchmarks.system import Starter


class Contender(NamedTuple):
    """A system, and the events of one flood and of the warm-up before it: some seconds' work for each."""

    start: Starter
    events: int
    warm: int


CONTENDERS = {
    "ours": Contender(ours.started, 8000, 1000),
    "node + graphile-worker": Contender(peers.node_graphile, 2000, 200),
    "FastAPI + Celery": Contender(peers.fastapi_celery, 800, 100),
}
RATES = (100, 500)
_BULK = 20_000


@click.command()
@click.option("--ours-only", is_flag=True, help="Leave the peers out.")
@click.option("--runs", default=3, show_default=True, help="Rounds; in each every system has its turn.")
@click.option("--events", default=8000, show_default=True, help="Events of one flood, for the service.")
@click.option("--seconds", default=10, show_default=True, help="Of each steady rate, and of each limit.")
@click.option("--phases", default="flood,bulk,offer,limit", show_default=True, help="What is measured.")
@click.option("--data", type=click.Path(path_type=Path), help="Keep the servers' data here, databases included.")
@click.option("--postgres", multiple=True, metavar="NAME=VALUE", help="A setting of PostgreSQL.")
def main(
    ours_only: bool, runs: int, events: int, seconds: int, phases: str, data: Path | None, postgres: tuple[str, ...]
) -> None:
    """Measure, print the table, and keep every single result."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    chosen = CONTENDERS | {"ours": CONTENDERS["ours"]._replace(events=events)}
    if ours_only:
        chosen = {"ours": chosen["ours"]}
    found: dict[str, Any] = {"machine": machine.state(), "rounds": []}
    wanted = phases.split(",")
    with Servers(data, dict(one.split("=", 1) for one in postgres)) as servers:
        for _ in range(runs):
            results = {name: turn(servers, one, seconds, wanted) for name, one in chosen.items()}
            if "limit" in wanted:
                results["limit"] = ceiling.measure(servers, seconds)
            found["rounds"].append(results)
            print(json.dumps(results), file=sys.stderr, flush=True)
    path = report.keep(found, "compare")
    print(report.table(found), f"\nkept in {path}", sep="\n")


def turn(servers: Servers, one: Contender, seconds: float, phases: list[str]) -> dict[str, Any]:
    """One system's turn: a flood and the bulk on the plain server, the steady rates on the one that stamps commits."""
    found: dict[str, Any] = {}
    if "flood" in phases or "bulk" in phases:
        with one.start(servers, servers.postgres) as system:
            bench = Bench(system, servers, servers.postgres)
            measures.warm_up(bench, one.warm)
            if "flood" in phases:
                found["flood"] = measures.flood(bench, one.events)
            if "bulk" in phases and system.bulk_path:
                found["bulk"] = measures.bulk(bench, _BULK)
            found["peak MB"] = machine.peaks(system.leaders)
            found["largest MB"] = max(found["peak MB"].values())
    if "offer" in phases:
        with one.start(servers, servers.stamping) as system:
            bench = Bench(system, servers, servers.stamping)
            measures.warm_up(bench, one.warm)
            able = found["flood"]["events/s"] if "flood" in found else float("inf")
            found["offer"] = {str(rate): measures.offer(bench, rate, seconds) for rate in RATES if rate < able}
    return found


if __name__ == "__main__":
    main()
