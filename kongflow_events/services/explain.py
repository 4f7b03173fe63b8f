"""Explain: why an event reached a dispatcher or did not, leaf by leaf of its filters. It only reads."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from kongflow_events import errors, filters, models, patterns, schemas, words
from kongflow_events.store import db, dispatchers, events, explanations

Reasons = Iterator[schemas.Reason]


class _Event(NamedTuple):
    """An event as dispatchers see it, stored or not."""

    name: str
    source: str
    account: str | None
    subject: filters.Subject


def explain_dispatcher(
    environment: words.Environment, dispatcher_id: str, asked: schemas.ExplainBody
) -> schemas.Explanation:
    """What the dispatcher, as it is now, makes of an event: a stored one (by `event_id`) or one that is only described.

    For a stored event it also says what became of it. Raises NotFound for a dispatcher or an event that is not there.
    """
    row = dispatchers.get(environment.id, words.as_id(dispatcher_id))
    if row is None:
        raise errors.NotFound("Dispatcher not found")
    [listed] = dispatchers.with_names([row])
    if asked.event is not msgspec.UNSET:
        return _explanation(listed, _described(asked.event.known(), asked.options.known()))
    return _of_stored(environment, str(asked.event_id), [listed])[0]


def explain_event(
    environment: words.Environment, event_id: str, dispatcher_ids: Sequence[uuid.UUID]
) -> list[schemas.Explanation]:
    """What each of these dispatchers makes of a stored event; one that is gone by now is left out.

    Raises NotFound for an event that is not there.
    """
    found = [row for one in dispatcher_ids if (row := dispatchers.get(environment.id, one)) is not None]
    return _of_stored(environment, event_id, dispatchers.with_names(found))


def _of_stored(
    environment: words.Environment, event_id: str, asked: Sequence[dispatchers.Listed]
) -> list[schemas.Explanation]:
    record = events.get(environment.id, event_id)
    if record is None:
        raise errors.NotFound("Event not found")
    stories = [explanations.story(record.id, listed.row.id) for listed in asked]
    if not stories:
        return []
    # Looked at by all, decoded once.
    event = _stored(record, stories[0].account)
    return [_explanation(listed, event, record, story) for listed, story in zip(asked, stories, strict=True)]


def _described(event: schemas.SendEvent, options: schemas.SendOptions) -> _Event:
    subject = filters.Subject(event.payload or "{}", event.payload_type or "JSON", event.context or "{}")
    source = words.SOURCE if event.source is None else event.source
    return _Event(event.name, source, options.account_id, subject)


def _stored(record: models.EventRecord, account: str | None) -> _Event:
    context = msgspec.json.encode(record.context).decode()
    subject = filters.Subject(record.payload_raw, record.payload_type, context)
    return _Event(record.name, record.source, account, subject)


def _explanation(
    listed: dispatchers.Listed,
    event: _Event,
    record: models.EventRecord | None = None,
    story: explanations.Story | None = None,
) -> schemas.Explanation:
    payload, context, unwanted = _looked(listed.row, event.subject)
    against = [
        *_why_not_heard(listed, event),
        *_why_not_ready(listed.row, db.now()),
        *_why_not_told(listed.row, record),
    ]
    against += unwanted
    past = [] if record is None or story is None else list(_what_became(listed.row, record, story, matches=not against))
    return schemas.Explanation(
        dispatcher_id=listed.row.id,
        event_id=None if record is None else record.event_id,
        matches=not against,
        reasons=against + past,
        payload_filter=payload,
        context_filter=context,
        invocation=_invocation(story),
    )


class _Looked(NamedTuple):
    """Both filters with what came of each condition, None for one that asks nothing; and why they refuse the event."""

    payload: filters.Check | None
    context: filters.Check | None
    reasons: list[schemas.Reason]


def _looked(row: models.EventDispatcher, subject: filters.Subject) -> _Looked:
    if row.payload_filter is None and row.context_filter is None:
        # Asked before the payload is looked at: such a dispatcher takes what cannot be read too.
        return _Looked(None, None, [])
    if not subject.view.readable:
        said = "the payload is no request {url, method, headers, rawBody} that can be read"
        return _Looked(None, None, [schemas.Reason("request", said)])
    try:
        payload = _explained(row.payload_filter, "payloadFilter", subject.view.payload, "payload")
        context = _explained(row.context_filter, "contextFilter", subject.view.context, "context")
    except filters.InvalidFilter as error:
        # Only a row that was written past the service can be here; it matches nothing.
        return _Looked(None, None, [schemas.Reason("brokenFilter", error.message)])
    return _Looked(payload, context, list(_why_not_wanted(payload, context)))


def _explained(raw: Any, path: str, value: Any, at: str) -> filters.Check | None:
    return None if raw is None else filters.parse(raw, path).explain(value, at)


def _why_not_heard(listed: dispatchers.Listed, event: _Event) -> Reasons:
    if not set(listed.names) & set(patterns.heard_by(event.name)):
        yield schemas.Reason("name", f"it listens to {_either(listed.names)}, the event is called {event.name}")
    if listed.row.source != event.source:
        yield schemas.Reason(
            "source", f"it listens to the source {listed.row.source}, the event is from {event.source}"
        )
    if listed.account is not None and listed.account != event.account:
        whose = "no account" if event.account is None else f"the account {event.account}"
        yield schemas.Reason("account", f"it is for the account {listed.account}, the event is of {whose}")


def _why_not_ready(row: models.EventDispatcher, now: datetime) -> Reasons:
    if not row.enabled:
        yield schemas.Reason("disabled", "it is disabled")
    if row.manual:
        yield schemas.Reason("manual", "it is manual: it is never matched, only invoked by name")
    if row.expires_at is not None and row.expires_at <= now:
        yield schemas.Reason("expired", f"it expired at {schemas.iso(row.expires_at)}")


def _why_not_told(row: models.EventDispatcher, record: models.EventRecord | None) -> Reasons:
    if record is None or not record.internal or record.source != words.OWN_SOURCE:
        return
    if record.payload.get("dispatcherId") == str(row.id):
        yield schemas.Reason("notice", "it is about this very dispatcher, which is not told of its own failures")


def _why_not_wanted(payload: filters.Check | None, context: filters.Check | None) -> Reasons:
    if payload is not None and not payload.holds:
        yield schemas.Reason("payloadFilter", filters.failure(payload))
    if context is not None and not context.holds:
        yield schemas.Reason("contextFilter", filters.failure(context))


def _what_became(
    row: models.EventDispatcher, record: models.EventRecord, story: explanations.Story, *, matches: bool
) -> Reasons:
    if record.cancelled_at is not None and record.delivered_at is None:
        yield schemas.Reason("cancelled", f"the event was cancelled at {schemas.iso(record.cancelled_at)}")
    elif story.dead:
        yield schemas.Reason("dead", f"the event's delivery used up its attempts: {story.last_error}")
    elif story.owed:
        when = f"is due at {schemas.iso(story.due_at)}" if story.early and story.due_at else "is under way"
        failed = f", after {story.tried} attempts: {story.last_error}" if story.last_error else ""
        yield schemas.Reason("pending", f"the event's delivery {when}{failed}")
    elif matches and story.invocation_id is None:
        yield _why_missed(row, record)


def _why_missed(row: models.EventDispatcher, record: models.EventRecord) -> schemas.Reason:
    """Why an event whose delivery is over has no invocation for a dispatcher that wants it now."""
    over = record.delivered_at or max(record.created_at, record.deliver_at)
    came = "been delivered" if record.delivered_at else "found nobody to take it"
    again = "" if record.delivered_at else "; sending its id again delivers it to those who listen by then"
    if row.created_at > over:
        return schemas.Reason("registeredLater", f"it was made after the event had {came}{again}")
    return schemas.Reason("changedLater", f"it was changed after the event had {came}{again}")


def _invocation(story: explanations.Story | None) -> schemas.InvocationState | None:
    if story is None or story.invocation_id is None or story.status is None:
        return None
    return schemas.InvocationState(
        id=story.invocation_id,
        status=story.status,
        reason=story.reason,
        attempts=story.attempts or 0,
        last_error=story.invocation_error,
    )


def _either(names: list[str]) -> str:
    return " or ".join(names) or "no name"
