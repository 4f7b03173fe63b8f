"""Past events, found again for a replay: by the time they were stored, in stretches of bounded size."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime

import msgspec

from kongflow_events.store import counts, db, deliveries

# An event that is still owed its first delivery is not past; a cancelled one is never replayed.
_WANTED = """
    records.cancelled_at IS NULL
    AND (records.delivered_at IS NOT NULL OR NOT EXISTS (SELECT FROM outbox WHERE outbox.subject_id = records.id))
    AND (%(event_id)s::text IS NULL OR records.event_id = %(event_id)s)
    AND (%(name)s::text IS NULL OR records.name = %(name)s)
    AND (%(source)s::text IS NULL OR records.source = %(source)s)
    AND (%(account)s::text IS NULL OR COALESCE(records.external_account_id = (
        SELECT id FROM external_accounts WHERE environment_id = %(environment)s AND identifier = %(account)s), FALSE))
"""

_PERIOD = """
    records.environment_id = %(environment)s AND records.created_at <= %(started)s
    AND records.created_at >= COALESCE(%(since)s::timestamptz, '-infinity')
    AND records.created_at < COALESCE(%(until)s::timestamptz, 'infinity')
"""

_ALL = f"FROM event_records AS records WHERE {_PERIOD} AND {_WANTED}"

_NEXT = f"""
SELECT id, environment_id, name, source, external_account_id, payload_raw, payload_type, context::text AS context,
       {deliveries.ABOUT} AS about, created_at, {_WANTED} AS wanted
  FROM event_records AS records
 WHERE {_PERIOD}
   AND (%(after)s::uuid IS NULL OR (records.created_at, records.id) > (%(after_at)s::timestamptz, %(after)s::uuid))
 ORDER BY records.created_at, records.id LIMIT %(limit)s
"""

# Whoever cancels one of them waits, or was first: then it is left out.
_HOLD = """
SELECT id FROM event_records WHERE id = ANY(%s) AND cancelled_at IS NULL ORDER BY id FOR NO KEY UPDATE
"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which past events; None asks nothing. Times bound when they were stored, `account` is an identifier.

    `event_id` is a sender's, of the only one; it is looked for within the times.

    `payload_filter` and `context_filter` are filters as JSON, `dispatchers` the ids of the only ones to deliver to.
    """

    since: datetime | None = None
    until: datetime | None = None
    event_id: str | None = None
    name: str | None = None
    source: str | None = None
    account: str | None = None
    payload_filter: dict[str, object] | None = None
    context_filter: dict[str, object] | None = None
    dispatchers: list[uuid.UUID] | None = None


class Past(deliveries.Event, frozen=True):
    """A past event, and whether it is wanted but for its payload and context."""

    created_at: datetime
    wanted: bool


def count(environment_id: uuid.UUID, wanted: Wanted, started: datetime) -> int:
    """How many past events are wanted, filters aside, or about how many."""
    return counts.matching(_ALL, _parameters(environment_id, wanted, started))


def next_past(
    environment_id: uuid.UUID,
    wanted: Wanted,
    started: datetime,
    after: tuple[datetime, uuid.UUID] | None,
    limit: int,
) -> list[Past]:
    """The next `limit` events of the period behind `after`, wanted or not, by the time they were stored."""
    after_at, after_id = after or (None, None)
    parameters = {
        **_parameters(environment_id, wanted, started),
        "after_at": after_at,
        "after": after_id,
        "limit": limit,
    }
    return [Past(**row) for row in db.rows(_NEXT, parameters)]


def hold(ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Lock these events against being cancelled until the transaction ends; returns those that are not cancelled."""
    return {row["id"] for row in db.rows(_HOLD, (sorted(ids),))}


def _parameters(environment_id: uuid.UUID, wanted: Wanted, started: datetime) -> dict[str, object]:
    return {
        "environment": environment_id,
        "started": started,
        "since": wanted.since,
        "until": wanted.until,
        "event_id": wanted.event_id,
        "name": wanted.name,
        "source": wanted.source,
        "account": wanted.account,
    }
