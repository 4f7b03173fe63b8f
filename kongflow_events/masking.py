"""What may be shown of a call: every header's name, but no value that could let a reader in somewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

HIDDEN: Final = "***"

# Headers whose values tell nothing. What a secret looks like cannot be told from it, so all others are taken for one.
_HARMLESS: Final = frozenset(
    {
        "content-type",
        "user-agent",
        "accept",
        "accept-language",
        "x-request-id",
        "x-correlation-id",
        "webhook-id",
        "webhook-timestamp",
    }
)
# Characters of a value, and of a word in it, that are looked for in a text: shorter ones stand in any text by chance.
_SHORTEST: Final = 4
_SHORTEST_WORD: Final = 8


def headers(given: Mapping[str, str]) -> dict[str, str]:
    """The headers, with the values hidden of all that are not known to be harmless."""
    return {name: HIDDEN if _is_hidden(name) else value for name, value in given.items()}


def text(given: str, sent: Mapping[str, str]) -> str:
    """A receiver's text with what `headers` hides of the headers sent to it hidden as well; never longer than it was.

    Found are values and their longer words (a token without its scheme), plain and as JSON writes them, also where the
    text was cut inside one.
    """
    secrets = {form for name, value in sent.items() if _is_hidden(name) for form in _forms(value)}
    ordered = sorted(secrets, key=len, reverse=True)
    for secret in ordered:
        given = given.replace(secret, HIDDEN)
    for secret in ordered:
        given = _without_a_beginning(given, secret)
    return given


def _is_hidden(name: str) -> bool:
    return name.lower() not in _HARMLESS


def _forms(value: str) -> Iterator[str]:
    """What a value is found by."""
    words = [word for word in re.split(r"[\s,;]+", value) if len(word) >= _SHORTEST_WORD]
    for part in [value, *words] if len(value) >= _SHORTEST else []:
        escaped = json.dumps(part)[1:-1]
        yield from (part, escaped, escaped.replace("/", "\\/"))


def _without_a_beginning(given: str, secret: str) -> str:
    """The text without the beginning of a secret that it ends with."""
    for length in range(len(secret) - 1, _SHORTEST - 1, -1):
        if given.endswith(secret[:length]):
            return given[:-length] + HIDDEN
    return given
