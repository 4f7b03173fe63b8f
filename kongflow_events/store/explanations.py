"""What became of one event at one dispatcher, for `explain`: read at one moment of the database's clock."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

from kongflow_events import words
from kongflow_events.store import db

_STORY = """
SELECT accounts.identifier AS account, owed.subject_id IS NOT NULL AS owed, owed.due_at, owed.due_at > now() AS early,
       owed.attempts AS tried, owed.died_at IS NOT NULL AS dead, owed.last_error,
       invocations.id AS invocation_id, invocations.status, invocations.reason, invocations.attempts,
       invocations.last_error AS invocation_error
  FROM event_records AS records
  LEFT JOIN external_accounts AS accounts ON accounts.id = records.external_account_id
  LEFT JOIN outbox AS owed ON owed.subject_id = records.id
  LEFT JOIN LATERAL (
    SELECT * FROM invocations WHERE event_record_id = records.id AND dispatcher_id = %(dispatcher)s
     ORDER BY replay DESC LIMIT 1) AS invocations ON TRUE
 WHERE records.id = %(record)s
"""


class Story(msgspec.Struct, frozen=True):
    """An event's delivery (`owed` to `last_error` speak of it), and its latest invocation for the dispatcher, if any."""

    account: str | None
    owed: bool
    due_at: datetime | None
    early: bool | None
    tried: int | None
    dead: bool | None
    last_error: str | None
    invocation_id: uuid.UUID | None
    status: words.InvocationStatus | None
    reason: str | None
    attempts: int | None
    invocation_error: str | None


def story(record_id: uuid.UUID, dispatcher_id: uuid.UUID) -> Story:
    """What became of the event at the dispatcher."""
    [row] = db.rows(_STORY, {"record": record_id, "dispatcher": dispatcher_id})
    return Story(**row)
