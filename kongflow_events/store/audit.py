"""The audit log: who did what, when, on what, from where. Entries are only ever added."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from kongflow_events import models, words


class Actor(msgspec.Struct, frozen=True):
    """Who does something, and where they are: an address, or `shell`. Without an id nobody is signed in."""

    id: uuid.UUID | None
    name: str
    address: str


def note(
    actor: Actor,
    action: str,
    subject: str,
    *,
    environment_id: uuid.UUID | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write that the actor did `action` (`event.cancel`) on `subject` (`event order-1`).

    To be called in the transaction of what was done. No secret may be in the details.
    """
    models.AuditEntry.insert(
        id=words.new_id(),
        operator_id=actor.id,
        operator=actor.name,
        address=actor.address,
        environment_id=environment_id,
        action=action,
        subject=subject,
        details=None if details is None else dict(details),
    ).execute()
