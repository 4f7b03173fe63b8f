"""The ledger, read: invocations with their events, one by one or in lists, and their attempts."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import msgspec

from kongflow_events import models, words
from kongflow_events.store import db, stretches

# When an invocation is tried next, of its row in the outbox and its target: never while that is paused.
NEXT_TRY = "CASE WHEN targets.paused_at IS NULL THEN GREATEST(outbox.due_at, targets.rests_until) END"

_LIST = f"""
SELECT invocations.id, records.event_id, records.name AS event_name, invocations.dispatcher_id,
       invocations.dispatcher_event, invocations.dispatchable, invocations.replay, invocations.status, invocations.reason,
       GREATEST(invocations.attempts, outbox.attempts) AS attempts, invocations.redrives, invocations.last_error,
       invocations.last_outcome, invocations.created_at, invocations.completed_at,
       {NEXT_TRY} AS due_at
  FROM invocations
  JOIN event_records AS records ON records.id = invocations.event_record_id
  LEFT JOIN outbox ON outbox.subject_id = invocations.id
  LEFT JOIN targets ON targets.dispatcher_id = outbox.lane
 WHERE invocations.environment_id = %(environment)s
"""

_CONDITIONS = {
    "status": "invocations.status = %(status)s",
    "dispatcher": stretches.only("invocations.dispatcher_id", "%(dispatcher)s"),
    "name": "records.name = %(name)s",
    "event_id": "records.event_id = %(event_id)s",
    "error_class": "invocations.last_outcome = %(error_class)s",
    "since": "COALESCE(invocations.completed_at, invocations.created_at) >= %(since)s",
    "until": "COALESCE(invocations.completed_at, invocations.created_at) < %(until)s",
}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An invocation as it is read, with the name and the sender's id of its event."""

    id: uuid.UUID
    event_id: str
    event_name: str
    dispatcher_id: uuid.UUID
    dispatcher_event: str
    dispatchable: Any
    replay: int
    status: str
    reason: str | None
    attempts: int
    redrives: int
    last_error: str | None
    last_outcome: str | None
    created_at: datetime
    completed_at: datetime | None
    due_at: datetime | None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which invocations a list is about; None asks nothing. Times bound when they ended, or came to be if they have not."""

    status: str | None = None
    dispatcher: uuid.UUID | None = None
    name: str | None = None
    event_id: str | None = None
    error_class: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def get(environment_id: uuid.UUID, invocation_id: uuid.UUID) -> Listed | None:
    """The environment's invocation of this id."""
    found = db.rows(f"{_LIST} AND invocations.id = %(id)s", {"environment": environment_id, "id": invocation_id})
    return Listed(**found[0]) if found else None


def newest(environment_id: uuid.UUID, wanted: Wanted, before: uuid.UUID | None, limit: int) -> words.Page[Listed]:
    """The environment's invocations, newest first, from just before `before`."""
    asked = {condition: getattr(wanted, field) for field, condition in _CONDITIONS.items()}
    conditions = [condition for condition, value in asked.items() if value is not None]
    if wanted.status == "DEAD":
        # Says the same, in the words of the index that has nothing but the dead.
        conditions.append("invocations.died_at IS NOT NULL")
    if before is not None:
        conditions.append("invocations.id < %(before)s")
    order = "invocations.id DESC" if wanted.dispatcher is None else "invocations.dispatcher_id, invocations.id DESC"
    found = db.rows(
        f"{_LIST} AND {' AND '.join(['TRUE', *conditions])} ORDER BY {order} LIMIT %(limit)s",
        {"environment": environment_id, "before": before, "limit": limit + 1, **msgspec.structs.asdict(wanted)},
    )
    items = [Listed(**row) for row in found[:limit]]
    return words.Page(items, items[-1].id if len(found) > limit else None)


def attempts(invocation_id: uuid.UUID) -> list[models.InvocationAttempt]:
    """The invocation's attempts that failed or went over HTTP, in order."""
    table = models.InvocationAttempt
    return list(table.select().where(table.invocation_id == invocation_id).order_by(table.round, table.number))
