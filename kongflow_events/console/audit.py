"""The audit log: who did what, when, on what, from where."""

from __future__ import annotations

from typing import Any, Final

from kongflow_events.console import asking, door
from kongflow_events.console.visits import View, Visit
from kongflow_events.store import console_audit

_PAGE: Final = 50
HERE: Final = "this environment"


class Audit:
    """The entries."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """List those that the filters in the URL ask for, of every environment unless it is to be this one."""
        where = asking.choice(visit, "where", (HERE,))
        wanted = console_audit.Wanted(
            environment=visit.environment.id if where else None,
            operator=asking.text(visit, "operator"),
            action=asking.text(visit, "action"),
            subject=asking.text(visit, "subject"),
            since=asking.moment(visit, "since"),
            until=asking.moment(visit, "until"),
        )
        before = asking.row_id(visit, "before")
        found = console_audit.newest(wanted, before, _PAGE)
        asked = {**asking.asked(wanted), "environment": None, "where": where}
        values = {
            "wanted": wanted,
            "where": where,
            "here": HERE,
            "found": found,
            **asking.ways(visit, "audit", asked, before, found.next),
            "filtered": wanted != console_audit.Wanted(),
        }
        return View("audit.html", values)

    on_head: Any = on_get
