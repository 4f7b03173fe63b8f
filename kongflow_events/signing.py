"""Standard Webhooks (standardwebhooks.com, specification 1.0): secrets, and what is signed with them.

A secret of kind `hmac` is shared with the receiver (`whsec_` and base64 of 24 to 64 bytes) and signs as `v1`; one of kind
`ed25519` stays here (`whsk_` and base64 of its 32-byte seed), signs as `v1a`, and gives its receivers a public key (`whpk_`).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Kind = Literal["hmac", "ed25519"]

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

_SHARED: Final = "whsec_"
_PRIVATE: Final = "whsk_"
_PUBLIC: Final = "whpk_"
# Seconds by which a message's time may be off, either way.
_TOLERANCE: Final = 300
_FEWEST_BYTES, _MOST_BYTES, _USUAL_BYTES = 24, 64, 32


def new_secret(kind: Kind) -> str:
    """A fresh random secret of this kind."""
    prefix = _SHARED if kind == "hmac" else _PRIVATE
    return prefix + _text(secrets.token_bytes(_USUAL_BYTES))


def shared_secret(text: str) -> str:
    """A `whsec_` secret that somebody gave, with its padding; raises ValueError for what is none."""
    prefix, encoded = text[: len(_SHARED)], text[len(_SHARED) :]
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if prefix != _SHARED or not _FEWEST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError(f"must be {_SHARED} and base64 of {_FEWEST_BYTES} to {_MOST_BYTES} bytes")
    return _SHARED + _text(key)


def is_shared(secret: str) -> bool:
    """Whether the receiver has to know this secret, rather than its public key."""
    return secret.startswith(_SHARED)


def public_key(secret: str) -> str | None:
    """What verifies the signatures of a secret, for anybody to see; None when only the secret itself does."""
    return None if is_shared(secret) else _PUBLIC + _text(_private_key(secret).public_key().public_bytes_raw())


def headers(secrets_: Iterable[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a signed message: every secret signs its id, its time (whole seconds since 1970) and its body."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = " ".join(_signature(secret, signed) for secret in secrets_)
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signatures}


def verifies(secret: str, given: Mapping[str, str], body: bytes) -> bool:
    """Whether a message was signed with a shared secret within the last five minutes; `given` by lower-case names."""
    message_id, timestamp, signatures = (given.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > _TOLERANCE:
        return False
    wanted = headers([secret], message_id, int(timestamp), body)[SIGNATURE].encode()
    return any(hmac.compare_digest(wanted, one.encode()) for one in signatures.split(" "))


def _signature(secret: str, signed: bytes) -> str:
    if is_shared(secret):
        return f"v1,{_text(hmac.digest(_bytes(secret), signed, 'sha256'))}"
    return f"v1a,{_text(_private_key(secret).sign(signed))}"


def _private_key(secret: str) -> Ed25519PrivateKey:
    # Loaded by those who sign so only: a command that speaks HTTP has no use for it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(_bytes(secret))


def _bytes(secret: str) -> bytes:
    return base64.b64decode(secret.partition("_")[2])


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
