"""Figures for the console's first page, each from a bounded number of rows: what is more is said to be more, or estimated."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, get_args

import msgspec

from kongflow_events import words
from kongflow_events.store import db, targets
from kongflow_events.store.events import STATE, STATES

MINUTES: Final = 60
STATUSES: Final = get_args(words.InvocationStatus)
# What is counted one by one: above it a figure reads "more than", and a minute's is taken from the time that so many took.
MOST: Final = 10_000
_A_MINUTE: Final = 200
# Events whose way from received to delivered is measured.
_MEASURED: Final = 1_000
# Processes beat every few seconds.
_SILENT: Final = timedelta(seconds=30)


def _counted(column: str, said: Sequence[str]) -> str:
    """How many rows say each of these words in a column, each count under its word."""
    return ", ".join(f"""count(*) FILTER (WHERE {column} = '{word}') AS "{word}\"""" for word in said)


# The rows of a minute are found by their ids, which grow with time; of a minute with more than so many, the time between
# its end and the last one that was counted says how many there are.
_MINUTES = f"""
SELECT minute, events.*, made.*
  FROM unnest(%(minutes)s::timestamptz[], %(firsts)s::uuid[], %(afters)s::uuid[]) AS minutes(minute, first, after)
  CROSS JOIN LATERAL (
    SELECT count(*) AS received, min(id::text)::uuid AS first_event, {_counted("state", STATES)}
      FROM (SELECT id, {STATE} AS state FROM event_records AS e
             WHERE environment_id = %(environment)s AND id >= minutes.first AND id < minutes.after
             ORDER BY id DESC LIMIT {_A_MINUTE}) AS few) AS events
  CROSS JOIN LATERAL (
    SELECT count(*) AS invocations, min(id::text)::uuid AS first_made, count(last_error) AS failed,
           {_counted("status", STATUSES)}
      FROM (SELECT id, last_error, status FROM invocations
             WHERE environment_id = %(environment)s AND id >= minutes.first AND id < minutes.after
             ORDER BY id DESC LIMIT {_A_MINUTE}) AS few) AS made
 ORDER BY minute
"""

_P95 = f"""
SELECT percentile_cont(0.95) WITHIN GROUP (
           ORDER BY extract(epoch FROM delivered_at - GREATEST(created_at, deliver_at)))::float AS p95
  FROM (SELECT created_at, deliver_at, delivered_at FROM event_records
         WHERE environment_id = %(environment)s AND id >= %(first)s ORDER BY id DESC LIMIT {_MEASURED}) AS few
 WHERE delivered_at IS NOT NULL
"""


def _calls(resting: bool) -> str:
    """Calls that are owed to targets that rest or are paused, or to all others: neither sort hides the other."""
    return f"""
    (SELECT outbox.kind, outbox.due_at, {resting} AS rests
       FROM event_dispatchers AS dispatchers LEFT JOIN targets ON targets.dispatcher_id = dispatchers.id
       JOIN outbox ON outbox.kind = 'post' AND outbox.lane = dispatchers.id
      WHERE dispatchers.environment_id = %(environment)s
        AND ({targets.WAITS}) = {resting}
      LIMIT {MOST + 1})"""


# By kind: what is owed here, what of it is due, and since when. Posts wait in their dispatchers' lanes.
_BACKLOG = f"""
WITH owed AS (
    (SELECT kind, due_at, FALSE AS rests FROM outbox
      WHERE kind = 'deliver' AND lane = %(environment)s AND hint_at < 'infinity' LIMIT {MOST + 1})
    UNION ALL
    (SELECT kind, due_at, FALSE FROM outbox WHERE kind = 'invoke' AND lane = %(environment)s LIMIT {MOST + 1})
    UNION ALL{_calls(resting=False)}
    UNION ALL{_calls(resting=True)}
)
SELECT kind, count(*) AS owed, count(*) FILTER (WHERE due_at <= now() AND NOT rests) AS due,
       count(*) FILTER (WHERE rests) AS resting,
       extract(epoch FROM now() - min(due_at) FILTER (WHERE due_at <= now() AND NOT rests))::float AS oldest
  FROM owed GROUP BY kind
"""

_DEAD = f"""
SELECT (SELECT count(*) FROM (SELECT FROM invocations
          WHERE environment_id = %(environment)s AND died_at IS NOT NULL LIMIT {MOST + 1}) AS few) AS invocations,
       (SELECT count(*) FROM (SELECT FROM outbox
          WHERE kind = 'deliver' AND lane = %(environment)s AND hint_at = 'infinity' AND died_at IS NOT NULL
          LIMIT {MOST + 1}) AS few) AS deliveries
"""

# Counting ten million rows takes seconds; what vacuum last counted takes none. It has not counted a few yet.
_STORED = f"""
SELECT CASE WHEN few <= {MOST} THEN few ELSE GREATEST(reltuples, few)::bigint END AS events
  FROM (SELECT count(*) AS few FROM (SELECT FROM event_records LIMIT {MOST + 1}) AS first) AS counted, pg_class
 WHERE oid = 'event_records'::regclass
"""

_PROCESSES = """
SELECT kind, instance, started_at, extract(epoch FROM now() - beat_at)::float AS silent,
       CASE WHEN beat_at > now() - %(silent)s THEN 'live'
            WHEN max(beat_at) OVER (PARTITION BY kind) > now() - %(silent)s THEN 'gone' ELSE 'silent' END AS state
  FROM process_heartbeats WHERE beat_at > now() - interval '1 hour' OR beat_at = (
       SELECT max(beat_at) FROM process_heartbeats AS others WHERE others.kind = process_heartbeats.kind)
 ORDER BY kind, beat_at DESC LIMIT 50
"""


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """What came in a minute: how many events, by their states by now; and of the invocations made in it, how they stand.

    `failed` counts those with an attempt that failed. `estimated` says that there were too many to count.
    """

    minute: datetime
    received: int
    states: dict[str, int]
    failed: int
    statuses: dict[str, int]
    estimated: bool


class Backlog(msgspec.Struct, frozen=True):
    """What is owed of a kind, and of that due; `oldest` is for how many seconds something has been due.

    `resting` are those that wait for a target that rests or is paused: none of them is due.
    """

    kind: words.Kind
    owed: int = 0
    due: int = 0
    resting: int = 0
    oldest: float | None = None


class Dead(msgspec.Struct, frozen=True):
    """Dead letters."""

    invocations: int
    deliveries: int


class Process(msgspec.Struct, frozen=True):
    """A process that says it lives; `silent` is for how many seconds it has not.

    Its state is `live`; `gone` when it is not, but another of its kind is; `silent` when none is.
    """

    kind: str
    instance: str
    started_at: datetime
    silent: float
    state: str


def minutes(environment_id: uuid.UUID, starts: list[datetime], ends: list[datetime]) -> list[Minute]:
    """What came in each of these minutes, in the environment, in order."""
    parameters = {
        "environment": environment_id,
        "minutes": starts,
        "firsts": [words.first_id_at(at) for at in starts],
        "afters": [words.first_id_at(at) for at in ends],
    }
    return [_minute(row, end) for row, end in zip(db.rows(_MINUTES, parameters), ends, strict=True)]


def p95(environment_id: uuid.UUID, since: datetime) -> float | None:
    """In how many seconds 95 of 100 of the newest events were delivered; None when none has come since then."""
    row = db.rows(_P95, {"environment": environment_id, "first": words.first_id_at(since)})[0]
    seconds: float | None = row["p95"]
    return seconds


def backlog(environment_id: uuid.UUID) -> list[Backlog]:
    """What is owed, of every kind; of each, and of calls that wait for a target, at most one more than MOST is counted."""
    found = {row["kind"]: Backlog(**row) for row in db.rows(_BACKLOG, {"environment": environment_id})}
    return [found.get(kind, Backlog(kind)) for kind in words.KINDS]


def dead(environment_id: uuid.UUID) -> Dead:
    """Dead letters; of each sort at most one more than MOST is counted."""
    return Dead(**db.rows(_DEAD, {"environment": environment_id})[0])


def stored() -> int:
    """About how many events there are, in all environments."""
    number: int = db.rows(_STORED)[0]["events"]
    return number


def processes() -> list[Process]:
    """Those that have said within an hour that they live, and the last one of each kind."""
    return [Process(**row) for row in db.rows(_PROCESSES, {"silent": _SILENT})]


def _minute(row: db.Row, end: datetime) -> Minute:
    events = _factor(row["received"], row["first_event"], end)
    made = _factor(row["invocations"], row["first_made"], end)
    return Minute(
        minute=row["minute"],
        received=round(row["received"] * events),
        states={state: round(row[state] * events) for state in STATES},
        failed=round(row["failed"] * made),
        statuses={status: round(row[status] * made) for status in STATUSES},
        estimated=events > 1 or made > 1,
    )


def _factor(counted: int, first: uuid.UUID | None, end: datetime) -> float:
    """By how much a minute has more than was counted of its end: the newest rows say how fast they came."""
    if first is None or counted < _A_MINUTE:
        return 1.0
    took = (end - words.made_at(first)).total_seconds()
    return max(60.0 / max(took, 0.001), 1.0)
