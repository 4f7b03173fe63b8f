"""Webhooks' secrets: made and sealed when they are written, opened again for the calls that they sign."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import NamedTuple

from kongflow_events import errors, sealing, settings, signing
from kongflow_events.store import webhook_secrets


class Made(NamedTuple):
    """A new secret, to be shown once: `secret` is None for one that its receiver verifies with `public_key`."""

    secret: str | None
    public_key: str | None


def keep(dispatcher_id: uuid.UUID, kind: signing.Kind, given: str | None = None) -> Made:
    """Make a secret, or take the `given` one of kind hmac, and store it as what signs the dispatcher's calls.

    Raises Invalid when this process has no key to encrypt it with.
    """
    keys = settings.current().secret_keys
    if not keys:
        raise errors.Invalid(
            errors.Issue("custom", "dispatchable.type", "Webhooks need a KONGFLOW_SECRET_KEY; this service has none")
        )
    secret = signing.new_secret(kind) if given is None else signing.shared_secret(given)
    public_key = signing.public_key(secret)
    webhook_secrets.add(dispatcher_id, sealing.seal(keys, secret, dispatcher_id.bytes), public_key)
    return Made(secret if public_key is None else None, public_key)


def opened(dispatcher_id: uuid.UUID, sealed: Iterable[bytes]) -> list[str]:
    """The dispatcher's secrets, in their order; raises Unopenable when a key is missing for one of them."""
    keys = settings.current().secret_keys
    return [sealing.unseal(keys, each, dispatcher_id.bytes) for each in sealed]


def resealed(dispatcher_id: uuid.UUID, sealed: bytes) -> bytes:
    """The same secret under the first key; raises Unopenable when no key opens it."""
    [secret] = opened(dispatcher_id, [sealed])
    return sealing.seal(settings.current().secret_keys, secret, dispatcher_id.bytes)
