"""Dead letters: what used up its attempts, redriven or dismissed, one by one or many at a pace."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, get_args

import msgspec

from kongflow_events import errors, models, words
from kongflow_events.console import asking, door
from kongflow_events.console.visits import Done, View, Visit
from kongflow_events.services import bulk_operations, redrive
from kongflow_events.store import console_dead_letters, console_dispatchers, console_overview
from kongflow_events.store.redrives import Wanted

_PAGE: Final = 25
_OPERATIONS: Final = 5
CLASSES: Final[tuple[words.ErrorClass, ...]] = get_args(words.ErrorClass)
KINDS: Final = (redrive.INVOCATIONS, redrive.DELIVERIES)
# Rows a second to choose from; the first is chosen when nothing is said.
RATES: Final = (100, 10, 1000)


class DeadLetters:
    """All of the environment."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """List those that the filters in the URL ask for, and the redrives of late."""
        wanted, before = _wanted(visit), asking.row_id(visit, "before")
        found = console_dead_letters.newest(visit.environment.id, wanted, before, _PAGE)
        operations = bulk_operations.list_operations(visit.environment, redrive.KIND, limit=_OPERATIONS)
        values = {
            "wanted": wanted,
            "kinds": KINDS,
            "classes": CLASSES,
            "found": found,
            "called": console_dispatchers.called([one.dispatchable for one in found.items if one.dispatchable]),
            "redrive": visit.at("dead", "redrive", **asking.asked(wanted)),
            **asking.ways(visit, "dead", asking.asked(wanted), before, found.next),
            "tabs": _tabs(visit),
            "most": console_overview.MOST,
            "operations": [(one, progress(one)) for one in operations.items],
            "filtered": wanted != Wanted(of=wanted.of),
        }
        return View("dead.html", values)

    on_head: Any = on_get


class RedriveOne:
    """New attempts for one."""

    @door.change("dead-letter.redrive")
    def on_post(self, visit: Visit) -> Done:
        """Give it new attempts, due now."""
        of, subject = _subject(visit)
        (redrive.redrive_event if of == redrive.DELIVERIES else redrive.redrive_invocation)(visit.environment, subject)
        record = visit.form.get("record")
        return Done(
            _named(of, subject),
            "It has new attempts, beginning now",
            visit.at("dead", of=of),
            about=visit.at("events", words.as_id(record)) if record else "",
        )


class DismissOne:
    """The end of one."""

    @door.change("dead-letter.dismiss")
    def on_post(self, visit: Visit) -> Done:
        """End it for good."""
        of, subject = _subject(visit)
        (redrive.dismiss_event if of == redrive.DELIVERIES else redrive.dismiss_invocation)(visit.environment, subject)
        return Done(_named(of, subject), "It is dismissed", visit.at("dead", of=of))


class RedriveMany:
    """New attempts for all that the filters ask for."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """Count them first."""
        wanted = _wanted(visit)
        values = {
            "wanted": wanted,
            "asked": _given(asking.asked(wanted)),
            "counted": console_dead_letters.count(visit.environment.id, wanted),
            "rates": RATES,
            "to": visit.at("dead", "redrive", **asking.asked(wanted)),
            "back": visit.at("dead", **asking.asked(wanted)),
        }
        return View("redrive-new.html", values)

    on_head: Any = on_get

    @door.change("dead-letters.redrive")
    def on_post(self, visit: Visit) -> Done:
        """Begin."""
        wanted = _wanted(visit)
        rate = next((one for one in RATES if str(one) == visit.form.get("rate")), RATES[0])
        started = redrive.start_redrive(visit.environment, wanted, rate)
        return Done(
            f"redrive {started.id}",
            "The redrive has begun",
            visit.at("dead", "redrives", started.id),
            details={**_given(started.criteria), "rate": rate, "total": started.total},
        )


class Redrive:
    """A redrive of many."""

    @door.page
    def on_get(self, visit: Visit, redrive_id: str) -> View:
        """Show how far it is; the picture of it refreshes itself while it runs."""
        found = bulk_operations.get_operation(visit.environment, redrive.KIND, redrive_id)
        return View("redrive.html", {"operation": found, "progress": progress(found)})

    on_head: Any = on_get


class RedriveProgress:
    """How far a redrive is, as the part of its page that changes."""

    @door.page
    def on_get(self, visit: Visit, redrive_id: str) -> View:
        """Draw it."""
        found = bulk_operations.get_operation(visit.environment, redrive.KIND, redrive_id)
        return View("redrive-part.html", {"operation": found, "progress": progress(found)})


class StopRedrive:
    """The end of a redrive before its time."""

    @door.change("dead-letters.redrive.stop")
    def on_post(self, visit: Visit, redrive_id: str) -> Done:
        """End it after the step that is under way; what it did stays."""
        stopped = bulk_operations.cancel_operation(visit.environment, redrive.KIND, redrive_id)
        return Done(
            f"redrive {stopped.id}",
            f"It is stopped; {stopped.done} have new attempts",
            visit.at("dead", "redrives", stopped.id),
        )


class Tab(NamedTuple):
    """The way to one of the two lists, and how many are in it: none is counted beyond one more than the overview's most."""

    kind: str
    to: str
    number: int


class Progress(NamedTuple):
    """How far an operation is: rows passed of those that there were, and whether it goes on."""

    seen: int
    total: int
    running: bool
    percent: int


def progress(operation: models.BulkOperation) -> Progress:
    """How far an operation is."""
    # Rows that were redriven one by one meanwhile are never seen: an end is an end.
    seen = operation.total if operation.state == "DONE" else min(operation.seen, operation.total)
    percent = 100 if operation.state == "DONE" else round(100 * seen / max(operation.total, 1))
    return Progress(seen, operation.total, operation.state == "RUNNING", percent)


def _tabs(visit: Visit) -> list[Tab]:
    counted = console_overview.dead(visit.environment.id)
    numbers = {redrive.INVOCATIONS: counted.invocations, redrive.DELIVERIES: counted.deliveries}
    return [Tab(kind, visit.at("dead", of=kind), numbers[kind]) for kind in KINDS]


def _wanted(visit: Visit) -> Wanted:
    of = asking.choice(visit, "of", KINDS) or redrive.INVOCATIONS
    common = Wanted(
        of=of,
        name=asking.text(visit, "name"),
        since=asking.moment(visit, "since"),
        until=asking.moment(visit, "until"),
    )
    if of == redrive.DELIVERIES:
        return common
    return msgspec.structs.replace(
        common,
        dispatcher=asking.row_id(visit, "dispatcher"),
        error_class=asking.choice(visit, "error_class", CLASSES),
    )


def _given(filters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in filters.items() if value is not None}


def _subject(visit: Visit) -> tuple[str, str]:
    """What a form is about: an invocation by its id, or an event by its sender's."""
    of = visit.form.get("of", "")
    if of not in KINDS:
        raise errors.Refused("The form does not say what it is about")
    return of, visit.form.get("id", "")


def _named(of: str, subject: str) -> str:
    return f"{'event' if of == redrive.DELIVERIES else 'invocation'} {subject}"
