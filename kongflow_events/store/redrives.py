"""Dead letters, read and given new attempts: invocations, and events' deliveries.

A redrive begins a new round: attempts count from one again, those of earlier rounds stay in the ledger.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import msgspec
import peewee

from kongflow_events import words
from kongflow_events.store import counts, db

_PENDING = "invocations_pending_one_shot_key"

# Which dead letters, by conditions that may be NULL: NULL asks nothing. A delivery has no dispatcher and no class. An event
# is looked up by its id, for each: as a mere condition the planner may find it cheaper to read all events of that name.
WANTED_INVOCATION = """
    (%(dispatcher)s::uuid IS NULL OR dispatcher_id = %(dispatcher)s)
    AND (%(error_class)s::text IS NULL OR last_outcome IS NOT DISTINCT FROM %(error_class)s)
    AND (%(since)s::timestamptz IS NULL OR died_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR died_at < %(until)s)
    AND (%(name)s::text IS NULL OR (SELECT name FROM event_records WHERE event_records.id = event_record_id) = %(name)s)
"""
WANTED_DELIVERY = """
    (%(since)s::timestamptz IS NULL OR died_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR died_at < %(until)s)
    AND (%(name)s::text IS NULL OR (SELECT name FROM event_records WHERE event_records.id = subject_id) = %(name)s)
"""
DEAD_INVOCATION = "environment_id = %(environment)s AND died_at IS NOT NULL"
DEAD_DELIVERY = "kind = 'deliver' AND lane = %(environment)s AND hint_at = 'infinity' AND died_at IS NOT NULL"

# Looks at a bounded stretch of the dead, wanted or not: a step costs the same however few are wanted. `last` is its end,
# NULL where the last of the dead is nearer. What is wanted is no condition of the stretch itself, or the planner would look
# for it elsewhere.
_NEXT = """
SELECT (SELECT {id} FROM {table} WHERE {dead} AND (%(after)s::uuid IS NULL OR {id} > %(after)s)
         ORDER BY {id} OFFSET %(look)s - 1 LIMIT 1) AS last,
       array(SELECT id FROM (
           SELECT {id} AS id, died_at <= %(started)s AND ({wanted}) AS wanted
             FROM {table} WHERE {dead} AND (%(after)s::uuid IS NULL OR {id} > %(after)s)
            ORDER BY {id} LIMIT %(look)s) AS looked
        WHERE wanted ORDER BY id LIMIT %(most)s) AS chosen
"""
_NEXT_INVOCATIONS = _NEXT.format(id="id", table="invocations", dead=DEAD_INVOCATION, wanted=WANTED_INVOCATION)
_NEXT_DELIVERIES = _NEXT.format(id="subject_id", table="outbox", dead=DEAD_DELIVERY, wanted=WANTED_DELIVERY)

# One whose dispatcher would only have it skipped stays dead: it could not be redriven any more once somebody enables that.
# A one-shot dispatcher waits for one event at a time: of several dead letters the oldest goes first, and none while
# another event is pending. The events are held, in the house's lock order first of all: retention, which judges them by
# what is committed, would delete one with what has just been given new attempts.
_REVIVE_INVOCATIONS = """
WITH records AS MATERIALIZED (
    SELECT id FROM event_records WHERE id IN (SELECT event_record_id FROM invocations WHERE id = ANY(%(ids)s))
     ORDER BY id FOR KEY SHARE
), asked AS (
    SELECT invocations.id, invocations.dispatcher_id, one_shot
      FROM invocations JOIN records ON records.id = event_record_id
      JOIN event_dispatchers AS dispatchers ON dispatchers.id = invocations.dispatcher_id
     WHERE invocations.id = ANY(%(ids)s) AND invocations.died_at IS NOT NULL
       AND enabled AND (expires_at IS NULL OR expires_at > now())
     ORDER BY invocations.id FOR NO KEY UPDATE OF invocations
), free AS (
    SELECT id, CASE WHEN one_shot THEN dispatcher_id END AS pending_one_shot FROM (
        SELECT asked.*, row_number() OVER (PARTITION BY dispatcher_id ORDER BY id) AS turn FROM asked) AS asked
     WHERE NOT one_shot
        OR (turn = 1 AND NOT EXISTS (SELECT FROM invocations AS pending WHERE pending.pending_one_shot = asked.dispatcher_id))
), made AS (
    UPDATE invocations
       SET status = 'PENDING', reason = NULL, completed_at = NULL, died_at = NULL, attempts = 0, redrives = redrives + 1,
           pending_one_shot = free.pending_one_shot
      FROM free WHERE invocations.id = free.id
    RETURNING invocations.id, environment_id, dispatcher_id, dispatchable->>'type' = ANY(%(url_types)s) AS url
), owed AS (
    INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
    SELECT id, CASE WHEN url THEN 'post' ELSE 'invoke' END, CASE WHEN url THEN dispatcher_id ELSE environment_id END,
           now(), now()
      FROM made
)
SELECT id FROM made
"""

# The house's lock order: event records first.
_REVIVE_DELIVERIES = """
WITH records AS MATERIALIZED (
    SELECT id FROM event_records WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE
)
UPDATE outbox SET died_at = NULL, attempts = 0, hints = 0, hint_at = GREATEST(due_at, now())
  FROM records WHERE outbox.subject_id = records.id AND outbox.kind = 'deliver' AND outbox.died_at IS NOT NULL
RETURNING outbox.subject_id AS id
"""

_DISMISS_INVOCATION = """
UPDATE invocations SET status = 'CANCELED', reason = 'dismissed: ' || COALESCE(reason, ''), died_at = NULL
 WHERE id = %(id)s AND environment_id = %(environment)s AND died_at IS NOT NULL
"""

_DISMISS_DELIVERY = """
WITH record AS MATERIALIZED (
    SELECT id FROM event_records WHERE id = %(id)s AND environment_id = %(environment)s FOR NO KEY UPDATE
)
DELETE FROM outbox USING record
 WHERE outbox.subject_id = record.id AND outbox.kind = 'deliver' AND outbox.died_at IS NOT NULL
"""


class AnotherPending(Exception):
    """The one-shot dispatcher of a dead letter waits for another event since a moment ago."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters: `of` invocations or deliveries; None asks nothing. Times bound when they died."""

    of: str
    dispatcher: uuid.UUID | None = None
    name: str | None = None
    error_class: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Stretch(msgspec.Struct, frozen=True):
    """What a look at some of the dead has found, by id, and where it ended: None at the last of them."""

    chosen: list[uuid.UUID]
    last: uuid.UUID | None


class _Statements(NamedTuple):
    all: str
    next: str
    revive: str


_STATEMENTS = {
    "invocations": _Statements(
        f"FROM invocations WHERE {DEAD_INVOCATION} AND {WANTED_INVOCATION}",
        _NEXT_INVOCATIONS,
        _REVIVE_INVOCATIONS,
    ),
    "deliveries": _Statements(
        f"FROM outbox WHERE {DEAD_DELIVERY} AND {WANTED_DELIVERY}",
        _NEXT_DELIVERIES,
        _REVIVE_DELIVERIES,
    ),
}


def count(environment_id: uuid.UUID, wanted: Wanted) -> int:
    """How many dead letters are wanted now, or about how many."""
    parameters = {"environment": environment_id, **msgspec.structs.asdict(wanted)}
    return counts.matching(_STATEMENTS[wanted.of].all, parameters)


def next_dead(
    environment_id: uuid.UUID, wanted: Wanted, started: datetime, after: uuid.UUID | None, look: int, most: int
) -> Stretch:
    """Up to `most` dead letters that are wanted and died before `started`, among the next `look` dead ones behind `after`."""
    parameters = {
        "environment": environment_id,
        "started": started,
        "after": after,
        "look": look,
        "most": most,
        **msgspec.structs.asdict(wanted),
    }
    return Stretch(**db.rows(_STATEMENTS[wanted.of].next, parameters)[0])


def revive(of: str, ids: Collection[uuid.UUID]) -> list[uuid.UUID]:
    """Give these dead letters new attempts, due now; returns those that were dead and could be.

    Raises AnotherPending, and nothing is changed, when an event came to one of their one-shot dispatchers meanwhile.
    """
    parameters = {"ids": list(ids), "url_types": list(words.URL_TYPES)}
    try:
        return [row["id"] for row in db.rows(_STATEMENTS[of].revive, parameters)]
    except peewee.IntegrityError as error:
        if _PENDING in str(error):
            raise AnotherPending from error
        raise


def dismiss_invocation(environment_id: uuid.UUID, invocation_id: uuid.UUID) -> bool:
    """End a dead invocation for good; False when there is no such dead letter here."""
    return bool(db.run(_DISMISS_INVOCATION, {"id": invocation_id, "environment": environment_id}))


def dismiss_delivery(environment_id: uuid.UUID, record_id: uuid.UUID) -> bool:
    """Owe a dead delivery no longer; False when there is no such dead letter here."""
    return bool(db.run(_DISMISS_DELIVERY, {"id": record_id, "environment": environment_id}))
