"""The first page of an environment: how much came, how fast it went on, what waits, what is dead, and who is at work."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from kongflow_events.console import charts, door
from kongflow_events.console.visits import View, Visit
from kongflow_events.store import console_overview, db

# Below every so many minutes stands a time.
_LABELLED: Final = 10
_SERIES: Final = ("received", "delivered", "failed", "dead")


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
    backlog = console_overview.backlog(environment)
    waited = [kind.oldest for kind in backlog if kind.oldest is not None]
    return {
        "now": now,
        "paused": "paused" in visit.query,
        "chart": _chart(minutes),
        "sums": {name: sum(getattr(one, name) for one in minutes) for name in _SERIES},
        "estimated": any(one.estimated for one in minutes),
        "p95": console_overview.p95(environment, starts[0]),
        "backlog": backlog,
        "oldest": max(waited, default=None),
        "dead": console_overview.dead(environment),
        "most": console_overview.MOST,
        "stored": console_overview.stored(),
        "processes": console_overview.processes(),
    }


def _chart(minutes: list[console_overview.Minute]) -> charts.Chart:
    labels = [f"{one.minute:%H:%M}" if one.minute.minute % _LABELLED == 0 else "" for one in minutes]
    series = {name: [getattr(one, name) for one in minutes] for name in _SERIES}
    # A line at zero would lie on those that are not.
    return charts.lines(
        [(name, values) for name, values in series.items() if any(values) or name == _SERIES[0]], labels
    )
