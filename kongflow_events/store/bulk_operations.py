"""Operations: work on many rows, started by an operator and carried on by whichever scheduler comes next."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from kongflow_events import models
from kongflow_events.store import db

_LARGEST: Final = 2**63 - 1

# One scheduler takes a step of an operation; another one passes on to the next operation.
_NEXT = """
SELECT id FROM bulk_operations WHERE kind = %s AND state = 'RUNNING' AND next_at <= now()
 ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

# The pace is kept over time: a step that comes late may take what it missed, but not more than a second's worth.
_STEP = """
UPDATE bulk_operations
   SET seen = seen + %(seen)s, done = done + %(done)s, passed = COALESCE(%(passed)s, passed),
       passed_at = COALESCE(%(passed_at)s, passed_at), last_error = NULL,
       next_at = GREATEST(next_at, now() - interval '1 second') + %(done)s::float / rate * interval '1 second',
       state = CASE WHEN %(ended)s THEN 'DONE' ELSE state END, finished_at = CASE WHEN %(ended)s THEN now() END
 WHERE id = %(id)s
"""

_CANCEL = """
UPDATE bulk_operations SET state = 'CANCELED', finished_at = now()
 WHERE id = %(id)s AND environment_id = %(environment)s AND kind = %(kind)s AND state = 'RUNNING'
"""

# A step that failed is taken again, but not at once: what broke it may still be broken.
_FAIL = "UPDATE bulk_operations SET last_error = %(error)s, next_at = now() + interval '5 seconds' WHERE id = %(id)s"


def start(
    environment_id: uuid.UUID, kind: str, criteria: Mapping[str, Any], rate: int, total: int
) -> models.BulkOperation:
    """Store an operation over `total` rows, at most `rate` of them a second; it begins with the next scheduler's look."""
    columns = {"environment_id": environment_id, "kind": kind, "criteria": dict(criteria), "rate": rate, "total": total}
    [row] = models.BulkOperation.insert(**columns).returning(models.BulkOperation).execute()
    found: models.BulkOperation = row
    return found


def next_running(kind: str) -> models.BulkOperation | None:
    """The operation of this kind whose step is due, locked until the transaction ends; None when there is none."""
    found = db.rows(_NEXT, (kind,))
    return models.BulkOperation.get_by_id(found[0]["id"]) if found else None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one step came to: how many rows it passed and how much it did, the last row, and whether none is behind it."""

    seen: int
    done: int
    last: uuid.UUID | None
    last_at: datetime | None = None
    ended: bool


def advance(operation_id: int, step: Step) -> None:
    """Note a step; the next one is due when the pace allows it."""
    db.run(
        _STEP,
        {
            "id": operation_id,
            "seen": step.seen,
            "done": step.done,
            "passed": step.last,
            "passed_at": step.last_at,
            "ended": step.ended,
        },
    )


def failed(operation_id: int, error: str) -> None:
    """Note that a step failed; it is taken again in five seconds."""
    db.run(_FAIL, {"id": operation_id, "error": error})


def cancel(environment_id: uuid.UUID, kind: str, operation_id: int) -> None:
    """End a running operation; waits for a step that is under way, and leaves what it did."""
    db.run(_CANCEL, {"id": operation_id, "environment": environment_id, "kind": kind})


def get(environment_id: uuid.UUID, kind: str, operation_id: int) -> models.BulkOperation | None:
    """The environment's operation of this kind and id."""
    table = models.BulkOperation
    return table.get_or_none(
        (table.id == operation_id) & (table.environment_id == environment_id) & (table.kind == kind)
    )


def newest(
    environment_id: uuid.UUID, kind: str, before: int | None, limit: int
) -> tuple[list[models.BulkOperation], bool]:
    """The environment's operations of this kind, newest first, from just before `before`; True when there are more."""
    table = models.BulkOperation
    query = table.select().where((table.environment_id == environment_id) & (table.kind == kind))
    if before is not None:
        # A cursor that somebody made up may be larger than any id.
        query = query.where(table.id < min(before, _LARGEST))
    found = list(query.order_by(table.id.desc()).limit(limit + 1))
    return found[:limit], len(found) > limit
