"""What an operator's doctor looks at: the server, what is owed and by whom forgotten, and the clocks."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

import msgspec

from kongflow_events.store import db, targets

# Rows that are looked at, so that a backlog of millions does not make the doctor slow.
MOST: Final = 200_000

_SERVER = """
SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS read_only,
       current_setting('max_connections')::int AS connections,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connected
"""

# `post` is left to the receivers: what waits for a slow one waits rightly, and what waits for one that rests is not late.
_OWED = f"""
SELECT kind, count(*) AS rows,
       count(*) FILTER (WHERE died_at IS NULL AND kind <> 'post' AND hint_at < now() - interval '1 minute') AS forgotten,
       count(*) FILTER (WHERE died_at IS NULL AND lease_until < now() - interval '5 minutes') AS abandoned,
       count(*) FILTER (WHERE rests) AS resting,
       COALESCE(extract(epoch FROM now() - min(due_at) FILTER (WHERE died_at IS NULL AND NOT rests)), 0)::float AS oldest
  FROM (SELECT outbox.*, {targets.WAITS} AS rests
          FROM (SELECT * FROM outbox LIMIT {MOST}) AS outbox
          LEFT JOIN targets ON kind = 'post' AND dispatcher_id = lane) AS looked_at
 GROUP BY kind ORDER BY kind
"""

# One row for each environment that has some, the worst first; its name as commands take it.
_BY_ENVIRONMENT = """
SELECT counted.*, organizations.slug || '/' || projects.slug || '/' || lower(environments.type) AS environment
  FROM counted
  LEFT JOIN runtime_environments AS environments ON environments.id = environment_id
  LEFT JOIN projects ON projects.id = environments.project_id
  LEFT JOIN organizations ON organizations.id = environments.organization_id
"""

_TARGETS = f"""
WITH counted AS (
    SELECT environment_id, count(*) FILTER (WHERE disabled_at IS NULL) AS resting, count(disabled_at) AS disabled
      FROM targets JOIN event_dispatchers ON event_dispatchers.id = dispatcher_id
     WHERE opened_at IS NOT NULL OR disabled_at IS NOT NULL GROUP BY environment_id
) {_BY_ENVIRONMENT} ORDER BY resting + disabled DESC, environment
"""

_DEAD = f"""
WITH dead AS (
    (SELECT environment_id FROM invocations WHERE died_at IS NOT NULL LIMIT {MOST})
    UNION ALL
    (SELECT lane FROM outbox WHERE kind = 'deliver' AND hint_at = 'infinity' AND died_at IS NOT NULL LIMIT {MOST})
), counted AS (
    SELECT environment_id, count(*) AS number FROM dead GROUP BY environment_id
) {_BY_ENVIRONMENT} ORDER BY number DESC, environment
"""

_NEWEST = "SELECT id, created_at FROM event_records ORDER BY created_at DESC LIMIT 50"


class Server(msgspec.Struct, frozen=True):
    """The PostgreSQL: its version as 150004, whether it takes writes, its connections and how many are taken."""

    version: int
    read_only: bool
    connections: int
    connected: int


class Owed(msgspec.Struct, frozen=True):
    """What of one kind is owed."""

    kind: str
    rows: int
    # Those that no worker was told of for a minute, and those whose lease ran out five minutes ago.
    forgotten: int
    abandoned: int
    # Calls that wait for a target that rests or is paused.
    resting: int
    # Seconds since the first of those that are not dead, and wait for no such target, was due.
    oldest: float


class Dead(msgspec.Struct, frozen=True):
    """How many dead letters an environment has; it is called `organization/project/type`, None where it is gone."""

    environment: str | None
    number: int


class Failing(msgspec.Struct, frozen=True):
    """How many targets of an environment are left alone because they fail, and how many the service has disabled."""

    environment: str
    resting: int
    disabled: int


class Beat(msgspec.Struct, frozen=True):
    """A process, and how many seconds ago it last said that it lives."""

    kind: str
    instance: str
    age: float


def server() -> Server:
    """The server that this process is connected to."""
    return Server(**db.rows(_SERVER)[0])


def owed() -> list[Owed]:
    """What is owed, by kind, of the first MOST rows."""
    return [Owed(**row) for row in db.rows(_OWED)]


def dead() -> list[Dead]:
    """The environments with dead letters, the worst first, by the first MOST of each kind."""
    return [Dead(row["environment"], row["number"]) for row in db.rows(_DEAD)]


def failing() -> list[Failing]:
    """The environments whose targets fail, the worst first."""
    return [Failing(row["environment"], row["resting"], row["disabled"]) for row in db.rows(_TARGETS)]


def beats() -> list[Beat]:
    """Every process that said within a day that it lives, the latest first."""
    found = db.rows(
        "SELECT kind, instance, extract(epoch FROM now() - beat_at)::float AS age FROM process_heartbeats ORDER BY age"
    )
    return [Beat(**row) for row in found]


def newest_ids() -> list[tuple[uuid.UUID, datetime]]:
    """The newest events' ids, which hold the time of the process that made them, and their times by the database."""
    rows: list[dict[str, Any]] = db.rows(_NEWEST)
    return [(row["id"], row["created_at"]) for row in rows]


def clock() -> datetime:
    """The database's clock at this moment."""
    at: datetime = db.rows("SELECT clock_timestamp() AS now")[0]["now"]
    return at
