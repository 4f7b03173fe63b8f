"""What an environment's events came to, counted in slots of time.

Ids grow with time, so an environment's rows of a window lie together in the indexes that lists use: nothing else is read.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Final

from kongflow_events import words
from kongflow_events.store import db

# Ids are made by the services' clocks, times by the database's, and a transaction may take its while.
_APART: Final = timedelta(minutes=5)

_SLOT = "floor(extract(epoch FROM created_at - %(since)s) / %(seconds)s)::int"
_WINDOW = """environment_id = %(environment)s AND id >= %(lowest)s AND id < %(highest)s
   AND created_at >= %(since)s AND created_at < %(until)s"""

_EVENTS = f"""
SELECT {_SLOT} AS slot, count(*) AS received, count(delivered_at) AS delivered
  FROM event_records WHERE {_WINDOW} GROUP BY slot
"""
_INVOCATIONS = f"""
SELECT {_SLOT} AS slot, count(*) AS invocations, count(last_outcome) AS failed, count(died_at) AS dead
  FROM invocations WHERE {_WINDOW} GROUP BY slot
"""


def count(environment_id: uuid.UUID, since: datetime, seconds: float, slots: int) -> list[words.Counts]:
    """Counts of `slots` slots of `seconds` each, from `since` on, in order."""
    until = since + timedelta(seconds=seconds * slots)
    parameters = {
        "environment": environment_id,
        "since": since,
        "until": until,
        "seconds": seconds,
        "lowest": words.first_id_at(since - _APART),
        "highest": words.first_id_at(until + _APART),
    }
    counted = [words.Counts() for _ in range(slots)]
    for statement in (_EVENTS, _INVOCATIONS):
        for row in db.rows(statement, parameters):
            # A time just below the end may be rounded up to it.
            slot = min(row.pop("slot"), slots - 1)
            counted[slot] = counted[slot].plus(**row)
    return counted
