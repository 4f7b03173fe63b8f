"""Signs of life, and what keeps PostgreSQL from cleaning up."""

from __future__ import annotations

import msgspec

from kongflow_events.store import db

_BEAT = """
INSERT INTO process_heartbeats (kind, instance) VALUES (%s, %s)
ON CONFLICT (kind, instance) DO UPDATE SET beat_at = now()
"""

# A transaction holds vacuum back by its snapshot or by its number. A vacuum's own does not count, here as there, and a
# prepared transaction has no session any more.
_OLDEST_HOLDER = """
SELECT extract(epoch FROM clock_timestamp() - began)::float AS seconds, holder
  FROM (
    SELECT xact_start AS began, format('session %%s of %%s (%%s, %%s)', pid, usename, application_name, state) AS holder
      FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
       AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
       AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
     UNION ALL
    SELECT prepared, format('prepared transaction %%s of %%s', gid, owner)
      FROM pg_prepared_xacts WHERE database = current_database()
  ) AS holders
 WHERE began IS NOT NULL
 ORDER BY began LIMIT 1
"""


class Holder(msgspec.Struct, frozen=True):
    """Who has held a snapshot or a transaction the longest, and for how many seconds."""

    seconds: float
    holder: str


def beat(kind: str, instance: str) -> None:
    """This process lives; what has not said so for a day is forgotten."""
    db.run(_BEAT, (kind, instance))
    db.run("DELETE FROM process_heartbeats WHERE beat_at < now() - interval '1 day'")


def age(kind: str) -> float | None:
    """Seconds since a process of this kind last said that it lives; None when none ever did."""
    found = db.rows(
        "SELECT extract(epoch FROM now() - max(beat_at))::float AS age FROM process_heartbeats WHERE kind = %s", (kind,)
    )
    seconds: float | None = found[0]["age"]
    return seconds


def oldest_holder() -> Holder | None:
    """Who has kept vacuum from cleaning this database the longest; None when nobody does.

    A role that is not in `pg_monitor` sees the transactions of its own sessions, and prepared ones; those of other roles
    are hidden from it.
    """
    found = db.rows(_OLDEST_HOLDER)
    return Holder(**found[0]) if found else None
