"""How much there is of what an operator watches. Every count stops at COUNTED, so that a backlog makes none of them slow."""

from __future__ import annotations

import msgspec

from kongflow_events import words
from kongflow_events.store import db

COUNTED = 100_000

# By the order in which the relay takes them, so that those that are due are counted before those that are not. The dead
# stand at infinity.
_OUTBOX = db.Prepared(
    "count_outbox",
    f"""
SELECT kinds.kind, counted.state, counted.number, counted.oldest
  FROM unnest(%(kinds)s::text[]) AS kinds(kind) CROSS JOIN LATERAL (
    SELECT CASE WHEN lease_until > now() THEN 'leased' WHEN due_at > now() THEN 'later' ELSE 'due' END AS state,
           count(*) AS number, extract(epoch FROM now() - min(due_at))::float8 AS oldest
      FROM (SELECT due_at, lease_until FROM outbox WHERE kind = kinds.kind AND hint_at < 'infinity'
             ORDER BY hint_at LIMIT {COUNTED}) AS owed
     GROUP BY 1
     UNION ALL
    SELECT 'dead', count(*), NULL
      FROM (SELECT FROM outbox WHERE kind = kinds.kind AND hint_at = 'infinity' LIMIT {COUNTED}) AS dead) AS counted
""",
)

# Sessions of another role show neither what they do nor, to some, that they are there.
_REST = f"""
SELECT (SELECT count(*) FROM (SELECT FROM invocations WHERE died_at IS NOT NULL LIMIT {COUNTED}) AS dead) AS dead,
       targets.*, relays.*, sessions.*
  FROM (SELECT count(*) FILTER (WHERE failures > 0) AS failing, count(*) FILTER (WHERE opened_at IS NOT NULL) AS open,
               count(*) FILTER (WHERE disabled_at IS NOT NULL) AS disabled
          FROM (SELECT failures, opened_at, disabled_at FROM targets LIMIT {COUNTED}) AS known) AS targets
 CROSS JOIN (SELECT extract(epoch FROM now() - max(beat_at))::float8 AS relay_age,
                    count(*) FILTER (WHERE beat_at > now() - interval '30 seconds') AS relays
               FROM process_heartbeats WHERE kind = 'scheduler') AS relays
 CROSS JOIN (SELECT count(*) FILTER (WHERE state = 'active') AS active, count(*) FILTER (WHERE state = 'idle') AS idle,
                    count(*) FILTER (WHERE state LIKE 'idle in transaction%%') AS in_transaction
               FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = 'kongflow-events') AS sessions
"""


class Owed(msgspec.Struct, frozen=True):
    """Rows of the outbox in one state (due, later, leased, dead), and the seconds for which the first has been due."""

    kind: words.Kind
    state: str
    number: int
    oldest: float | None


class Rest(msgspec.Struct, frozen=True):
    """Dead invocations, targets in trouble, schedulers (`relay_age`: None when there was none), connections by state."""

    dead: int
    failing: int
    open: int
    disabled: int
    relay_age: float | None
    relays: int
    active: int
    idle: int
    in_transaction: int


def outbox() -> list[Owed]:
    """What is owed, by kind and state; a state without rows may be missing."""
    return [Owed(**row) for row in _OUTBOX.rows({"kinds": list(words.KINDS)})]


def rest() -> Rest:
    """Everything else."""
    return Rest(**db.rows(_REST)[0])
