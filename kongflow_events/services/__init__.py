"""What the service does, one verb a room; what a program that embeds it calls.

Each verb writes rows and nothing else: what follows is owed in the outbox, and the relay sees to it.
"""

from __future__ import annotations

import uuid

from kongflow_events import errors
from kongflow_events.services.deliver import deliver_event
from kongflow_events.services.dispatchers import get_event_dispatcher, list_event_dispatchers
from kongflow_events.services.events import get_event_record, list_event_records
from kongflow_events.services.ingest import ingest_send_event, ingest_send_events
from kongflow_events.services.invoke import invoke as invoke_now
from kongflow_events.services.post import post as post_now
from kongflow_events.store import db, invocations

__all__ = [
    "deliver_event",
    "get_event_dispatcher",
    "get_event_record",
    "ingest_send_event",
    "ingest_send_events",
    "invoke_dispatcher",
    "list_event_dispatchers",
    "list_event_records",
]


def invoke_dispatcher(dispatcher_id: uuid.UUID, event_record_id: uuid.UUID) -> None:
    """Carry out the first delivery's invocation of this pair now, making it if there is none; done once, quietly.

    Raises Final when the dispatcher or the event does not exist, or when they belong to two environments.
    """
    with db.unit():
        found = invocations.find_or_make(dispatcher_id, event_record_id)
    if found is None:
        raise errors.Final(f"no dispatcher {dispatcher_id} for an event {event_record_id}")
    invocation_id, kind = found
    (post_now if kind == "post" else invoke_now)([invocation_id])
