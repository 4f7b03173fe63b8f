"""Whether the processes keep their size under load: `python -m benchmarks.soak --minutes 60`.

Each minute has `rate` single events a second and ten bulks of a thousand; at its end what each process's memory is.
"""

from __future__ import annotations

import click

from benchmarks import machine, measures, ours, report
from benchmarks.measures import Bench
from benchmarks.servers import Servers

_BULKS, _SIZE, _WARM = 10, 1000, 1000


@click.command()
@click.option("--minutes", default=60, show_default=True, help="How long.")
@click.option("--rate", default=300, show_default=True, help="Single events a second.")
def main(minutes: int, rate: int) -> None:
    """Load the service, and print the resident memory of its largest process of each type, in MB, minute by minute."""
    print(machine.state(), flush=True)
    rows = []
    with Servers() as servers, ours.started(servers, servers.postgres) as system:
        bench = Bench(system, servers, servers.postgres)
        measures.warm_up(bench, _WARM)
        for minute in range(1, minutes + 1):
            measures.put_through(bench, 60 * rate, rate)
            measures.bulk(bench, _BULKS * _SIZE, _SIZE)
            sizes = machine.resident(system.leaders)
            rows.append([str(minute), *(f"{size:.0f}" for size in sizes.values())])
            print(*rows[-1], flush=True)
    print(report.grid(["minute", *ours.TYPES], rows))


if __name__ == "__main__":
    main()
