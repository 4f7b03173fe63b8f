"""Retention: old events found in stretches of bounded size, and deleted with all that hangs on them."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

import msgspec

from kongflow_events.store import db

# One process at a time: two would look at the same rows. Any constant will do.
_ALONE = "SELECT pg_try_advisory_xact_lock(5067103022) AS mine"

# What is owed stays, and so does a dead letter until its own time is over.
_OVER = """
    NOT EXISTS (SELECT FROM outbox WHERE outbox.subject_id = records.id
                   AND (died_at IS NULL OR died_at > now() - %(dead)s))
    AND NOT EXISTS (SELECT FROM invocations WHERE invocations.event_record_id = records.id
                       AND (status = 'PENDING' OR died_at > now() - %(dead)s))
"""

_NEXT = f"""
SELECT id, created_at, {_OVER} AS over
  FROM event_records AS records
 WHERE created_at < now() - %(keep)s AND (created_at, id) > (%(after_at)s, %(after)s)
 ORDER BY created_at, id LIMIT %(limit)s
"""

# Locked first, and only then looked at again: a redrive or a re-send may have come between. Whoever holds one keeps it.
_LOCK = "SELECT id FROM event_records WHERE id = ANY(%s) ORDER BY id FOR UPDATE SKIP LOCKED"

_DELETE = f"""
WITH records AS (
    SELECT id FROM event_records AS records WHERE id = ANY(%(ids)s) AND {_OVER}
), unowed AS (
    DELETE FROM outbox USING records WHERE outbox.subject_id = records.id
)
DELETE FROM event_records USING records WHERE event_records.id = records.id
"""


class Old(msgspec.Struct, frozen=True):
    """An event whose time is over; `over` says that nothing of it is still owed or waits as a dead letter."""

    id: uuid.UUID
    created_at: datetime
    over: bool


def alone() -> bool:
    """Whether no other process is at it, until the transaction ends."""
    mine: bool = db.rows(_ALONE)[0]["mine"]
    return mine


def next_old(keep: timedelta, dead: timedelta, after: tuple[datetime, uuid.UUID], limit: int) -> list[Old]:
    """The next `limit` events stored more than `keep` ago, behind `after`; dead letters stay for `dead`."""
    parameters = {"keep": keep, "dead": dead, "after_at": after[0], "after": after[1], "limit": limit}
    return [Old(**row) for row in db.rows(_NEXT, parameters)]


def delete(ids: Collection[uuid.UUID], dead: timedelta) -> int:
    """Delete these events with their invocations, attempts and runs, unless something is owed by now; returns how many."""
    locked = [row["id"] for row in db.rows(_LOCK, (sorted(ids),))]
    return db.run(_DELETE, {"ids": locked, "dead": dead}) if locked else 0


def delete_operations(keep: timedelta) -> int:
    """Delete operations that ended more than `keep` ago; returns how many."""
    return db.run("DELETE FROM bulk_operations WHERE finished_at < now() - %s", (keep,))
