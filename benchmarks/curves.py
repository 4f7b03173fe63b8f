"""How the figures change as things grow: `python -m benchmarks.curves`, or one curve with `--only stored`.

All of it on one server, which stamps commits. What was sent before has its runs before the next is sent.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import click

from benchmarks import history, machine, measures, ours, report, workload
from benchmarks.measures import Bench
from benchmarks.servers import Servers
from tests.processes import procfile

Row = dict[str, Any]
_WARM = 500
_RATE = 100
# Runs of one flood where one event makes many, and events of it at the least.
_RUNS, _FEWEST = 16_000, 50
# Seconds until what is put in falls due.
_SOON = 6


class Size(NamedTuple):
    """How much is sent in one flood, and for how many seconds at a steady rate."""

    events: int
    seconds: float


class Numbers(click.ParamType[list[int]]):
    """Whole numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The list that a text stands for."""
        if isinstance(value, list):
            return value
        try:
            return [int(one.replace("_", "")) for one in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is no list of numbers", param, ctx)


def stored(servers: Servers, count: int, size: Size) -> Iterator[Row]:
    """Past events in the tables; new ones with random ids of their senders, and with the server's."""
    with ours.migrated(servers.stamping) as database:
        environment, key = ours.make_environment(database)
        ours.make_rules(database, environment)
        began = time.monotonic()
        history.events(database, environment, count)
        took = round(time.monotonic() - began)
        with _running(servers, database, key) as bench:
            for ids in (True, False):
                figures = _figures(bench, size, ids=ids)
                yield {"stored events": count, "ids": "senders'" if ids else "server's", **figures, "s to fill": took}


def dispatchers(servers: Servers, count: int, size: Size) -> Iterator[Row]:
    """Dispatchers in the environment, ten of which listen to the name."""
    listening = [{"tenant": [f"t{one % 5}", f"t{one % 5 + 5}"], "amount": [{"$gt": 10}]} for one in range(10)]
    with ours.migrated(servers.stamping) as database:
        environment, key = ours.make_environment(database)
        ours.make_rules(database, environment, listening)
        version = ours.make_job(database, environment)
        history.dispatchers(database, environment, version, count - len(listening), workload.RULES[0], apart=True)
        with _running(servers, database, key) as bench:
            yield {"dispatchers": count, **_figures(bench, size)}


def workers(servers: Servers, count: int, size: Size) -> Iterator[Row]:
    """Worker processes."""
    command = re.sub(r"--processes \d+", f"--processes {count}", procfile()["worker"])
    with ours.migrated(servers.stamping) as database:
        environment, key = ours.make_environment(database)
        ours.make_rules(database, environment)
        with _running(servers, database, key, worker=command) as bench:
            yield {"worker processes": count, **_figures(bench, size)}


def fan_out(servers: Servers, count: int, size: Size) -> Iterator[Row]:
    """Runs that each event starts."""
    with ours.migrated(servers.stamping) as database:
        environment, key = ours.make_environment(database)
        version = ours.make_job(database, environment)
        history.dispatchers(database, environment, version, count, {"amount": [{"$gt": 10}]}, apart=False)
        with _running(servers, database, key, fan_out=count) as bench:
            flood = measures.flood(bench, max(_FEWEST, min(size.events, _RUNS // count)))
            yield {
                "fan-out": count,
                "events": flood["events"],
                "B events/s": flood["events/s"],
                "runs/s": round(flood["events/s"] * count),
                "A requests/s": flood["requests/s"],
                "foreign cores": flood["foreign cores"],
            }


def delayed(servers: Servers, count: int, size: Size) -> Iterator[Row]:
    """Delayed events that wait for days, beside some that fall due within one second."""
    with ours.migrated(servers.stamping) as database:
        environment, key = ours.make_environment(database)
        ours.make_rules(database, environment)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        history.delayed(database, environment, count, tomorrow, timedelta(seconds=1))
        history.settle(database)
        with _running(servers, database, key) as bench:
            first = datetime.now(UTC) + timedelta(seconds=_SOON)
            history.delayed(database, environment, size.events, first, timedelta(seconds=1) / size.events)
            assert datetime.now(UTC) < first, "putting them in took longer than they were to wait"
            yield {"pending": count, **measures.lag(bench, first, size.events)}


def dev(servers: Servers, _: int, size: Size) -> Iterator[Row]:
    """The embedded service, beside the Procfile's processes."""
    for name, start in {"Procfile": ours.started, "dev": ours.dev}.items():
        with start(servers, servers.postgres) as system:
            bench = Bench(system, servers, servers.postgres)
            measures.warm_up(bench, _WARM)
            flood = measures.flood(bench, size.events)
            names = ("requests/s", "request p50 ms", "request p99 ms", "events/s", "foreign cores")
            yield {
                "": name,
                **{one: flood[one] for one in names},
                "largest MB": max(machine.peaks(system.leaders).values()),
            }


CURVES: dict[str, Callable[[Servers, int, Size], Iterator[Row]]] = {
    "stored": stored,
    "dispatchers": dispatchers,
    "delayed": delayed,
    "workers": workers,
    "fan_out": fan_out,
    "dev": dev,
}


@click.command()
@click.option("--only", default=",".join(CURVES), show_default=True, help="Which curves.")
@click.option("--stored", "stored_", type=Numbers(), default=[0, 1_000_000, 10_000_000], help="Past events.")
@click.option("--dispatchers", "dispatchers_", type=Numbers(), default=[20, 1_000, 10_000], help="In the environment.")
@click.option("--delayed", "delayed_", type=Numbers(), default=[0, 1_000_000], help="Delayed events that wait.")
@click.option("--workers", "workers_", type=Numbers(), default=[1, 2, 4], help="Worker processes.")
@click.option("--fan-out", "fan_out_", type=Numbers(), default=[1, 10, 100, 1_000], help="Runs of one event.")
@click.option("--events", default=8_000, show_default=True, help="Events of one flood.")
@click.option("--due", default=10_000, show_default=True, help="Delayed events that fall due in one second.")
@click.option("--seconds", default=10.0, show_default=True, help="Of the steady rate, 100 events a second.")
def main(only: str, events: int, due: int, seconds: float, **sizes: list[int]) -> None:
    """Measure each curve, print it as a table, and keep every row."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    found: dict[str, Any] = {"machine": machine.state()}
    with Servers() as servers:
        for name in only.split(","):
            size = Size(due if name == "delayed" else events, seconds)
            counts = sizes.get(f"{name}_", [1])
            found[name] = [row for count in counts for row in CURVES[name](servers, count, size)]
            print(f"\n{CURVES[name].__doc__}\n", _table(found[name]), sep="\n", flush=True)
    print(f"\nkept in {report.keep(found, 'curves')}")


@contextmanager
def _running(
    servers: Servers, database: str, key: str, *, fan_out: int = workload.FAN_OUT, **commands: str
) -> Iterator[Bench]:
    with ours.running(servers, database, key, **commands) as system:
        bench = Bench(system, servers, servers.stamping, fan_out)
        measures.warm_up(bench, max(1, _WARM // fan_out))
        yield bench


def _figures(bench: Bench, size: Size, *, ids: bool = True) -> Row:
    """B and C."""
    flood = measures.flood(bench, size.events, ids=ids)
    steady = measures.offer(bench, _RATE, size.seconds, ids=ids)
    return {
        "B events/s": flood["events/s"],
        "A requests/s": flood["requests/s"],
        "C p50 ms": steady["send to run p50 ms"],
        "C p99 ms": steady["send to run p99 ms"],
        "own cpu s per 1000": flood["own cpu s per 1000"],
        "PostgreSQL": flood["cpu s per 1000"]["PostgreSQL"],
        "foreign cores": flood["foreign cores"],
    }


def _table(rows: list[Row]) -> str:
    return report.grid(list(rows[0]), [[str(value) for value in row.values()] for row in rows])


if __name__ == "__main__":
    main()
