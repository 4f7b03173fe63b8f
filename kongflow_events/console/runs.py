"""Runs: what the environment's jobs were started for."""

from __future__ import annotations

from typing import Any, Final, get_args

from kongflow_events import errors, words
from kongflow_events.console import asking, door
from kongflow_events.console.visits import Done, View, Visit
from kongflow_events.schemas.answers import RunStatus
from kongflow_events.services import runs
from kongflow_events.store import console_runs

_PAGE: Final = 25
STATUSES: Final[tuple[RunStatus, ...]] = get_args(RunStatus)


class Runs:
    """All of the environment."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """List those that the filters in the URL ask for."""
        wanted = console_runs.Wanted(job=asking.text(visit, "job"), status=asking.choice(visit, "status", STATUSES))
        before = asking.row_id(visit, "before")
        environment = visit.environment
        found = console_runs.newest(environment.id, environment.project_id, wanted, before, _PAGE)
        values = {
            "wanted": wanted,
            "statuses": STATUSES,
            "found": found,
            **asking.ways(visit, "runs", asking.asked(wanted), before, found.next),
            "filtered": wanted != console_runs.Wanted(),
        }
        return View("runs.html", values)

    on_head: Any = on_get


class Run:
    """One."""

    @door.page
    def on_get(self, visit: Visit, run_id: str) -> View:
        """Show what it was started for, and how far it is."""
        row = runs.get_run(visit.environment, run_id)
        listed = console_runs.get(visit.environment.id, row.id)
        if listed is None:
            raise errors.NotFound("Run not found")
        ended = row.status in words.FINAL_RUN_STATUSES
        return View("run.html", {"run": listed, "row": row, "ended": ended})

    on_head: Any = on_get


class CancelRun:
    """The end of one before its time."""

    @door.change("run.cancel")
    def on_post(self, visit: Visit, run_id: str) -> Done:
        """Cancel it, unless it has ended."""
        row = runs.cancel_run(visit.environment, run_id)
        said = "The run is cancelled" if row.status == "CANCELED" else "The run had ended by itself"
        return Done(f"run {row.id}", said, visit.at("runs", row.id))
