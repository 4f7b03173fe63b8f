"""Ingest: accept an event and store it together with what is owed for it (upstream's IngestSendEvent).

A repeated id changes a delayed event until 5 s before its delivery, and otherwise returns the stored one unchanged; an
event that nobody listened to is owed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import structlog

from kongflow_events import crashes, errors, limits, metrics, models, schemas, settings, traces, words
from kongflow_events.store import db, events
from kongflow_events.together import Together

log = structlog.get_logger(__name__)

# Retention may take a record away between the two statements; more often than this in a row is not retention.
_ROUNDS = 5
# Events that one statement stores for callers who came together, and the characters above which one has a statement of its
# own: others would wait for it, and many of them for longer than a statement may take.
_MOST_TOGETHER = 50
_LARGEST_TOGETHER = 16_384
# Seconds after which a statement has met somebody's lock, and how many may: then others go on beside it.
_PATIENCE = 0.02
_AT_ONCE = 4


def ingest_send_event(
    environment: words.Environment, event: schemas.SendEvent, options: schemas.SendOptions | None = None
) -> models.EventRecord:
    """Store `event`; returns the record, whether it is new, changed or known already.

    Callers who send at the same time share a statement, unless they are in a transaction or the event is large. Raises
    Forbidden when the organization's runs are disabled, and TooManyRequests when its rate limit is used up; nothing is
    stored then.
    """
    _admit(environment, 1)
    with _span(environment, 1) as traceparent:
        asked = _Asked(environment, _sent(event, options, traceparent))
        if db.in_transaction() or _size(asked.sent) > _LARGEST_TOGETHER:
            stored = _store_together([asked])[0]
        else:
            stored = _together.do(environment.id, asked)
    # Not where it is stored: that may be another request's thread.
    log.debug("event stored", event_id=stored.event_id, event_record=stored.id, environment=environment.id)
    return stored


def ingest_send_events(
    environment: words.Environment, batch: Sequence[schemas.SendEvent], options: schemas.SendOptions | None = None
) -> list[models.EventRecord]:
    """Store every event of `batch`, or none, in one transaction; returns their records in the order of the batch.

    An id that stands twice in the batch counts as sent again. Raises Forbidden and TooManyRequests as
    `ingest_send_event` does.
    """
    _admit(environment, len(batch))
    with _span(environment, len(batch)) as traceparent:
        sent = [_sent(event, options, traceparent) for event in batch]
        stored = db.retrying_deadlocks(lambda: _store_all(environment, sent))
    crashes.point("ingest.after_commit")
    log.debug("events stored", events=len(stored), environment=environment.id)
    return stored


def ingest_cloud_events(environment: words.Environment, batch: Sequence[schemas.SendEvent]) -> list[models.EventRecord]:
    """As `ingest_send_events`, for events that their source and their id name together, as CloudEvents' do.

    Here the id alone names an event. So this raises Conflict, and stores nothing, when an id of the batch is stored with
    another source, or stands in the batch with two.
    """
    _admit(environment, len(batch))
    with _span(environment, len(batch)) as traceparent:
        sent = [_sent(event, None, traceparent) for event in batch]

        def store() -> list[models.EventRecord]:
            with db.atomic():
                records = _store_all(environment, sent)
                _check_sources(sent, records)
                return records

        return db.retrying_deadlocks(store)


class _Asked(NamedTuple):
    """One event of one caller."""

    environment: words.Environment
    sent: events.Sent


def _span(environment: words.Environment, number: int) -> traces.Spanning:
    return traces.span("ingest", traces.received(), environment=environment.id, events=number)


def _size(sent: events.Sent) -> int:
    return len(sent.payload or "") + len(sent.context or "")


def _store_together(asked: Sequence[_Asked]) -> list[models.EventRecord]:
    """Store the events of callers in one environment; each gets its own record, also when two sent the same id."""
    environment = asked[0].environment
    stored: dict[int, models.EventRecord] = {}
    with db.unit():
        for round_ in _rounds([one.sent for one in asked]):
            # One statement that commits by itself: before it is as far as anybody can come before its commit.
            crashes.point("ingest.before_commit")
            records = _store(environment, round_)
            crashes.point("ingest.after_commit")
            stored |= {id(event): records[event.event_id] for event in round_}
    return [stored[id(one.sent)] for one in asked]


def _is_of_all(failure: BaseException) -> bool:
    """Whether a statement failed for a reason that no event of it is to blame for."""
    return isinstance(failure, db.AWAY) and not db.is_locked_out(failure)


_together = Together(_store_together, most=_MOST_TOGETHER, at_once=_AT_ONCE, patience=_PATIENCE, of_all=_is_of_all)


def _store_all(environment: words.Environment, sent: Sequence[events.Sent]) -> list[models.EventRecord]:
    latest: dict[str, models.EventRecord] = {}
    with db.atomic():
        for round_ in _rounds(sent):
            latest |= _store(environment, round_)
        crashes.point("ingest.before_commit")
    return [latest[event.event_id] for event in sent]


def _store(environment: words.Environment, sent: Sequence[events.Sent]) -> dict[str, models.EventRecord]:
    stored: dict[str, models.EventRecord] = {}
    for _ in range(_ROUNDS):
        left = [event for event in sent if event.event_id not in stored]
        if not left:
            return stored
        fresh = events.send(environment, left)
        if fresh:
            metrics.EVENTS.add("new", amount=len(fresh))
        stored |= fresh
        unchanged = [event.event_id for event in left if event.event_id not in stored]
        if unchanged:
            metrics.EVENTS.add("repeated", amount=len(unchanged))
            stored |= events.again(environment, unchanged)
    raise errors.Retryable("the event was deleted again and again while it was being stored")


def _rounds(sent: Sequence[events.Sent]) -> Iterator[list[events.Sent]]:
    """Split a batch so that no id stands twice in a round, keeping the order in which a repeated id was given."""
    left = list(sent)
    while left:
        first: dict[str, events.Sent] = {}
        later = []
        for event in left:
            if event.event_id in first:
                later.append(event)
            else:
                first[event.event_id] = event
        yield list(first.values())
        left = later


def _check_sources(sent: Sequence[events.Sent], records: Sequence[models.EventRecord]) -> None:
    for event, record in zip(sent, records, strict=True):
        if event.source != record.source:
            metrics.EVENTS.add("refused", amount=len(sent))
            raise errors.Conflict(f'The event "{event.event_id}" is known from another source')


def _admit(environment: words.Environment, number: int) -> None:
    """Let `number` events in, or none; an event counts whether it turns out to be new or known already."""
    try:
        if not environment.runs_enabled:
            raise errors.Forbidden("Runs are disabled for this organization")
        limits.take(limits.of_organizations(settings.current()), environment.organization_id, number)
    except errors.Refused:
        metrics.EVENTS.add("refused", amount=number)
        raise


def _sent(event: schemas.SendEvent, options: schemas.SendOptions | None, traceparent: str | None) -> events.Sent:
    when = options or schemas.SendOptions()
    return events.Sent(
        event_id=words.new_event_id() if event.id is None else event.id,
        name=event.name,
        timestamp=event.timestamp,
        payload=event.payload,
        context=event.context,
        source=event.source,
        payload_type=event.payload_type,
        deliver_at=when.deliver_at,
        deliver_after=when.deliver_after,
        account=when.account_id,
        traceparent=traceparent,
    )
