"""Response bodies: keys in upstream's order, dates in UTC with three fractional digits."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from kongflow_events import errors, filters, models, words
from kongflow_events.dates import iso
from kongflow_events.schemas import queries

Item = TypeVar("Item")

# Statuses that clients of the first API version do not know (upstream maps them so).
_SINCE_V2 = {"EXECUTING": "STARTED", "WAITING_TO_CONTINUE": "STARTED", "WAITING_TO_EXECUTE": "STARTED"}


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What an answer looks like; keys in camel case, in the order of the fields."""


class EventLog(Answer, frozen=True):
    """An event as its sender sees it: upstream's ApiEventLog. `id` is the sender's."""

    id: str
    name: str
    payload: msgspec.Raw
    context: Any
    timestamp: str
    deliver_at: str
    delivered_at: str | None
    cancelled_at: str | None


class EventRun(Answer, frozen=True):
    """A run, as an event names it."""

    id: uuid.UUID
    status: str
    started_at: str | None
    completed_at: str | None


class Event(Answer, frozen=True):
    """An event and its runs: upstream's GetEvent."""

    id: str
    name: str
    created_at: str
    updated_at: str
    runs: list[EventRun]


class JobRun(Answer, frozen=True):
    """A run in the list of its job."""

    id: uuid.UUID
    status: str
    started_at: str | None
    updated_at: str
    completed_at: str | None


class Run(Answer, frozen=True):
    """A run by itself: upstream's GetRun. Tasks and statuses come with executing runs."""

    id: uuid.UUID
    status: str
    started_at: str | None
    updated_at: str
    completed_at: str | None
    output: Any
    tasks: list[Any] = []
    statuses: list[Any] = []


class Dispatcher(Answer, frozen=True):
    """A dispatcher."""

    id: uuid.UUID
    event: list[str]
    source: str
    payload_filter: Any
    context_filter: Any
    dispatchable: Any
    dispatchable_id: str
    enabled: bool
    manual: bool
    account_id: str | None
    one_shot: bool
    expires_at: str | None
    created_at: str
    updated_at: str
    warnings: list[str] = []


class Reason(Answer, frozen=True):
    """Why an event did not reach a dispatcher, or would not: a word for programs, a sentence for people."""

    code: str
    message: str


class InvocationState(Answer, frozen=True):
    """How far an invocation is."""

    id: uuid.UUID
    status: str
    reason: str | None
    attempts: int
    last_error: str | None


class Explanation(Answer, frozen=True):
    """What a dispatcher makes of an event: whether it `matches` as both are now, and every reason against it.

    A filter that is null asks nothing. `invocation` is the stored event's for this dispatcher, if there is one.
    """

    dispatcher_id: uuid.UUID
    event_id: str | None
    matches: bool
    reasons: list[Reason]
    payload_filter: filters.Check | None
    context_filter: filters.Check | None
    invocation: InvocationState | None


class Job(Answer, frozen=True):
    """What registering a job came to."""

    id: str
    name: str
    version: str
    version_id: uuid.UUID
    latest: str
    dispatcher_id: uuid.UUID | None
    warnings: list[str] = []


class DynamicTrigger(Answer, frozen=True):
    """A dynamic trigger: `id` is the caller's, `triggerId` what a dispatchable names."""

    id: str
    trigger_id: uuid.UUID
    jobs: list[str]


class ListOf(Answer, frozen=True):
    """One page of a list, newest first; `nextCursor` is null at its end."""

    data: list[Any]
    next_cursor: str | None


def event_log(record: models.EventRecord) -> EventLog:
    """The ApiEventLog of `record`."""
    return EventLog(
        id=record.event_id,
        name=record.name,
        payload=msgspec.Raw(record.payload_raw),
        context=record.context,
        timestamp=iso(record.timestamp),
        deliver_at=iso(record.deliver_at),
        delivered_at=date(record.delivered_at),
        cancelled_at=date(record.cancelled_at),
    )


def event(record: models.EventRecord, runs: Iterable[models.JobRun], version: int) -> Event:
    """An event with its runs, for API version 1 or 2."""
    return Event(
        id=record.event_id,
        name=record.name,
        created_at=iso(record.created_at),
        updated_at=iso(record.updated_at),
        runs=[EventRun(run.id, status(run, version), date(run.started_at), date(run.completed_at)) for run in runs],
    )


def job_run(run: models.JobRun) -> JobRun:
    """A run in the list of its job."""
    return JobRun(run.id, run.status, date(run.started_at), iso(run.updated_at), date(run.completed_at))


def run(run: models.JobRun, version: int) -> Run:
    """A run by itself, for API version 1 or 2."""
    return Run(
        run.id, status(run, version), date(run.started_at), iso(run.updated_at), date(run.completed_at), run.output
    )


def run_statuses(run: models.JobRun) -> dict[str, Any]:
    """A run's statuses: upstream's GetRunStatuses."""
    return {"run": {"id": run.id, "status": run.status, "output": run.output}, "statuses": []}


def status(run: models.JobRun, version: int) -> str:
    """The run's status in the words of an API version."""
    stored: str = run.status
    return _SINCE_V2.get(stored, stored) if version == 1 else stored


def dispatcher(
    row: models.EventDispatcher, names: Sequence[str], account: str | None, warnings: Sequence[str] = ()
) -> Dispatcher:
    """A dispatcher with all its names, and what its writer should know about its filters."""
    return Dispatcher(
        id=row.id,
        event=list(names),
        source=row.source,
        payload_filter=row.payload_filter,
        context_filter=row.context_filter,
        dispatchable=row.dispatchable,
        dispatchable_id=row.dispatchable_id,
        enabled=row.enabled,
        manual=row.manual,
        account_id=account,
        one_shot=row.one_shot,
        expires_at=date(row.expires_at),
        created_at=iso(row.created_at),
        updated_at=iso(row.updated_at),
        warnings=list(warnings),
    )


def page(found: words.Page[Item], shown: Callable[[Item], Any]) -> ListOf:
    """A page of a list, each item as `shown`."""
    return ListOf([shown(item) for item in found.items], queries.encode_cursor(found.next))


def refusal(error: errors.Refused) -> dict[str, Any]:
    """The body of a 4xx: always `error`; a schema's breach also carries upstream's `message`, and the issues."""
    body: dict[str, Any] = {"error": error.message}
    if isinstance(error, errors.Invalid):
        body["message"] = error.message
    if error.issues:
        body["issues"] = [{"code": issue.code, "path": issue.path, "message": issue.message} for issue in error.issues]
    return body


def encode(answer: Any) -> bytes:
    """JSON bytes of an answer."""
    return msgspec.json.encode(answer)


def date(at: datetime | None) -> str | None:
    """A date as upstream writes it, or null."""
    return None if at is None else iso(at)
