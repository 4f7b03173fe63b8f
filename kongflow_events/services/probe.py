"""Probe: call a webhook once with an event made for it, by the same way as every other call."""

from __future__ import annotations

import uuid
from typing import Final

from kongflow_events import errors, words
from kongflow_events.store import db, dispatchers, probes

EVENT: Final = "kongflow.webhook.test"
_PAYLOAD: Final = '{"message": "This is a test of the webhook."}'


def probe_webhook(environment: words.Environment, dispatcher_id: str) -> uuid.UUID:
    """Owe a test call of a webhook, signed and retried as any other; returns its invocation. Raises NotFound."""
    with db.atomic():
        row = dispatchers.hold(environment.id, words.as_id(dispatcher_id))
        if row is None or row.dispatchable["type"] != words.WEBHOOK:
            raise errors.NotFound("Webhook not found")
        # Nobody who listens to everything that senders send hears it in a replay.
        return probes.make(environment, row.id, EVENT, words.OWN_SOURCE, _PAYLOAD)
