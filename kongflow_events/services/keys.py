"""Keys: made, shown once, verified on every request, revoked."""

from __future__ import annotations

import hashlib
import secrets
import string
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Final, NamedTuple

from kongflow_events import errors, words
from kongflow_events.store import db, environments

PRIVATE: Final = "private"
PUBLIC: Final = "public"
# Upstream's forms: its SDK refuses to send a key that does not look so.
_FORMS: Final = {PRIVATE: "tr", PUBLIC: "pk"}
# 32 of 62 letters and digits are 190 bits of chance.
_LETTERS: Final = string.ascii_letters + string.digits
_LENGTH: Final = 32
# Of these a person sees the first four.
_SHOWN: Final = 4
# Seconds that a verified key is believed without asking again: as long as a revoked one may still work.
_BELIEVED: Final = 5.0
_REMEMBERED: Final = 10_000


class NewKey(NamedTuple):
    """A key, this once in clear."""

    id: uuid.UUID
    kind: str
    prefix: str
    key: str


_verified: dict[bytes, tuple[float, environments.Verified]] = {}
_lock = threading.Lock()


def create_key(environment: words.Environment, kind: str = PRIVATE, *, seconds: int | None = None) -> NewKey:
    """Make a key of `kind` for the environment that expires after `seconds`, or never; only its hash is stored."""
    start = f"{_FORMS[kind]}_{environment.slug}_"
    key = start + "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    prefix = key[: len(start) + _SHOWN]
    return NewKey(environments.add_key(environment.id, kind, prefix, _hash(key), seconds), kind, prefix, key)


def authenticate(authorization: str | None, *, public_allowed: bool = False) -> words.Environment:
    """Whose request this is, by its `Authorization` header; raises Unauthorized as `identify` does."""
    return identify(authorization, public_allowed=public_allowed).environment


def identify(authorization: str | None, *, public_allowed: bool = False) -> environments.Verified:
    """The live key in an `Authorization` header (`Bearer KEY`, or the bare key), and whose it is.

    Raises Unauthorized: no header, an unknown, revoked or expired key, one of a deleted project, or a public key where
    only private ones may come. Takes a unit of work of its own, and only when it has to ask.
    """
    if authorization is None:
        raise errors.Unauthorized
    verified = _verify(_hash(authorization.removeprefix("Bearer ")))
    if verified is None or (verified.kind == PUBLIC and not public_allowed):
        raise errors.Unauthorized
    return verified


def revoke_key(environment: words.Environment, key: str) -> None:
    """Revoke a key by its id or visible prefix; it works nowhere after five seconds. Raises NotFound."""
    if not environments.revoke_key(environment.id, key):
        raise errors.NotFound(f"no single live key {key} in this environment")
    with _lock:
        _verified.clear()


def list_keys(environment: words.Environment) -> list[environments.Key]:
    """The environment's keys, newest first, without the keys themselves."""
    return environments.keys(environment.id)


def state(key: environments.Key) -> str:
    """How a key stands now: `live`, `expired` or `revoked`."""
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= datetime.now(UTC) else "live"


def _verify(sha256: bytes) -> environments.Verified | None:
    now = time.monotonic()
    known = _verified.get(sha256)
    if known is not None and known[0] > now:
        return known[1]
    with db.unit():
        verified = environments.verify(sha256)
    with _lock:
        # Strangers' keys are never remembered, so only our own can fill it.
        if len(_verified) >= _REMEMBERED:
            _verified.clear()
        _verified.pop(sha256, None)
        if verified is not None:
            _verified[sha256] = (now + _BELIEVED, verified)
    return verified


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
