"""Notices: the events that the service itself makes, read off the ledger and stored like a sender's."""

from __future__ import annotations

import uuid
from collections.abc import Collection

import msgspec

from kongflow_events import words
from kongflow_events.store import db

# Nobody reads a notice in an environment where nobody listens to the source: there is none then.
_LISTENING = """EXISTS (
       SELECT FROM event_dispatcher_names AS names
        WHERE names.environment_id = {}.environment_id AND names.source = %(source)s)"""

# The end of a notice makes no notice, or a receiver of notices that fails would never hear the end of it.
_DEAD = f"""
SELECT invocations.id AS invocation_id, invocations.environment_id, invocations.dispatcher_id, records.event_id,
       records.name AS event_name, invocations.reason, invocations.attempts, invocations.dispatchable->>'type' AS type,
       invocations.dispatchable->>'id' AS target, invocations.dispatchable->>'url' AS url
  FROM invocations JOIN event_records AS records ON records.id = invocations.event_record_id
 WHERE invocations.id = ANY(%(ids)s) AND invocations.status = 'DEAD'
   AND NOT (records.internal AND records.source = %(source)s) AND {_LISTENING.format("invocations")}
"""

_DISABLED = f"""
SELECT dispatchers.environment_id, dispatchers.id AS dispatcher_id, targets.disabled_reason AS reason,
       dispatchers.dispatchable->>'type' AS type, dispatchers.dispatchable->>'url' AS url
  FROM event_dispatchers AS dispatchers JOIN targets ON targets.dispatcher_id = dispatchers.id
 WHERE dispatchers.id = %(id)s AND {_LISTENING.format("dispatchers")}
"""

_WRITE = """
WITH record AS (
    INSERT INTO event_records (id, event_id, name, source, payload, payload_raw, internal, organization_id, project_id,
                               environment_id)
    SELECT %(id)s, %(event_id)s, %(name)s, %(source)s, %(payload)s::jsonb, %(payload)s, TRUE, organization_id, project_id, id
      FROM runtime_environments WHERE id = %(environment)s
    RETURNING id, environment_id, deliver_at
)
INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
SELECT id, 'deliver', environment_id, deliver_at, deliver_at FROM record
"""


class Dead(msgspec.Struct, frozen=True):
    """An invocation that died."""

    invocation_id: uuid.UUID
    environment_id: uuid.UUID
    dispatcher_id: uuid.UUID
    event_id: str
    event_name: str
    reason: str | None
    attempts: int
    type: str
    target: str | None
    url: str | None


class Disabled(msgspec.Struct, frozen=True):
    """A dispatcher that the service has disabled."""

    environment_id: uuid.UUID
    dispatcher_id: uuid.UUID
    reason: str | None
    type: str
    url: str | None


def dead(ids: Collection[uuid.UUID]) -> list[Dead]:
    """Those of the invocations `ids` that are dead, of whose end somebody wants to hear, and which are no notices."""
    return [Dead(**row) for row in db.rows(_DEAD, {"ids": list(ids), "source": words.OWN_SOURCE})]


def disabled(dispatcher_id: uuid.UUID) -> Disabled | None:
    """The dispatcher, if somebody wants to hear that it was disabled."""
    found = db.rows(_DISABLED, {"id": dispatcher_id, "source": words.OWN_SOURCE})
    return Disabled(**found[0]) if found else None


def write(environment_id: uuid.UUID, name: str, payload: str) -> None:
    """Store a notice with this JSON payload, and owe its delivery."""
    db.run(
        _WRITE,
        {
            "id": words.new_id(),
            "event_id": words.new_event_id(),
            "name": name,
            "source": words.OWN_SOURCE,
            "payload": payload,
            "environment": environment_id,
        },
    )
