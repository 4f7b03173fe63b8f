"""The list of events: filtered by what stands in the URL, and paged so that new events move nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from kongflow_events import dates, errors, words
from kongflow_events.console import door, search
from kongflow_events.console.visits import View, Visit
from kongflow_events.store import console_events
from kongflow_events.store.events import STATES

_SHOWN: Final = 50
_FILTERS: Final = ("name", "source", "id", "state", "test", "since", "until", "q")
_TESTS: Final = {"only": True, "none": False}


class Events:
    """All events of an environment."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """List those that are wanted, newest first."""
        asked = {name: visit.query.get(name, "").strip() for name in _FILTERS}
        before = words.as_id(visit.query["before"]) if "before" in visit.query else None
        values: dict[str, Any] = {
            "asked": asked,
            "states": STATES,
            "tests": tuple(_TESTS),
            "before": before,
            "filtered": any(asked.values()),
        }
        try:
            wanted = _wanted(asked)
        except errors.Invalid as error:
            return View("events.html", {**values, "trouble": error.issues[0].message, "found": None}, error.status)
        found = console_events.newest(visit.environment.id, wanted, before, _SHOWN)
        return View("events.html", {**values, "trouble": None, "found": found})

    on_head: Any = on_get


def _wanted(asked: Mapping[str, str]) -> console_events.Wanted:
    """What the filters mean; raises Invalid for one that means nothing."""
    if asked["state"] and asked["state"] not in STATES:
        raise _unclear("state", f"A state is one of {', '.join(STATES)}")
    if asked["test"] and asked["test"] not in _TESTS:
        raise _unclear("test", f"Test events are asked for by one of {', '.join(_TESTS)}")
    return console_events.Wanted(
        name=asked["name"] or None,
        source=asked["source"] or None,
        event_id=asked["id"] or None,
        state=asked["state"] or None,
        is_test=_TESTS.get(asked["test"]),
        since=_moment("since", asked["since"]),
        until=_moment("until", asked["until"]),
        inside=search.parse(asked["q"]),
    )


def _moment(name: str, text: str) -> datetime | None:
    """A time as people write it or as a browser's field gives it, which has no zone and is UTC here."""
    if not text:
        return None
    for ending in ("", "Z", ":00Z"):
        try:
            return dates.parse(text + ending)
        except ValueError:
            continue
    raise _unclear(
        name, "A time is like 2026-06-17, 2026-06-17T09:30 or 2026-06-17T09:30:00Z; without a zone it is UTC"
    )


def _unclear(name: str, message: str) -> errors.Invalid:
    return errors.Invalid(errors.Issue("custom", name, message))
