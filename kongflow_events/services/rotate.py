"""Rotate: give a webhook a new secret, while those before it go on signing for a while."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final, NamedTuple

from kongflow_events import errors, vault, words
from kongflow_events.store import db, dispatchers, webhook_secrets

# Secrets that sign a call together: each makes its header longer.
_MOST: Final = 5


class Rotated(NamedTuple):
    """A webhook's new secret, to be shown once, and until when those before it sign; None: they do no more."""

    dispatcher_id: uuid.UUID
    made: vault.Made
    until: datetime | None


def rotate_secret(environment: words.Environment, dispatcher_id: str, overlap: int) -> Rotated:
    """Give a webhook a new secret of the kind of its last one; those before it sign for `overlap` more seconds.

    Raises NotFound, Conflict when too many secrets would sign, or Invalid when this service has no key to encrypt one.
    """
    with db.atomic():
        row = dispatchers.hold(environment.id, words.as_id(dispatcher_id))
        if row is None or row.dispatchable["type"] != words.WEBHOOK:
            raise errors.NotFound("Webhook not found")
        [listed] = dispatchers.with_names([row])
        retired = webhook_secrets.retire(row.id, overlap)
        if retired.number >= _MOST:
            raise errors.Conflict(f"{_MOST} secrets sign already; wait for one to end, or end them by an overlap of 0")
        made = vault.keep(row.id, "ed25519" if listed.public_key else "hmac")
        return Rotated(row.id, made, retired.until)
