"""Dispatchers: who listens, how each is doing, and what can be done about it."""

from __future__ import annotations

from typing import Any, Final, get_args

import falcon
import msgspec

from kongflow_events import errors, patterns, retries, schemas, words
from kongflow_events.console import asking, door, reasons, rendering, shown, strips
from kongflow_events.console.visits import Done, View, Visit
from kongflow_events.services import dispatchers, explain, probe, rotate
from kongflow_events.store import console_dispatchers, readers
from kongflow_events.store.dispatchers import Listed, with_names

_PAGE: Final = 25
# Marks of a strip on a list, and on a dispatcher's own page.
_FEW, _MANY = 24, 60
_INVOCATIONS: Final = 20
# Calls that wait are counted so far.
_MOST_WAITING: Final = 1000
TYPES: Final = (words.JOB_VERSION, words.DYNAMIC_TRIGGER, words.EPHEMERAL, words.WEBHOOK)
STATES: Final[tuple[console_dispatchers.State, ...]] = get_args(console_dispatchers.State)
# Characters of a payload, and of a context, that a form begins with.
_LONGEST: Final = 10_000
# The fields of the form that asks about an event.
_ASKED: Final = ("event_id", "name", "source", "payload", "context", "account")
_DAY: Final = 86_400
OVERLAPS: Final = {"0": 0, "1 hour": 3600, "1 day": _DAY, "7 days": 7 * _DAY}


class Dispatchers:
    """All of the environment."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """List those that the filters in the URL ask for."""
        wanted = console_dispatchers.Wanted(
            name=asking.text(visit, "name"),
            source=asking.text(visit, "source"),
            type=asking.choice(visit, "type", TYPES),
            state=asking.choice(visit, "state", STATES),
        )
        before = asking.row_id(visit, "before")
        found = console_dispatchers.newest(visit.environment.id, wanted, before, _PAGE)
        listed = with_names(found.items)
        recent = console_dispatchers.recent([one.row.id for one in listed], _FEW)
        values = {
            "wanted": wanted,
            "types": TYPES,
            "states": STATES,
            "rows": [(one, strips.of_invocations(recent.get(one.row.id, []), _FEW)) for one in listed],
            "called": console_dispatchers.called([one.row.dispatchable for one in listed]),
            **asking.ways(visit, "dispatchers", asking.asked(wanted), before, found.next),
            "filtered": wanted != console_dispatchers.Wanted(),
        }
        return View("dispatchers.html", values)

    on_head: Any = on_get


class Dispatcher:
    """One."""

    @door.page
    def on_get(self, visit: Visit, dispatcher_id: str) -> View:
        """Show what it asks, how its target is doing, and what it did last."""
        return _page(visit, dispatcher_id)

    on_head: Any = on_get


class Explain:
    """Why an event would reach a dispatcher, or would not."""

    def on_post(
        self, request: falcon.Request, response: falcon.Response, dispatcher_id: str, **parameters: str
    ) -> None:
        """Say what it makes of the event in the form. It only reads, so viewers may ask too."""
        with door.telling(request, response):
            visit = door.enter_with_form(request, parameters)
            with readers.reading():
                rendering.send(request, response, _explained(visit, dispatcher_id), visit)


class Enable:
    """Let it listen."""

    @door.change("dispatcher.enable")
    def on_post(self, visit: Visit, dispatcher_id: str) -> Done:
        """Enable it; its target begins anew."""
        return _changed(
            visit, dispatcher_id, schemas.DispatcherChange(enabled=True), "It is enabled, and its target begins anew"
        )


class Disable:
    """Let it listen no more."""

    @door.change("dispatcher.disable")
    def on_post(self, visit: Visit, dispatcher_id: str) -> Done:
        """Disable it; what is owed is skipped."""
        return _changed(
            visit,
            dispatcher_id,
            schemas.DispatcherChange(enabled=False),
            "It is disabled: it hears no event, and what it owes is skipped",
        )


class Pause:
    """Let its calls wait."""

    @door.change("dispatcher.pause")
    def on_post(self, visit: Visit, dispatcher_id: str) -> Done:
        """Pause it; what is owed waits and is kept."""
        return _changed(
            visit, dispatcher_id, schemas.DispatcherChange(paused=True), "It is paused: what it owes waits, and is kept"
        )


class Resume:
    """Let its calls go on."""

    @door.change("dispatcher.resume")
    def on_post(self, visit: Visit, dispatcher_id: str) -> Done:
        """Resume it; what has waited is called, oldest first, once its target does not rest."""
        change = schemas.DispatcherChange(paused=False)
        resumed = dispatchers.update_event_dispatcher(visit.environment, dispatcher_id, change).dispatcher
        return _done(
            visit,
            dispatcher_id,
            "It goes on when its target's rest is over; Try its target now calls it at once"
            if resumed.rests
            else "It goes on: what has waited is called, oldest first",
        )


class Probe:
    """Call it, to see what it answers."""

    @door.change("dispatcher.test")
    def on_post(self, visit: Visit, dispatcher_id: str) -> Done:
        """Send a webhook a test event."""
        invocation_id = probe.probe_webhook(visit.environment, dispatcher_id)
        return Done(
            f"dispatcher {dispatcher_id}",
            "A test event is on its way; a moment later it stands among the recent invocations",
            visit.at("dispatchers", dispatcher_id),
            details={"invocation": str(invocation_id)},
        )


class RotateSecret:
    """Change what signs its calls."""

    @door.change("webhook.rotate-secret")
    def on_post(self, visit: Visit, dispatcher_id: str) -> Done:
        """Give a webhook a new secret, and show it this once."""
        overlap = OVERLAPS.get(visit.form.get("overlap", ""), _DAY)
        rotated = rotate.rotate_secret(visit.environment, dispatcher_id, overlap)
        values = {
            "title": "The webhook's new secret",
            "secret": rotated.made.secret or rotated.made.public_key,
            "public": rotated.made.secret is None,
            "until": rotated.until,
            "back": visit.at("dispatchers", dispatcher_id),
        }
        return Done(
            f"dispatcher {dispatcher_id}",
            "It has a new secret",
            view=View("shown-once.html", values),
            details={"overlapInSeconds": overlap},
        )


def _changed(visit: Visit, dispatcher_id: str, change: schemas.DispatcherChange, said: str) -> Done:
    dispatchers.update_event_dispatcher(visit.environment, dispatcher_id, change)
    return _done(visit, dispatcher_id, said)


def _done(visit: Visit, dispatcher_id: str, said: str) -> Done:
    return Done(f"dispatcher {dispatcher_id}", said, visit.at("dispatchers", dispatcher_id))


def _page(
    visit: Visit,
    dispatcher_id: str,
    *,
    form: dict[str, str] | None = None,
    problem: str | None = None,
    explanation: schemas.Explanation | None = None,
) -> View:
    """A dispatcher's page, with the form that asks about an event as it was filled, and what came of it."""
    listed = dispatchers.get_event_dispatcher(visit.environment, dispatcher_id)
    row = listed.row
    recent = console_dispatchers.recent([row.id], _MANY).get(row.id, [])
    attempts = console_dispatchers.attempts(row.id, _MANY)
    values = {
        "listed": listed,
        "row": row,
        "target": schemas.dispatcher(row, listed.names, listed.account, listed.public_key).dispatchable,
        "called": console_dispatchers.called([row.dispatchable]),
        "warnings": dispatchers.warnings_of(listed),
        "schedule": _schedule(row.dispatchable["type"]),
        "recent": recent[:_INVOCATIONS],
        "invocations_strip": strips.of_invocations(recent, _MANY),
        "attempts_strip": strips.of_attempts(attempts, _MANY),
        "waiting": console_dispatchers.waiting(row.id, _MOST_WAITING),
        "most_waiting": _MOST_WAITING,
        "overlaps": OVERLAPS,
        "form": form or _example(listed),
        "problem": problem,
        "explanation": explanation,
        "trees": reasons.trees(explanation) if explanation else [],
    }
    return View("dispatcher.html", values, status=422 if problem else 200)


def _schedule(type_: str) -> str:
    """When what fails is tried again, in a sentence."""
    kind: words.Kind = "post" if type_ in words.URL_TYPES else "invoke"
    limit = retries.LIMITS[kind]
    pauses = [retries.pause_after(attempt, 0.5) for attempt in range(1, limit)]
    said = ", ".join(map(shown.duration, pauses))
    whole = shown.duration(sum(pauses))
    return f"{limit} attempts, with pauses of {said} between them; after {whole} of failures it is a dead letter."


def _example(listed: Listed) -> dict[str, str]:
    """What the form begins with: the last event that came and was no test of ours, else the name that it listens to."""
    begun = {
        "event_id": "",
        "source": listed.row.source,
        "payload": "{}",
        "context": "{}",
        "account": listed.account or "",
    }
    last = console_dispatchers.last_event(listed.row.id, _LONGEST, probe.EVENT)
    if last is not None:
        return {**begun, **msgspec.structs.asdict(last)}
    return {**begun, "name": next((one for one in listed.names if not patterns.is_pattern(one)), "")}


def _explained(visit: Visit, dispatcher_id: str) -> View:
    form = {name: visit.form.get(name, "") for name in _ASKED}
    try:
        asked = schemas.parse_explain(msgspec.json.encode(_question(form)))
        explanation = explain.explain_dispatcher(visit.environment, dispatcher_id, asked)
    except errors.Refused as error:
        return _page(visit, dispatcher_id, form=form, problem=error.message)
    return _page(visit, dispatcher_id, form=form, explanation=explanation)


def _question(form: dict[str, str]) -> dict[str, Any]:
    """What is asked, as the API's body has it. Raises Refused for a payload or a context that is no JSON."""
    if form["event_id"]:
        return {"eventId": form["event_id"]}
    event: dict[str, Any] = {"name": form["name"], "source": form["source"] or words.SOURCE}
    event |= {name: _json(form, name) for name in ("payload", "context")}
    return {"event": event, "options": {"accountId": form["account"]} if form["account"] else {}}


def _json(form: dict[str, str], name: str) -> Any:
    try:
        return msgspec.json.decode(form[name] or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise errors.Refused(f"The {name} is no JSON: {error}") from None
