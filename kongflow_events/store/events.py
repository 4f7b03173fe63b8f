"""Event records: sent, sent again, read, cancelled. A record and what is owed for it change in one statement."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

import msgspec

from kongflow_events import models, words
from kongflow_events.store import db

# What an EventRecord is made of; its payload is decoded from payload_raw, which saves sending it twice.
# Whose it is comes last: who sends it knows that already.
_CONTENT = """id, event_id, name, timestamp, payload_raw, payload_type, context, source, source_context,
    external_account_id, deliver_at, delivered_at, cancelled_at, is_test, internal, created_at, updated_at"""
_COLUMNS = f"{_CONTENT}, organization_id, environment_id, project_id"

# Returns the records that were created or changed; one that stands outside its update window gives no row. A record
# is locked by the conflict even then, so AGAIN behind it in the same transaction waits for nobody new.
_SEND = db.Prepared(
    "send_events",
    f"""
WITH sent AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(event_ids)s::text[], %(names)s::text[], %(timestamps)s::timestamptz[],
                         %(payloads)s::text[], %(contexts)s::text[], %(sources)s::text[], %(payload_types)s::text[],
                         %(deliver_ats)s::timestamptz[], %(deliver_afters)s::bigint[], %(accounts)s::text[],
                         %(traceparents)s::text[])
        AS sent(id, event_id, name, timestamp, payload, context, source, payload_type, deliver_at, deliver_after, account,
                traceparent)
), known AS (
    SELECT id, identifier FROM external_accounts
     WHERE environment_id = %(environment_id)s AND identifier = ANY(%(accounts)s::text[])
), added AS (
    -- Writes only at an account's first use; the update makes the row visible when two first uses meet. It touches no key:
    -- that would lock out a delivery, which has the event that somebody else waits for here. Its first event's id is as new
    -- as any.
    INSERT INTO external_accounts (id, organization_id, environment_id, identifier)
    SELECT DISTINCT ON (account) id, %(organization_id)s::uuid, %(environment_id)s::uuid, account FROM sent
     WHERE account IS NOT NULL AND NOT EXISTS (SELECT FROM known WHERE identifier = account)
     ORDER BY account
    ON CONFLICT (environment_id, identifier) DO UPDATE SET updated_at = now()
    RETURNING id, identifier
), record AS (
    INSERT INTO event_records AS stored (
        id, event_id, name, timestamp, payload, payload_raw, context, source, payload_type,
        organization_id, project_id, environment_id, external_account_id, deliver_at, traceparent)
    SELECT sent.id, sent.event_id, sent.name, COALESCE(sent.timestamp, now()),
           COALESCE(sent.payload, '{{}}')::jsonb, COALESCE(sent.payload, '{{}}'), COALESCE(sent.context, '{{}}')::jsonb,
           COALESCE(sent.source, 'trigger.dev'), COALESCE(sent.payload_type, 'JSON'),
           %(organization_id)s, %(project_id)s, %(environment_id)s, account.id,
           COALESCE(sent.deliver_at, now() + sent.deliver_after * interval '1 second', now()),
           sent.traceparent
      FROM sent LEFT JOIN (SELECT * FROM known UNION ALL SELECT * FROM added) AS account
        ON account.identifier = sent.account
     ORDER BY sent.event_id
    ON CONFLICT (event_id, environment_id) DO UPDATE
       SET (payload, payload_raw, payload_type, context, deliver_at, traceparent) = (
               SELECT COALESCE(again.payload::jsonb, stored.payload), COALESCE(again.payload, stored.payload_raw),
                      COALESCE(again.payload_type, stored.payload_type), COALESCE(again.context::jsonb, stored.context),
                      EXCLUDED.deliver_at, again.traceparent
                 FROM sent AS again WHERE again.event_id = stored.event_id)
     WHERE stored.delivered_at IS NULL AND stored.cancelled_at IS NULL
       AND stored.deliver_at >= now() + interval '5 seconds'
    RETURNING {_CONTENT}
), owed AS (
    INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
    SELECT id, 'deliver', %(environment_id)s::uuid, deliver_at, GREATEST(deliver_at, now()) FROM record
    ON CONFLICT (subject_id) DO UPDATE
       SET due_at = EXCLUDED.due_at, hint_at = EXCLUDED.hint_at, hints = 0, attempts = 0, last_error = NULL,
           died_at = NULL
)
SELECT * FROM record
""",
)

# For records that SEND left alone: waits for whoever is changing them, and owes the delivery of an event that nobody
# listened to again. A fresh statement, because it must see what was committed while SEND waited.
_AGAIN = f"""
WITH record AS MATERIALIZED (
    SELECT {_CONTENT} FROM event_records
     WHERE event_id = ANY(%(event_ids)s) AND environment_id = %(environment_id)s
     ORDER BY event_id FOR NO KEY UPDATE
), owed AS (
    INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
    SELECT id, 'deliver', %(environment_id)s::uuid, deliver_at, GREATEST(deliver_at, now()) FROM record
     WHERE delivered_at IS NULL AND cancelled_at IS NULL
    ON CONFLICT (subject_id) DO NOTHING
)
SELECT * FROM record
"""

# Event first, then what is owed for it. Deliver re-checks cancelled_at all the same: an outbox row that was committed
# after this statement's snapshot is not seen here. Posts that nobody is carrying out this moment are cancelled too.
_CANCEL = f"""
WITH record AS (
    UPDATE event_records SET cancelled_at = now()
     WHERE event_id = %(event_id)s AND environment_id = %(environment)s AND cancelled_at IS NULL
    RETURNING {_COLUMNS}
), owed AS MATERIALIZED (
    SELECT subject_id FROM outbox
     WHERE subject_id = ANY(ARRAY(SELECT id FROM record UNION ALL
                                  SELECT invocations.id FROM invocations JOIN record ON event_record_id = record.id
                                   WHERE status = 'PENDING'))
       AND (kind = 'deliver' OR (kind = 'post' AND (lease_until IS NULL OR lease_until < now())))
     ORDER BY subject_id FOR UPDATE
), gone AS (
    DELETE FROM outbox WHERE subject_id = ANY(ARRAY(SELECT subject_id FROM owed)) RETURNING subject_id, kind
), canceled AS (
    UPDATE invocations SET status = 'CANCELED', reason = 'event cancelled', completed_at = now(), pending_one_shot = NULL
      FROM gone WHERE invocations.id = gone.subject_id AND gone.kind = 'post'
)
SELECT * FROM record
"""

_STANDINGS = """
SELECT records.id, identifier AS account, outbox.subject_id IS NOT NULL AS owed, outbox.died_at IS NOT NULL AS dead
  FROM event_records AS records
  LEFT JOIN external_accounts AS accounts ON accounts.id = records.external_account_id
  LEFT JOIN outbox ON outbox.subject_id = records.id
 WHERE records.id = ANY(%(ids)s)
"""

# What each state means, of an event `e`.
STATE_CONDITIONS = {
    "delivered": "delivered_at IS NOT NULL",
    "cancelled": "cancelled_at IS NOT NULL",
    "pending": "delivered_at IS NULL AND EXISTS (SELECT FROM outbox WHERE subject_id = e.id AND died_at IS NULL)",
    "dead": "delivered_at IS NULL AND EXISTS (SELECT FROM outbox WHERE subject_id = e.id AND died_at IS NOT NULL)",
    "unmatched": "delivered_at IS NULL AND cancelled_at IS NULL"
    " AND NOT EXISTS (SELECT FROM outbox WHERE subject_id = e.id)",
}
STATES = tuple(STATE_CONDITIONS)
# The one word for how an event stands; whether it is still owed is asked only where it was neither delivered nor cancelled.
STATE = f"""
CASE WHEN {STATE_CONDITIONS["cancelled"]} THEN 'cancelled' WHEN {STATE_CONDITIONS["delivered"]} THEN 'delivered'
     WHEN {STATE_CONDITIONS["dead"]} THEN 'dead' WHEN {STATE_CONDITIONS["pending"]} THEN 'pending' ELSE 'unmatched' END
"""


class Sent(msgspec.Struct, frozen=True):
    """One event as it came in: JSON texts as the sender wrote them, None where absent.

    It is delivered at a time, or after seconds, or at once, and may be about an external account, and part of a trace.
    """

    event_id: str
    name: str
    timestamp: datetime | None
    payload: str | None
    context: str | None
    source: str | None
    payload_type: str | None
    deliver_at: datetime | None
    deliver_after: int | None
    account: str | None
    traceparent: str | None


def send(environment: words.Environment, events: Sequence[Sent]) -> dict[str, models.EventRecord]:
    """Store `events` (no id twice) and what is owed for them; returns those created or changed, by event id."""
    columns = {f"{field}s": [getattr(event, field) for event in events] for field in Sent.__struct_fields__}
    owner = _owner(environment)
    return _by_event_id(_SEND.rows({"ids": [words.new_id() for _ in events], **columns, **owner}), owner)


def again(environment: words.Environment, event_ids: Sequence[str]) -> dict[str, models.EventRecord]:
    """The stored records of `event_ids`, locked; an undelivered one is owed again. Missing ones are not in the answer."""
    owner = _owner(environment)
    return _by_event_id(db.rows(_AGAIN, {"event_ids": list(event_ids), **owner}), owner)


def cancel(environment_id: uuid.UUID, event_id: str) -> models.EventRecord | None:
    """Cancel the event and everything not yet carried out for it; None when it is unknown or cancelled already."""
    found = db.rows(_CANCEL, {"event_id": event_id, "environment": environment_id})
    return _record(found[0]) if found else None


def get(environment_id: uuid.UUID, event_id: str) -> models.EventRecord | None:
    """The event that the sender called `event_id`."""
    found = db.rows(
        f"SELECT {_COLUMNS} FROM event_records WHERE event_id = %s AND environment_id = %s", (event_id, environment_id)
    )
    return _record(found[0]) if found else None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a list is about; None asks nothing. `state` is one of STATES, `account` an identifier."""

    name: str | None = None
    source: str | None = None
    account: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def newest(
    environment_id: uuid.UUID, wanted: Wanted, before: uuid.UUID | None, limit: int
) -> words.Page[models.EventRecord]:
    """The environment's events, newest first, from just before the record `before`. Times bound `created_at`."""
    parameters = {"environment": environment_id, "before": before, "limit": limit + 1, **msgspec.structs.asdict(wanted)}
    found = db.rows(
        f"""SELECT {_COLUMNS} FROM event_records e WHERE {" AND ".join(_conditions(wanted, before))}
            ORDER BY id DESC LIMIT %(limit)s""",
        parameters,
    )
    records = [_record(row) for row in found[:limit]]
    return words.Page(records, records[-1].id if len(found) > limit else None)


def standings(records: Sequence[models.EventRecord]) -> dict[uuid.UUID, words.Standing]:
    """How these records stand, by their ids. A record that is gone by now stands as `unmatched`."""
    found = db.rows(_STANDINGS, {"ids": [record.id for record in records]})
    known = {row["id"]: row for row in found}
    return {record.id: _standing(record, known.get(record.id)) for record in records}


def _standing(record: models.EventRecord, row: db.Row | None) -> words.Standing:
    state = words.state_of(
        cancelled=record.cancelled_at is not None,
        delivered=record.delivered_at is not None,
        owed=row is not None and row["owed"],
        dead=row is not None and row["dead"],
    )
    return words.Standing(state, row["account"] if row else None)


def _conditions(wanted: Wanted, before: uuid.UUID | None) -> list[str]:
    asked = {
        "id < %(before)s": before,
        "name = %(name)s": wanted.name,
        "source = %(source)s": wanted.source,
        "created_at >= %(since)s": wanted.since,
        "created_at < %(until)s": wanted.until,
        "external_account_id = (SELECT id FROM external_accounts"
        " WHERE environment_id = %(environment)s AND identifier = %(account)s)": wanted.account,
    }
    conditions = ["environment_id = %(environment)s", *(text for text, value in asked.items() if value is not None)]
    return [*conditions, STATE_CONDITIONS[wanted.state]] if wanted.state else conditions


def _owner(environment: words.Environment) -> db.Row:
    return {
        "environment_id": environment.id,
        "organization_id": environment.organization_id,
        "project_id": environment.project_id,
    }


def _record(row: db.Row) -> models.EventRecord:
    # Not through the constructor: it would set twenty fields one by one, which costs more than the rest of an answer.
    record = models.EventRecord(__no_default__=True)
    record.__data__ = {**row, "payload": msgspec.json.decode(row["payload_raw"])}
    return record


def _by_event_id(found: list[db.Row], owner: db.Row) -> dict[str, models.EventRecord]:
    return {row["event_id"]: _record(row | owner) for row in found}
