"""One event: how it came, what each dispatcher decided and why, what came of it; and what can be done about it."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from kongflow_events import errors, models, patterns, schemas, words
from kongflow_events.console import door, reasons
from kongflow_events.console.visits import Done, View, Visit
from kongflow_events.services import cancel, explain, redrive, replay
from kongflow_events.store import console_dispatchers, console_event, replays

# Characters of a payload that are shown, and dispatchers that are asked why they did not take the event.
_MOST: Final = 65_536
_ASKED: Final = 20
# To choose one from.
_OFFERED: Final = 100
# Invocations a second of a replay of one event.
_RATE: Final = 200


class Decided(NamedTuple):
    """A dispatcher that has no invocation of the event, and what it says to the event now."""

    dispatcher: console_event.Dispatcher
    explanation: schemas.Explanation
    trees: list[reasons.Tree]


class Carried(NamedTuple):
    """An invocation with its attempts and the runs that it started."""

    invocation: console_event.Invocation
    attempts: list[models.InvocationAttempt]
    runs: list[console_event.Run]


class Event:
    """The page."""

    @door.page
    def on_get(self, visit: Visit, record_id: str) -> View:
        """Show everything about one event."""
        environment = visit.environment
        record = console_event.get(environment.id, words.as_id(record_id), _MOST)
        if record is None:
            raise errors.NotFound("There is no such event in this environment")
        found, more = console_event.invocations(record.id)
        offered = console_event.newest_dispatchers(environment.id, _OFFERED)
        runs = console_event.runs(record.id)
        decided = _decided(visit, record, {one.id: one for one in offered})
        values = {
            "record": record,
            "carried": _carried(found, runs),
            "more": more,
            "runs": runs,
            "open_runs": any(run.status not in words.FINAL_RUN_STATUSES for run in runs),
            "cancellable": _is_cancellable(record, found, more=more),
            "decided": decided,
            "called": _called(found, [*offered, *(one.dispatcher for one in decided)]),
            "asked_most": _ASKED,
            "offered": offered,
            "payload": _formatted(record),
            "curl": _curl(record),
        }
        return View("event.html", values)

    on_head: Any = on_get


class Cancel:
    """No delivery any more."""

    @door.change("event.cancel")
    def on_post(self, visit: Visit, record_id: str) -> Done:
        """Cancel it."""
        event_id, _ = _sent(visit, record_id)
        record = cancel.cancel_event(visit.environment, event_id)
        said = "Cancelled: its calls that are still owed are not made." if record.delivered_at else "Cancelled."
        return Done(f"event {event_id}", said, visit.at("events", record_id))


class CancelRuns:
    """The end of its runs."""

    @door.change("event.cancel-runs")
    def on_post(self, visit: Visit, record_id: str) -> Done:
        """Cancel those that have not ended."""
        event_id, _ = _sent(visit, record_id)
        ended = cancel.cancel_runs_for_event(visit.environment, event_id).cancelled
        return Done(f"event {event_id}", f"Cancelled runs: {len(ended)}.", visit.at("events", record_id))


class Replay:
    """Once more."""

    @door.change("event.replay")
    def on_post(self, visit: Visit, record_id: str) -> Done:
        """Deliver it again, to everybody who wants it now or to one dispatcher."""
        event_id, stored_at = _sent(visit, record_id)
        chosen = visit.form.get("dispatcher", "")
        wanted = replays.Wanted(
            event_id=event_id,
            since=stored_at,
            until=stored_at + timedelta(microseconds=1),
            dispatchers=[words.as_id(chosen)] if chosen else None,
        )
        if not replay.preview_replay(visit.environment, wanted).events:
            raise errors.Conflict("A cancelled event is not replayed, nor one whose first delivery is still to come")
        started = replay.start_replay(visit.environment, wanted, _RATE)
        to = f"dispatcher {chosen}" if chosen else "every dispatcher that wants it now"
        return Done(
            f"event {event_id}",
            f"Replay {started.id} delivers it to {to}; load the page again to see what comes of it.",
            visit.at("events", record_id),
            details={"replay": started.id, "dispatcher": chosen or None},
        )


class Redrive:
    """New attempts."""

    @door.change("event.redrive")
    def on_post(self, visit: Visit, record_id: str) -> Done:
        """Give its dead delivery new ones."""
        event_id, _ = _sent(visit, record_id)
        redrive.redrive_event(visit.environment, event_id)
        return Done(f"event {event_id}", "It is delivered again now.", visit.at("events", record_id))


class Dismiss:
    """No more attempts."""

    @door.change("event.dismiss")
    def on_post(self, visit: Visit, record_id: str) -> Done:
        """End its dead delivery for good."""
        event_id, _ = _sent(visit, record_id)
        redrive.dismiss_event(visit.environment, event_id)
        return Done(f"event {event_id}", "Dismissed: it is owed no longer.", visit.at("events", record_id))


class RedriveInvocation:
    """New attempts at one dispatcher."""

    @door.change("invocation.redrive")
    def on_post(self, visit: Visit, record_id: str, invocation_id: str) -> Done:
        """Give a dead invocation new ones."""
        redrive.redrive_invocation(visit.environment, invocation_id)
        return Done(f"invocation {invocation_id}", "It is tried again now.", visit.at("events", record_id))


class DismissInvocation:
    """No more attempts at one dispatcher."""

    @door.change("invocation.dismiss")
    def on_post(self, visit: Visit, record_id: str, invocation_id: str) -> Done:
        """End a dead invocation for good."""
        redrive.dismiss_invocation(visit.environment, invocation_id)
        return Done(f"invocation {invocation_id}", "Dismissed: it ends here.", visit.at("events", record_id))


def _sent(visit: Visit, record_id: str) -> tuple[str, datetime]:
    """The sender's id of an event, by which services know it, and when it was stored; raises NotFound."""
    found = console_event.sender_id(visit.environment.id, record_id)
    if found is None:
        raise errors.NotFound("There is no such event in this environment")
    return found


def _is_cancellable(record: console_event.Record, found: list[console_event.Invocation], *, more: bool) -> bool:
    """Whether a delivery or a call is still to come that would not."""
    owed = record.due_at is not None or more or any(one.status == "PENDING" for one in found)
    return record.cancelled_at is None and owed


def _called(found: list[console_event.Invocation], others: list[console_event.Dispatcher]) -> dict[str, str]:
    """What the jobs and triggers that the page speaks of are called."""
    return console_dispatchers.called([one.dispatchable for one in found] + [one.dispatchable for one in others])


def _carried(found: list[console_event.Invocation], runs: list[console_event.Run]) -> list[Carried]:
    attempts = console_event.attempts([one.id for one in found])
    started: dict[uuid.UUID | None, list[console_event.Run]] = {}
    for run in runs:
        started.setdefault(run.invocation_id, []).append(run)
    return [Carried(one, attempts.get(one.id, []), started.get(one.id, [])) for one in found]


def _decided(
    visit: Visit, record: console_event.Record, offered: dict[uuid.UUID, console_event.Dispatcher]
) -> list[Decided]:
    """What those say that hear the event and did not take it, and the one that the URL asks for."""
    hearing = console_event.listeners(visit.environment.id, record, patterns.heard_by(record.name), _ASKED)
    asked = offered.get(words.as_id(visit.query.get("dispatcher", "")))
    chosen = [asked] if asked is not None and asked not in hearing else []
    asked_all = {one.id: one for one in [*chosen, *hearing]}
    said = explain.explain_event(visit.environment, record.event_id, list(asked_all))
    return [Decided(asked_all[answer.dispatcher_id], answer, reasons.trees(answer)) for answer in said]


def _formatted(record: console_event.Record) -> str:
    """The payload, indented; its numbers and texts stay as the sender wrote them. A cut one stays as it is."""
    return record.payload if record.cut else msgspec.json.format(record.payload, indent=2)


def _curl(record: console_event.Record) -> str | None:
    """A command that sends the same as a new event, with the shell's own key; None for one that is too long."""
    if record.cut:
        return None
    event = {"name": record.name, "source": record.source}
    if record.payload_type != "JSON":
        event["payloadType"] = record.payload_type
    parts = [_json(event)[:-1], f'"payload": {record.payload}']
    if record.context:
        parts.append(f'"context": {_json(record.context)}')
    options = f', "options": {_json({"accountId": record.account})}' if record.account else ""
    body = f'{{"event": {", ".join(parts)}}}{options}}}'
    quoted = body.replace("'", "'\\''")
    return (
        'curl -s "$KONGFLOW_URL/api/v1/events" \\\n'
        '  -H "Authorization: Bearer $KONGFLOW_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d '{quoted}'"
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
