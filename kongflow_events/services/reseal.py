"""Reseal: encrypt every webhook's secret with the first key, so that the keys behind it can go."""

from __future__ import annotations

import uuid
from typing import Final, NamedTuple

from kongflow_events import models, sealing, vault
from kongflow_events.store import db, webhook_secrets

# Secrets of one transaction.
_BATCH: Final = 500


class Resealed(NamedTuple):
    """How many secrets are under the first key now, and how many no key opens."""

    done: int
    unopenable: int


def reseal_secrets() -> Resealed:
    """Encrypt every secret with the first key; those that no key opens stay as they are. Safe to run at any time."""
    done = unopenable = 0
    last = uuid.UUID(int=0)
    while True:
        with db.atomic():
            found = webhook_secrets.after(last, _BATCH)
            for each in found:
                opened = _reseal(each)
                done, unopenable = done + opened, unopenable + (not opened)
        if not found:
            return Resealed(done, unopenable)
        last = found[-1].id


def _reseal(stored: models.WebhookSecret) -> bool:
    try:
        webhook_secrets.replace(stored.id, vault.resealed(stored.dispatcher_id, bytes(stored.sealed)))
    except sealing.Unopenable:
        return False
    return True
