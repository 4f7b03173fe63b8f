"""Deliver: match events against their environment's dispatchers, one invocation for each match (upstream's DeliverEvent).

A match that starts one version of a job has its run at once, in the same transaction; what else an invocation asks for, or
what did not go through together, is owed and left to `invoke` or `post`.

The verbs here take ids of event records and return what to hint next, by kind of work; the rows are written whether or
not anybody hints them.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from kongflow_events import alone, crashes, matching, metrics, traces, words
from kongflow_events.store import db, deliveries

log = structlog.get_logger(__name__)

Hints = dict[words.Kind, list[uuid.UUID]]

# Invocations that one transaction may write; one event's fan-out stays whole even when it alone is more.
MOST_INVOCATIONS = 5_000


def deliver(ids: Collection[uuid.UUID], *, one_by_one: bool = False) -> Hints:
    """Deliver the events `ids` that are due and neither delivered nor cancelled; returns what to hint next.

    They go in one transaction; when that fails, or when `one_by_one` says that one of them may be harmful, each goes
    alone with its attempt counted first.
    """
    with db.unit():
        return _deliver_one_by_one(ids) if one_by_one else _deliver_together(ids)


def deliver_event(record_id: uuid.UUID) -> None:
    """Deliver one event now, if it is due; returns quietly when it is delivered, cancelled, or in other hands."""
    deliver([record_id])


def _deliver_together(ids: Collection[uuid.UUID]) -> Hints:
    try:
        with db.atomic():
            delivered = _deliver(ids, None)
        crashes.point("deliver.after_commit")
        return _account(delivered)
    except db.AWAY:
        raise
    except Exception:
        log.exception("a batch of deliveries failed and is redone one by one", events=len(ids))
        return _deliver_one_by_one(ids)


def _deliver_one_by_one(ids: Collection[uuid.UUID]) -> Hints:
    hints: Hints = defaultdict(list)
    for record_id in ids:
        delivered = alone.carry_out("deliver", record_id, partial(_deliver, [record_id]))
        if delivered is not None:
            for kind, subjects in _account(delivered).items():
                hints[kind] += subjects
    return hints


class _Delivered(NamedTuple):
    """What a transaction has delivered: the events, with their invocations, since when (ns since 1970), and what is left."""

    events: list[deliveries.Locked]
    matches: dict[uuid.UUID, list[deliveries.Match]]
    made: deliveries.Made
    began: int
    left: list[uuid.UUID]


def _account(delivered: _Delivered) -> Hints:
    """Count what is committed, say it, and give what to hint next."""
    matched = [event for event in delivered.events if delivered.matches.get(event.id)]
    metrics.DELIVERIES.add("matched", amount=len(matched))
    metrics.DELIVERIES.add("unmatched", amount=len(delivered.events) - len(matched))
    made = delivered.made
    metrics.MATCHES.add("invoke", amount=len(made.started) + len(made.invoke))
    metrics.MATCHES.add("post", amount=len(made.post) + len(made.wait))
    # Looked up once, as all that would cost each event of a batch.
    say = log.debug
    for event in matched:
        matches = len(delivered.matches[event.id])
        say("event delivered", event_record=event.id, environment=event.environment_id, matches=matches)
    if traces.recording():
        for event in delivered.events:
            matches = len(delivered.matches.get(event.id, ()))
            traces.past("deliver", event.traceparent, delivered.began, event_record=event.id, matches=matches)
    _account_started(delivered)
    return {"invoke": made.invoke, "post": made.post, "deliver": delivered.left}


def _account_started(delivered: _Delivered) -> None:
    """Count, say and record the runs that came with the delivery, as `invoke` does with its own."""
    started = delivered.made.started
    metrics.INVOCATIONS.add("invoke", "succeeded", amount=len(started))
    events = {event.id: event for event in delivered.events}
    since = (time.time_ns() - delivered.began) / 1e9
    say, traced = log.debug, traces.recording()
    for invocation, match in started.items():
        event = events[match.record_id]
        metrics.SEND_TO_RUN.note(event.waited + since)
        named = {"invocation": invocation, "dispatcher": match.dispatcher_id, "status": "SUCCEEDED"}
        say("invocation ended", event_record=event.id, reason=None, **named)
        if traced:
            traces.past("invoke", event.traceparent, delivered.began, **named)


def _deliver(ids: Collection[uuid.UUID], token: uuid.UUID | None) -> _Delivered:
    began = time.time_ns()
    locked = deliveries.lock(ids)
    matches = matching.match([event for event in locked if event.wanted])
    chosen = _as_many_as_fit(locked, matches)
    taken = deliveries.take(chosen, token) if chosen else set()
    wanted = [match for record_id in chosen if record_id in taken for match in matches.get(record_id, ())]
    # Alone with a token, an event is one that failed: what is then owed apart can fail apart.
    made = deliveries.invoke(wanted, at_once=token is None) if wanted else deliveries.Made({}, [], [], [])
    if taken:
        crashes.point("deliver.before_commit")
    return _Delivered(
        [event for event in locked if event.id in taken],
        matches,
        made,
        began,
        [event.id for event in locked[len(chosen) :]],
    )


def _as_many_as_fit(
    locked: Sequence[deliveries.Locked], matches: dict[uuid.UUID, list[deliveries.Match]]
) -> list[uuid.UUID]:
    """The first events whose invocations fit into one transaction; at least one."""
    chosen: list[uuid.UUID] = []
    total = 0
    for event in locked:
        total += len(matches.get(event.id, ()))
        if chosen and total > MOST_INVOCATIONS:
            break
        chosen.append(event.id)
    return chosen
