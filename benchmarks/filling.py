"""Rows by the thousand, in one statement each: what a month or an outage leaves behind, made in seconds."""

from __future__ import annotations

import uuid

from benchmarks.stage import Stage
from kongflow_events import words

# A payload of about 300 bytes.
_PAYLOAD = """jsonb_build_object('number', number, 'filler', repeat('x', 270))"""

_EVENTS = f"""
INSERT INTO event_records (id, event_id, name, payload, payload_raw, organization_id, environment_id, project_id,
                           delivered_at)
SELECT uuidv7(), %(prefix)s || number, %(name)s, {_PAYLOAD}, {_PAYLOAD}::text, %(organization)s, %(environment)s, %(project)s,
       CASE WHEN %(delivered)s THEN now() END
  FROM generate_series(1, %(count)s) AS number
"""

_INVOCATIONS = """
INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable, status, reason,
                         completed_at, died_at)
SELECT uuidv7(), dispatchers.environment_id, records.id, dispatchers.id, dispatchers.event, dispatchers.dispatchable,
       %(status)s, CASE WHEN %(status)s = 'DEAD' THEN 'benchmark' END, CASE WHEN %(status)s = 'DEAD' THEN now() END,
       CASE WHEN %(status)s = 'DEAD' THEN now() END
  FROM event_dispatchers AS dispatchers JOIN event_records AS records USING (environment_id)
 WHERE dispatchers.id = %(dispatcher)s AND starts_with(records.event_id, %(prefix)s)
"""


def owed_deliveries(stage: Stage, environment: words.Environment, name: str, prefix: str, count: int) -> None:
    """Events `prefix` 1 to `count` that wait to be delivered, due now."""
    _events(stage, environment, name, prefix, count, delivered=False)
    stage.execute(
        "INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at) SELECT id, 'deliver', environment_id, now(), now()"
        " FROM event_records WHERE environment_id = %(environment)s AND starts_with(event_id, %(prefix)s)",
        environment=environment.id,
        prefix=prefix,
    )


def owed_posts(stage: Stage, environment: words.Environment, dispatcher: uuid.UUID, prefix: str, count: int) -> None:
    """Delivered events whose calls to the dispatcher's URL wait, due now."""
    _events(stage, environment, "backlog", prefix, count, delivered=True)
    stage.execute(_INVOCATIONS, dispatcher=dispatcher, prefix=prefix, status="PENDING")
    stage.execute(
        "INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at) SELECT id, 'post', dispatcher_id, now(), now()"
        " FROM invocations WHERE dispatcher_id = %(dispatcher)s",
        dispatcher=dispatcher,
    )


def dead_invocations(
    stage: Stage, environment: words.Environment, dispatcher: uuid.UUID, prefix: str, count: int
) -> None:
    """Delivered events whose invocations of the dispatcher are dead letters."""
    _events(stage, environment, "backlog", prefix, count, delivered=True)
    stage.execute(_INVOCATIONS, dispatcher=dispatcher, prefix=prefix, status="DEAD")


def _events(
    stage: Stage, environment: words.Environment, name: str, prefix: str, count: int, *, delivered: bool
) -> None:
    stage.execute(
        _EVENTS,
        prefix=prefix,
        name=name,
        count=count,
        delivered=delivered,
        organization=environment.organization_id,
        environment=environment.id,
        project=environment.project_id,
    )
    stage.execute("ANALYZE event_records")
