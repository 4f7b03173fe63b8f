"""The ledger and the bulk operations on it, as they go over the wire: bodies, answers, and answers made of what was found."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from msgspec import UNSET, Meta, UnsetType

from kongflow_events import models, words
from kongflow_events.dates import Instant, iso
from kongflow_events.schemas import queries, typed
from kongflow_events.schemas.answers import Answer, Date, Dispatchable
from kongflow_events.schemas.requests import Filter, Key, Ours
from kongflow_events.schemas.shown import date

Kind = TypeVar("Kind")


class Rate(typed.Whole):
    """Rows a second."""

    least, most = 1, 10_000


Named = Annotated[list[Key], Meta(min_length=1, max_length=100)]
_USUAL: Any = 200
_RATE = Meta(description="How many a second at the most: dead letters of a redrive, invocations of a replay.")
_SINCE = Meta(description="Only those from this time on.")
_UNTIL = Meta(description="Only those before this time.")


class RedriveBody(Ours, frozen=True):
    """Which dead letters to redrive, and how fast."""

    of: Annotated[
        Literal["invocations", "deliveries"],
        Meta(description="Dead invocations, or events whose delivery is dead: these have no dispatcher and no class."),
    ] = "invocations"
    dispatcher: Annotated[Key | UnsetType, Meta(description="Only this dispatcher's.")] = UNSET
    name: Annotated[Key | UnsetType, Meta(description="Only those of events of this name.")] = UNSET
    error_class: Annotated[words.ErrorClass | UnsetType, Meta(description="Only those that died of this.")] = UNSET
    since: Annotated[Instant | None, Meta(description="Only those that died at this time or later.")] = None
    until: Annotated[Instant | None, Meta(description="Only those that died before this time.")] = None
    rate: Annotated[Rate, _RATE] = _USUAL


class ReplayBody(Ours, frozen=True):
    """Which past events to replay, to whom, and how fast."""

    since: Annotated[Instant | None, Meta(description="Only events stored at this time or later.")] = None
    until: Annotated[Instant | None, Meta(description="Only events stored before this time.")] = None
    event_id: Annotated[Key | UnsetType, Meta(description="Only the event with this id of its sender.")] = UNSET
    name: Annotated[Key | UnsetType, Meta(description="Only events of exactly this name.")] = UNSET
    source: Annotated[Key | UnsetType, Meta(description="Only events from this source.")] = UNSET
    account: Annotated[Key | UnsetType, Meta(description="Only events of this external account.")] = UNSET
    filter: Annotated[Filter | None, Meta(description="What the payload must be like.")] = None
    context_filter: Annotated[Filter | None, Meta(description="What the context must be like.")] = None
    dispatchers: Annotated[
        Named | UnsetType, Meta(description="Only to these dispatchers; absent: to all that want them now.")
    ] = UNSET
    rate: Annotated[Rate, _RATE] = _USUAL


parse_redrive = typed.decoder(RedriveBody)
parse_replay = typed.decoder(ReplayBody)


class Invocation(Answer, frozen=True):
    """What must happen, or happened, for one event at one dispatcher."""

    id: Annotated[uuid.UUID, Meta(description="The invocation's id; the message id of its calls.")]
    event_id: Annotated[str, Meta(description="The event's id, as its sender gave it.")]
    event_name: Annotated[str, Meta(description="What the event is called.")]
    dispatcher_id: Annotated[uuid.UUID, Meta(description="The dispatcher's id; it may be gone by now.")]
    dispatcher_event: Annotated[str, Meta(description="The dispatcher's first name, as it was.")]
    dispatchable: Annotated[Dispatchable, Meta(description="What the dispatcher set off, as it was.")]
    replay: Annotated[str | None, Meta(description="The replay that made it; null: the first delivery.")]
    status: Annotated[words.InvocationStatus, Meta(description="What it is doing, or how it ended.")]
    reason: Annotated[str | None, Meta(description="Why it was skipped, died or was cancelled.")]
    attempts: Annotated[int, Meta(description="Attempts in this round.")]
    redrives: Annotated[int, Meta(description="How often it was redriven: the rounds before this one.")]
    error_class: Annotated[words.ErrorClass | None, Meta(description="What its last failed attempt died of.")]
    last_error: Annotated[str | None, Meta(description="What its last failed attempt came to.")]
    created_at: Annotated[Date, Meta(description="When the event was delivered.")]
    completed_at: Annotated[Date | None, Meta(description="When it ended; null: not yet.")]
    next_attempt_at: Annotated[Date | None, Meta(description="When it is tried next; null: never, or it has ended.")]


class Attempt(Answer, frozen=True):
    """One attempt that failed or went over HTTP."""

    round: Annotated[int, Meta(description="How often it had been redriven by then.")]
    number: Annotated[int, Meta(description="Counted from 1 in each round.")]
    started_at: Annotated[Date, Meta(description="When it began.")]
    duration_ms: Annotated[int, Meta(description="How long it took, in milliseconds.")]
    outcome: Annotated[Literal["succeeded"] | words.ErrorClass, Meta(description="How it ended.")]
    status_code: Annotated[int | None, Meta(description="What the target answered; null: it did not.")]
    error: Annotated[str | None, Meta(description="Why it failed; null: it did not.")]
    answer: Annotated[str | None, Meta(description="The beginning of what the target said.")]
    request_headers: Annotated[
        dict[str, str] | None,
        Meta(description="The headers of the request; secrets and signatures are `***`. Null: there was no request."),
    ]


class InvocationDetail(Invocation, frozen=True):
    """An invocation with its attempts."""

    attempt_list: Annotated[list[Attempt], Meta(description="The attempts that failed or went over HTTP, in order.")]


class InvocationPage(Answer, frozen=True):
    """One page of invocations, newest first."""

    data: Annotated[list[Invocation], Meta(description="The invocations.")]
    next_cursor: Annotated[str | None, Meta(description="Where to go on; null at the end.")]


class _Bulk(Answer, frozen=True, kw_only=True):
    id: Annotated[str, Meta(description="Its id.")]
    state: Annotated[Literal["RUNNING", "DONE", "CANCELED"], Meta(description="What it is doing, or how it ended.")]
    rate: Annotated[int, _RATE]
    total: Annotated[
        int,
        Meta(description="How many rows it was about when it began, or an estimate of two digits and zeros."),
    ]
    seen: Annotated[int, Meta(description="How many of those it has passed.")]
    done: Annotated[int, Meta(description="What came of it: rows redriven, invocations made.")]
    last_error: Annotated[str | None, Meta(description="Why its last step failed, if it did; it is taken again.")]
    created_at: Annotated[Date, Meta(description="When it began: what came later is none of its business.")]
    finished_at: Annotated[Date | None, Meta(description="When it ended; null: not yet.")]


class Redrive(_Bulk, frozen=True):
    """Dead letters being redriven."""

    of: Annotated[Literal["invocations", "deliveries"], Meta(description="What is redriven.")]
    dispatcher: Annotated[str | None, Meta(description="Only this dispatcher's; null: all.")]
    name: Annotated[str | None, Meta(description="Only those of events of this name; null: all.")]
    error_class: Annotated[words.ErrorClass | None, Meta(description="Only those that died of this; null: all.")]
    since: Annotated[Date | None, _SINCE]
    until: Annotated[Date | None, _UNTIL]


class Replay(_Bulk, frozen=True):
    """Past events being delivered again."""

    since: Annotated[Date | None, _SINCE]
    until: Annotated[Date | None, _UNTIL]
    event_id: Annotated[str | None, Meta(description="Only the event with this id of its sender; null: all.")]
    name: Annotated[str | None, Meta(description="Only events of this name; null: all.")]
    source: Annotated[str | None, Meta(description="Only events from this source; null: all.")]
    account: Annotated[str | None, Meta(description="Only events of this external account; null: all.")]
    filter: Annotated[Filter | None, Meta(description="What the payload must be like; null asks nothing.")]
    context_filter: Annotated[Filter | None, Meta(description="What the context must be like; null asks nothing.")]
    dispatchers: Annotated[list[str] | None, Meta(description="Only to these dispatchers; null: to all.")]


class RedrivePage(Answer, frozen=True):
    """One page of redrives, newest first."""

    data: Annotated[list[Redrive], Meta(description="The redrives.")]
    next_cursor: Annotated[str | None, Meta(description="Where to go on; null at the end.")]


class ReplayPage(Answer, frozen=True):
    """One page of replays, newest first."""

    data: Annotated[list[Replay], Meta(description="The replays.")]
    next_cursor: Annotated[str | None, Meta(description="Where to go on; null at the end.")]


class RedrivePreview(Answer, frozen=True):
    """What a redrive would be about."""

    total: Annotated[
        int, Meta(description="How many dead letters there are; an estimate when there are too many to count.")
    ]


class ReplayPreview(Answer, frozen=True):
    """What a replay would be about."""

    total: Annotated[
        int,
        Meta(description="How many past events, filters aside; an estimate when there are too many to count."),
    ]
    sampled: Annotated[int, Meta(description="How many of the first of them were looked at.")]
    passing: Annotated[int, Meta(description="How many of these pass the filters.")]
    invocations: Annotated[int, Meta(description="How many invocations these would make.")]


def invocation(row: Any) -> Invocation:
    """An invocation of the ledger."""
    return Invocation(**_fields_of(row))


def invocation_detail(row: Any, attempts: Sequence[models.InvocationAttempt]) -> InvocationDetail:
    """An invocation with its attempts."""
    return InvocationDetail(**_fields_of(row), attempt_list=[_attempt(one) for one in attempts])


def invocation_page(found: words.Page[Any]) -> InvocationPage:
    """A page of invocations."""
    return InvocationPage([invocation(row) for row in found.items], queries.encode_cursor(found.next))


def redrive(row: models.BulkOperation) -> Redrive:
    """A redrive."""
    asked = row.criteria
    return Redrive(
        **_progress(row),
        of=asked["of"],
        dispatcher=asked["dispatcher"],
        name=asked["name"],
        error_class=asked["error_class"],
        since=_moment(asked["since"]),
        until=_moment(asked["until"]),
    )


def replay(row: models.BulkOperation) -> Replay:
    """A replay."""
    asked = row.criteria
    return Replay(
        **_progress(row),
        since=_moment(asked["since"]),
        until=_moment(asked["until"]),
        event_id=asked.get("event_id"),
        name=asked["name"],
        source=asked["source"],
        account=asked["account"],
        filter=asked["payload_filter"],
        context_filter=asked["context_filter"],
        dispatchers=asked["dispatchers"],
    )


def bulk_page(
    found: words.Page[models.BulkOperation], page: Callable[..., Kind], shown: Callable[[models.BulkOperation], Any]
) -> Kind:
    """A page of bulk operations, each as `shown`."""
    return page([shown(row) for row in found.items], queries.encode_cursor(found.next))


def _fields_of(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "event_id": row.event_id,
        "event_name": row.event_name,
        "dispatcher_id": row.dispatcher_id,
        "dispatcher_event": row.dispatcher_event,
        "dispatchable": row.dispatchable,
        "replay": str(row.replay) if row.replay else None,
        "status": row.status,
        "reason": row.reason,
        "attempts": row.attempts,
        "redrives": row.redrives,
        "error_class": row.last_outcome,
        "last_error": row.last_error,
        "created_at": iso(row.created_at),
        "completed_at": date(row.completed_at),
        "next_attempt_at": date(row.due_at),
    }


def _attempt(row: models.InvocationAttempt) -> Attempt:
    outcome: Any = row.outcome
    return Attempt(
        row.round,
        row.number,
        iso(row.started_at),
        row.duration_ms,
        outcome,
        row.status_code,
        row.error,
        row.answer,
        row.request_headers,
    )


def _moment(text: str | None) -> str | None:
    """A time among the criteria, in the form of answers."""
    return None if text is None else iso(datetime.fromisoformat(text))


def _progress(row: models.BulkOperation) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "state": row.state,
        "rate": row.rate,
        "total": row.total,
        "seen": row.seen,
        "done": row.done,
        "last_error": row.last_error,
        "created_at": iso(row.created_at),
        "finished_at": date(row.finished_at),
    }
