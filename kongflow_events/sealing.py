"""Secrets at rest: sealed with AES-256-GCM, and bound to the row they are for, so that no other row can open them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from kongflow_events import errors

# NIST SP 800-38D §8.2: a random nonce of 96 bits, new for every message.
_NONCE_BYTES: Final = 12


class Unopenable(errors.Retryable):
    """None of the keys opens what is sealed; whoever runs the service may still put the right one back."""


def seal(keys: Sequence[bytes], text: str, bound_to: bytes) -> bytes:
    """`text` encrypted with the first of `keys` (32 bytes each): its nonce, then the ciphertext with its tag."""
    # Loaded by those who seal only: it takes longer than all the rest of a command.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(keys[0]).encrypt(nonce, text.encode(), bound_to)


def unseal(keys: Sequence[bytes], sealed: bytes, bound_to: bytes) -> str:
    """The text that one of `keys` sealed for `bound_to`; raises Unopenable."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce, encrypted = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    for key in keys:
        try:
            return AESGCM(key).decrypt(nonce, encrypted, bound_to).decode()
        except (InvalidTag, ValueError):
            # Not this key's, or no such box at all.
            continue
    raise Unopenable("the webhook's secret cannot be decrypted: no key in KONGFLOW_SECRET_KEY fits it")
