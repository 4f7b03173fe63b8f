"""Webhooks' secrets, sealed: each kept with its dispatcher, and followed by the next one with an overlap."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import NamedTuple

from kongflow_events import models
from kongflow_events.store import db

_RETIRE = """
UPDATE webhook_secrets SET expires_at = LEAST(expires_at, now() + %(overlap)s * interval '1 second')
 WHERE dispatcher_id = %(dispatcher)s AND (expires_at IS NULL OR expires_at > now())
"""

_RETIRED = (
    "SELECT count(*) AS number, max(expires_at) AS until FROM webhook_secrets"
    " WHERE dispatcher_id = %s AND expires_at > now()"
)


class Retired(NamedTuple):
    """How many secrets still sign, and until when the last of them does; None: none does."""

    number: int
    until: datetime | None


def add(dispatcher_id: uuid.UUID, sealed: bytes, public_key: str | None) -> None:
    """Store the secret that signs the dispatcher's calls from now on."""
    models.WebhookSecret.insert(dispatcher_id=dispatcher_id, sealed=sealed, public_key=public_key).execute()


def retire(dispatcher_id: uuid.UUID, overlap: int) -> Retired:
    """Let every secret of the dispatcher sign for `overlap` more seconds at the most, and say how many still do.

    To be called in a transaction that holds the dispatcher.
    """
    db.run(_RETIRE, {"dispatcher": dispatcher_id, "overlap": overlap})
    return Retired(**db.rows(_RETIRED, (dispatcher_id,))[0])


def after(secret_id: uuid.UUID, limit: int) -> list[models.WebhookSecret]:
    """The next `limit` secrets behind this one, by id."""
    table = models.WebhookSecret
    return list(table.select().where(table.id > secret_id).order_by(table.id).limit(limit))


def replace(secret_id: uuid.UUID, sealed: bytes) -> None:
    """Store the same secret, sealed otherwise."""
    table = models.WebhookSecret
    table.update(sealed=sealed).where(table.id == secret_id).execute()


def delete_expired() -> int:
    """Delete every secret that signs no more; returns how many."""
    return db.run("DELETE FROM webhook_secrets WHERE expires_at <= now()")
