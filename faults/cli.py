"""`python -m faults`: which faults, how long, with which seeds; prints the table, keeps the records, exits 1 when red."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import click
import msgspec

from faults import controls, guards, record
from faults.disk import small_disk
from faults.record import Record
from faults.run import Run
from faults.scenarios import FAULTS, processes
from faults.storm import storm
from faults.world import Servers, World
from kongflow_events import logs

# The one fault that fills a disk has a small one of its own.
_DISK = "F18"
_MATRIX = "points"
# Percent of all calls that may be repeated in a set or a storm.
_REPEATED = 0.5


@click.command()
@click.option("--quick", "size", flag_value="quick", default=True, help="The short form of the quick set.")
@click.option("--full", "size", flag_value="full", help="The long form of every fault, the crash points, all controls.")
@click.option("--only", default="", help="Names, with commas: F6,F7, points, or controls such as relay.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1,), show_default=True, help="Once for each seed.")
@click.option("--again", is_flag=True, help="Do once more what was only late: a shared machine's stall is no fault.")
@click.option("--storm", "minutes", type=float, default=0.0, help="Minutes of a random storm, and nothing else.")
def main(size: str, only: str, seeds: tuple[int, ...], again: bool, minutes: float) -> None:
    """Break the service in every way that is known, and look whether anything was lost or done twice."""
    asked = [name.strip() for name in only.split(",") if name.strip()]
    logs.configure()
    # Ended by a signal, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    records: list[Record] = []
    path = record.new_file("storm" if minutes else size)
    with closing(Servers()) as servers, closing(Suite(servers, full=size == "full")) as suite:
        print(record.HEAD, flush=True)
        for one in suite.storms(seeds, minutes) if minutes else suite.run_all(asked, seeds, size, again=again):
            records.append(one)
            # What takes hours keeps what it has found if it is ended.
            record.keep(records, path)
    print(record.totals(records), f"kept in {path}", sep="\n")
    last = record.last(records)
    # A single fault may be one that makes calls repeat.
    too_often = not asked and record.share_repeated(last) > _REPEATED
    sys.exit(too_often or not all(one.green for one in last))


def _chosen(size: str, *, first: bool) -> list[str]:
    """Faults with every seed; the crash points, three times each, and the controls have no chance in them to speak of."""
    full = size == "full"
    faults = [name for name, one in FAULTS.items() if full or one.quick]
    if not first:
        return faults
    return [
        *faults,
        *([_MATRIX] if full else []),
        *(name for name, one in controls.CONTROLS.items() if full or one.quick),
    ]


class Suite:
    """Runs one after the other. They share a world as long as it is well; what turned red leaves none behind."""

    def __init__(self, servers: Servers, *, full: bool) -> None:
        self._servers, self._full = servers, full
        self._world: World | None = None

    def run_all(self, asked: Sequence[str], seeds: Sequence[int], size: str, *, again: bool) -> Iterator[Record]:
        """What was asked for, or all that belongs to this size, with every seed; each record as soon as it is there."""
        for seed in seeds:
            for name in asked or _chosen(size, first=seed == seeds[0]):
                yield from self.run_in_turn(name, seed, again=again)

    def storms(self, seeds: Sequence[int], minutes: float) -> Iterator[Record]:
        """A storm of so many minutes for each seed."""
        for seed in seeds:
            yield self.run("storm", seed, lambda run: storm(run, minutes))

    def run_in_turn(self, name: str, seed: int, *, again: bool) -> list[Record]:
        """The records of one: two when it was only late at first, and is to be done `again` then."""
        found = self.run_named(name, seed)
        return [found, self.run_named(name, seed)] if again and found.only_late else [found]

    def run_named(self, name: str, seed: int) -> Record:
        """The fault, the control, or the matrix of this name."""
        if name in controls.CONTROLS:
            return self._control(controls.CONTROLS[name], seed)
        if name == _MATRIX:
            return self.run(name, seed, processes.crash_points)
        if name not in FAULTS:
            raise click.BadParameter(f"no fault {name}: {', '.join([*FAULTS, _MATRIX, *controls.CONTROLS])}")
        if name == _DISK:
            return self._on_a_small_disk(seed)
        return self.run(name, seed, FAULTS[name].body)

    def run(self, name: str, seed: int, body: Callable[[Run], None]) -> Record:
        """One scenario in the shared world."""

        def shared() -> Record:
            if self._world is None:
                self._world = World(self._servers).__enter__()
            return self._in(self._world, name, seed, body)

        found = _shown(name, seed, shared)
        if not found.green:
            self.close()
        return found

    def close(self) -> None:
        """End the shared world."""
        world, self._world = self._world, None
        if world is not None:
            world.__exit__()

    def _in(self, world: World, name: str, seed: int, body: Callable[[Run], None]) -> Record:
        world.empty_queues()
        world.measure_sizes()
        run = Run(world, name, seed, full=self._full)
        body(run)
        return run.finish()

    def _control(self, control: controls.Control, seed: int) -> Record:
        """Red is what is wanted here, in the invariant that was named; its absence is the finding."""
        # The guard that a single process lacks is taken away by its scenario.
        environ = {} if control.name == "unique" else guards.without(control.name)

        def broken() -> Record:
            with _alone(self._servers, environ) as world:
                found = self._in(world, control.name, seed, control.body)
            return _judged(control, found)

        self.close()
        return _shown(control.name, seed, broken)

    def _on_a_small_disk(self, seed: int) -> Record:
        def full_disk() -> Record:
            with small_disk(self._servers) as servers, _alone(servers, {}) as world:
                return self._in(world, _DISK, seed, FAULTS[_DISK].body)

        self.close()
        return _shown(_DISK, seed, full_disk)


@contextmanager
def _alone(servers: Servers, environ: Mapping[str, str]) -> Iterator[World]:
    with World(servers, environ) as world:
        yield world


def _judged(control: controls.Control, found: Record) -> Record:
    red = sorted({finding.partition(":")[0] for finding in found.findings})
    if control.turns_red is None:
        return found
    wrong = [] if control.turns_red in red else [f"{control.turns_red} did not turn red; red are {red}"]
    note = f"without the guard: {', '.join(red)} red, {found.lost} lost, {found.duplicated} duplicated"
    return msgspec.structs.replace(found, findings=wrong, unexpected=len(wrong), lost=0, duplicated=0, note=note)


def _shown(name: str, seed: int, work: Callable[[], Record]) -> Record:
    """Do it and print its line. What cannot be carried through is red: a fault that was skipped proves nothing."""
    began = time.monotonic()
    try:
        found = work()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other faults are still to be run
        found = Record.broken(name, seed, f"{type(error).__name__}: {error}", time.monotonic() - began)
    print(record.line(found), flush=True)
    return found
