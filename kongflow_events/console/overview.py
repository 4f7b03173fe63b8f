"""The first page of an environment: how much came, how fast it went on, what waits, what is dead, and who is at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from kongflow_events.console import charts, door
from kongflow_events.console.visits import View, Visit
from kongflow_events.store import console_overview, db
from kongflow_events.store.events import STATES

# Below every so many minutes stands a time.
_LABELLED: Final = 10


class Overview:
    """The page."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """Show all of it; `paused` in the URL keeps it from being loaded again."""
        return View("overview.html", _figures(visit))

    on_head: Any = on_get


class Live:
    """The figures alone, which the page loads every few seconds."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """Show them."""
        return View("overview-live.html", _figures(visit))

    on_head: Any = on_get


def _figures(visit: Visit) -> dict[str, Any]:
    environment = visit.environment.id
    now = db.now()
    last = now.replace(second=0, microsecond=0)
    starts = [last - timedelta(minutes=back) for back in reversed(range(console_overview.MINUTES))]
    # The minute that is under way ends now.
    ends = [*starts[1:], now]
    minutes = console_overview.minutes(environment, starts, ends)
    series = {
        "received": [one.received for one in minutes],
        "delivered": [one.states["delivered"] for one in minutes],
        "failed": [one.failed for one in minutes],
        "dead": [one.statuses["DEAD"] for one in minutes],
    }
    backlog = console_overview.backlog(environment)
    waited = [kind.oldest for kind in backlog if kind.oldest is not None]
    return {
        "now": now,
        "paused": "paused" in visit.query,
        "chart": _chart(series, starts),
        "sums": {name: sum(values) for name, values in series.items()},
        "states": {state: sum(one.states[state] for one in minutes) for state in STATES},
        "statuses": {status: sum(one.statuses[status] for one in minutes) for status in console_overview.STATUSES},
        "estimated": any(one.estimated for one in minutes),
        "p95": console_overview.p95(environment, starts[0]),
        "backlog": backlog,
        "oldest": max(waited, default=None),
        "dead": console_overview.dead(environment),
        "most": console_overview.MOST,
        "stored": console_overview.stored(),
        "processes": console_overview.processes(),
    }


def _chart(series: Mapping[str, Sequence[int]], starts: Sequence[datetime]) -> charts.Chart:
    labels = [f"{at:%H:%M}" if at.minute % _LABELLED == 0 else "" for at in starts]
    # A line at zero would lie on those that are not.
    return charts.lines(
        [(name, values) for name, values in series.items() if any(values) or name == "received"], labels
    )
