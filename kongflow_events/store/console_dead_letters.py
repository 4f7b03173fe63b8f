"""Dead letters as the console lists them, by the same conditions as a redrive of many.

A list looks at a bounded stretch of the dead, wanted or not, so that it costs the same however few are wanted.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from kongflow_events import words
from kongflow_events.store import db, redrives, stretches

# Dead letters that one page looks at, and that are counted.
LOOK, COUNTED = 2000, 10_000

_INVOCATIONS = f"""
WITH looked AS MATERIALIZED (
    SELECT * FROM invocations
     WHERE {redrives.DEAD_INVOCATION} AND (%(before)s::uuid IS NULL OR id < %(before)s) ORDER BY id DESC LIMIT {LOOK}
), wanted AS (
    SELECT * FROM looked WHERE {redrives.WANTED_INVOCATION} ORDER BY id DESC LIMIT %(limit)s
), seen AS (
    SELECT count(*) AS number, (SELECT id FROM looked ORDER BY id LIMIT 1) AS last FROM looked
)
SELECT seen.number AS looked, seen.last, wanted.id, records.event_id, records.name AS event_name,
       records.id AS record_id, wanted.dispatcher_id, wanted.dispatcher_event, wanted.dispatchable, wanted.reason,
       wanted.attempts, wanted.redrives, wanted.last_outcome, wanted.died_at
  FROM seen LEFT JOIN wanted ON TRUE LEFT JOIN event_records AS records ON records.id = wanted.event_record_id
 ORDER BY wanted.id DESC
"""

_DELIVERIES = f"""
WITH looked AS MATERIALIZED (
    SELECT * FROM outbox
     WHERE {redrives.DEAD_DELIVERY} AND (%(before)s::uuid IS NULL OR subject_id < %(before)s)
     ORDER BY subject_id DESC LIMIT {LOOK}
), wanted AS (
    SELECT * FROM looked WHERE {redrives.WANTED_DELIVERY} ORDER BY subject_id DESC LIMIT %(limit)s
), seen AS (
    SELECT count(*) AS number, (SELECT subject_id FROM looked ORDER BY subject_id LIMIT 1) AS last FROM looked
)
SELECT seen.number AS looked, seen.last, wanted.subject_id AS id, records.event_id, records.name AS event_name,
       records.id AS record_id, wanted.last_error AS reason, wanted.attempts, wanted.died_at
  FROM seen LEFT JOIN wanted ON TRUE LEFT JOIN event_records AS records ON records.id = wanted.subject_id
 ORDER BY wanted.subject_id DESC
"""


_COUNT = """
WITH looked AS MATERIALIZED (SELECT * FROM {table} WHERE {dead} ORDER BY {key} DESC LIMIT %(look)s)
SELECT count(*) FILTER (WHERE {wanted}) AS wanted, count(*) AS looked FROM looked
"""
_COUNTS = {
    "invocations": _COUNT.format(
        table="invocations", dead=redrives.DEAD_INVOCATION, key="id", wanted=redrives.WANTED_INVOCATION
    ),
    "deliveries": _COUNT.format(
        table="outbox", dead=redrives.DEAD_DELIVERY, key="subject_id", wanted=redrives.WANTED_DELIVERY
    ),
}


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter with its event; a delivery has no dispatcher."""

    id: uuid.UUID
    event_id: str
    event_name: str
    record_id: uuid.UUID
    reason: str | None
    attempts: int
    died_at: datetime
    dispatcher_id: uuid.UUID | None = None
    dispatcher_event: str | None = None
    dispatchable: dict[str, Any] | None = None
    redrives: int = 0
    last_outcome: str | None = None


class Counted(NamedTuple):
    """How many dead letters are wanted, and whether these are all: the newest COUNTED have been looked at."""

    number: int
    all: bool


def newest(
    environment_id: uuid.UUID, wanted: redrives.Wanted, before: uuid.UUID | None, limit: int
) -> words.Page[Dead]:
    """The environment's dead letters that are wanted, newest first, from just before `before`."""
    statement = _INVOCATIONS if wanted.of == "invocations" else _DELIVERIES
    found = db.rows(
        statement,
        {
            "environment": environment_id,
            "before": before,
            "limit": limit + 1,
            **msgspec.structs.asdict(wanted),
        },
    )
    return stretches.page(found, Dead, LOOK, limit)


def count(environment_id: uuid.UUID, wanted: redrives.Wanted) -> Counted:
    """How many of the environment's dead letters are wanted, as far as they are counted."""
    parameters = {"environment": environment_id, "look": COUNTED, **msgspec.structs.asdict(wanted)}
    [found] = db.rows(_COUNTS[wanted.of], parameters)
    return Counted(found["wanted"], found["looked"] < COUNTED)
