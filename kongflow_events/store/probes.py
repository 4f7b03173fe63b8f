"""Test calls of webhooks: an event of the service's own, delivered to one dispatcher and to nobody else."""

from __future__ import annotations

import uuid

from kongflow_events import words
from kongflow_events.store import db

# Delivered from the beginning, so that nobody matches it.
_MAKE = """
WITH record AS (
    INSERT INTO event_records (id, event_id, name, source, payload, payload_raw, organization_id, project_id,
                               environment_id, delivered_at, is_test, internal)
    VALUES (%(record)s, %(event_id)s, %(name)s, %(source)s, %(payload)s::jsonb, %(payload)s, %(organization)s, %(project)s,
            %(environment)s, now(), TRUE, TRUE)
    RETURNING id, environment_id
), made AS (
    INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable)
    SELECT %(id)s, record.environment_id, record.id, dispatchers.id, event, dispatchable - 'headers'
      FROM record JOIN event_dispatchers AS dispatchers ON dispatchers.id = %(dispatcher)s
    RETURNING id, dispatcher_id
)
INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at) SELECT id, 'post', dispatcher_id, now(), now() FROM made
"""


def make(environment: words.Environment, dispatcher_id: uuid.UUID, name: str, source: str, payload: str) -> uuid.UUID:
    """Owe one call of a dispatcher that this transaction holds, for an event that is made for it; returns its invocation.

    `payload` is JSON text.
    """
    invocation_id = words.new_id()
    db.run(
        _MAKE,
        {
            "record": words.new_id(),
            "event_id": words.new_event_id(),
            "name": name,
            "source": source,
            "payload": payload,
            "organization": environment.organization_id,
            "project": environment.project_id,
            "environment": environment.id,
            "id": invocation_id,
            "dispatcher": dispatcher_id,
        },
    )
    return invocation_id
