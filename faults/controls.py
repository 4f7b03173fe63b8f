"""The negative controls: the service without one of its guards, which has to turn an invariant red."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from faults.guards import without
from faults.run import Run
from faults.scenarios import broker, processes


class Control(NamedTuple):
    """A guard that is taken away, the scenario that shows it, and the invariant that has to see it; None: nothing may."""

    name: str
    title: str
    body: Callable[[Run], None]
    turns_red: str | None
    quick: bool = False


def _unfenced(run: Run) -> None:
    run.add_hook("slow")
    processes.late_finish(run, "fence")


def _plain(run: Run) -> None:
    with run.load():
        run.pause(3)
    run.drain_bound = 10


def _twice_killed(run: Run) -> None:
    with run.load(300):
        for _ in range(2):
            run.pause(3)
            run.world.node.kill()
            run.pause(0.5)
            run.world.node.start()
            run.world.node.wait()
    run.drain_bound = 40


def _no_constraint(run: Run) -> None:
    table = "ALTER TABLE event_records DROP CONSTRAINT event_records_event_id_environment_id_key"
    run.world.postgres.execute(table, run.world.database)
    with run.load():
        run.crash("web", "ingest.after_commit", 3, **without("unique"))
        run.pause(3)


CONTROLS = {
    one.name: one
    for one in (
        Control("fence", "a finish does not ask who holds the lease", _unfenced, "I7"),
        Control("relay", "the relay is off", _plain, "I6"),
        Control("net", "each row is hinted once, and never again", _twice_killed, None),
        Control("confirms", "as `net`, and hints are published unconfirmed", _twice_killed, "I6"),
        Control("unique", "no unique event id", _no_constraint, "I1", quick=True),
        Control("depth", "every queue looks empty", broker.overload, "I8", quick=True),
    )
}
