"""Headers as they may be shown: every name, but no value that could let a reader in somewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

HIDDEN: Final = "***"

# What names of headers with secrets in them are made of, and what such values look like under any other name: a scheme
# and its credentials, or a long word that nobody would call one.
_SECRET_NAME: Final = re.compile(
    r"auth|token|secret|key|pass|pwd|cookie|session|credential|signature|^sig$|-sig\b|jwt|bearer", re.IGNORECASE
)
_SECRET_VALUE: Final = re.compile(r"(?:basic|bearer|digest|token)\s+\S|[A-Za-z0-9+/_=.-]{24,}", re.IGNORECASE)
# Values that are long and tell nothing.
_HARMLESS: Final = frozenset({"host", "content-type", "user-agent", "accept", "webhook-id", "webhook-timestamp"})


def headers(given: Mapping[str, str]) -> dict[str, str]:
    """The headers with the values hidden that are secrets, or look like one."""
    return {name: HIDDEN if _is_secret(name, value) else value for name, value in given.items()}


def _is_secret(name: str, value: str) -> bool:
    if name.lower() in _HARMLESS:
        return False
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))
