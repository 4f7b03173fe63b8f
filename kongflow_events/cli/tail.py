"""`tail`: events as they come, and what becomes of them."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final

import click

from kongflow_events.cli import output
from kongflow_events.cli.client import call
from kongflow_events.cli.invocations import target
from kongflow_events.interrupts import until_interrupted

_PAGE: Final = 100
# Pages of one look. What comes faster than that nobody can read, and it is said to be left out.
_PAGES: Final = 5
# What is remembered, so that it is not shown twice.
_REMEMBERED: Final = 20_000
# An event that has ended so has no invocation that would tell of it.
_ENDS: Final = ("unmatched", "dead", "cancelled")

Line = dict[str, Any]


@click.command()
@click.option("--name", default="*", metavar="NAME", help="Only events of this name; * stands for anything.")
@click.option("--source", default=None, help="Only events from this source.")
@click.option("--last", type=click.IntRange(0, _PAGE), default=0, help="Begin with so many of the newest events.")
@click.option("--every", type=click.FloatRange(0.1, 60), default=0.5, show_default=True, help="Seconds between looks.")
@click.option("--for", "seconds", type=float, default=None, metavar="SECONDS", help="End after so long.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON documents, one a line.")
def tail(name: str, source: str | None, last: int, every: float, seconds: float | None, as_json: bool) -> None:
    """Show events as they come, and what becomes of each at its dispatchers, until Ctrl-C.

    Example: kongflow-events tail --name 'order.*'
    """

    def wants(event: Line) -> bool:
        return fnmatchcase(event["name"], name) and source in (None, event["source"])

    show = output.show_json_line if as_json else _show
    end = math.inf if seconds is None else time.monotonic() + seconds
    watched = Watched(wants)
    with until_interrupted() as stopping:
        lines = watched.begin(last)
        while True:
            for line in lines:
                show(line)
            if time.monotonic() >= end or stopping.wait(every):
                return
            lines = watched.look()


class Watched:
    """What has been shown of the newest events, and what is therefore new."""

    def __init__(self, wants: Callable[[Line], bool]) -> None:
        self._wants = wants
        self._seen = _Memory()
        self._followed = _Memory()
        self._told = _Memory()

    def begin(self, last: int) -> Iterator[Line]:
        """What there is of the newest `last` events; those before them are over."""
        events = call("GET", "/api/v1/events", limit=_PAGE)["data"]
        for event in events[last:]:
            self._seen.add(event["id"])
        yield from self._tell(events)

    def look(self) -> Iterator[Line]:
        """What is new since the last look: events, and what became of those that were shown."""
        events, complete = self._newest()
        if not complete:
            yield {"type": "gap", "message": "more came than can be shown"}
        yield from self._tell(events)

    def _newest(self) -> tuple[list[Line], bool]:
        """Events from the newest back to one that was seen, and whether they reach back to it."""
        events: list[Line] = []
        cursor = None
        for _ in range(_PAGES):
            page = call("GET", "/api/v1/events", limit=_PAGE, cursor=cursor)
            events += page["data"]
            cursor = page["nextCursor"]
            if cursor is None or any(event["id"] in self._seen for event in page["data"]):
                return events, True
        return events, False

    def _tell(self, events: list[Line]) -> Iterator[Line]:
        for event in reversed(events):
            if self._seen.add(event["id"]) and self._wants(event):
                self._followed.add(event["id"])
                yield {"type": "event", **event}
        for event in reversed(events):
            ended = event["id"] in self._followed and event["state"] in _ENDS
            if ended and self._told.add((event["id"], event["state"])):
                yield {"type": "end", "id": event["id"], "name": event["name"], "state": event["state"]}
        for one in reversed(call("GET", "/api/v1/invocations", limit=_PAGE)["data"]):
            ended = one["eventId"] in self._followed and one["status"] != "PENDING"
            if ended and self._told.add((one["id"], one["status"])):
                yield {"type": "invocation", **one}


class _Memory:
    """The last things that were added, up to a bound."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, None] = OrderedDict()

    def add(self, one: Hashable) -> bool:
        """Remember it; False when it was known already."""
        if one in self._known:
            return False
        self._known[one] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return True

    def __contains__(self, one: Hashable) -> bool:
        return one in self._known


def _clock(line: Line) -> str:
    """When that was, by the service's clock; that of a look where the line does not say."""
    at = line.get("completedAt") or line.get("createdAt") or datetime.now(UTC).isoformat()
    return str(at)[11:19]


def _show(line: Line) -> None:
    clock = click.style(_clock(line), dim=True)
    if line["type"] == "gap":
        click.echo(f"{clock}  … {line['message']}", err=True)
    elif line["type"] == "event":
        click.echo(f"{clock}  {click.style(output.plain(line['name']), bold=True)}  {output.plain(line['id'])}")
    elif line["type"] == "end":
        click.echo(f"{clock}    {output.plain(line['id'])}  {output.coloured(line['state'])}")
    else:
        why = f"  {line['reason'] or line['lastError']}" if line["reason"] or line["lastError"] else ""
        what = output.plain(f"{line['eventId']}  {target(line)}")
        click.echo(f"{clock}    {what}  {output.coloured(line['status'])}{output.plain(why)}")
