"""Query strings of lists: pages, times and choices, with every issue named."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from kongflow_events import dates, errors

MOST: Final = 100
USUAL: Final = 50


class Query:
    """The parameters of one request; each verb reads one, and `check` raises Invalid with what was wrong with all."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters
        self._issues: list[errors.Issue] = []

    def text(self, name: str) -> str | None:
        """The parameter as it is."""
        value = self._parameters.get(name)
        if value is not None and "\0" in value:
            self._refuse("invalid_string", name, "Text must not contain the NUL character")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """One of `choices`."""
        value = self._parameters.get(name)
        if value is not None and value not in choices:
            self._refuse("invalid_enum_value", name, f"Expected one of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool | None:
        """`true` or `false`."""
        value = self.choice(name, ("true", "false"))
        return None if value is None else value == "true"

    def time(self, name: str) -> datetime | None:
        """A date, as in bodies; milliseconds since 1970 may be written as digits."""
        value = self._parameters.get(name)
        if value is None:
            return None
        try:
            return dates.parse(int(value) if value.isascii() and value.isdigit() else value)
        except ValueError:
            self._refuse("invalid_date", name, "Invalid date")
            return None

    def limit(self, name: str = "limit", usual: int = USUAL, most: int = MOST) -> int:
        """How many rows a page may hold."""
        value = self._parameters.get(name, str(usual))
        if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most):  # noqa: PLR2004
            self._refuse("invalid_type", name, f"Expected a whole number from 1 to {most}")
            return usual
        return int(value)

    def cursor(self, name: str = "cursor") -> uuid.UUID | None:
        """Where the page before this one ended."""
        value = self._parameters.get(name)
        if value is None:
            return None
        try:
            return decode_cursor(value)
        except ValueError:
            self._refuse("invalid_string", name, "Invalid cursor")
            return None

    def check(self) -> None:
        """Raises Invalid when any parameter that was read is wrong."""
        if self._issues:
            raise errors.Invalid(*self._issues)

    def _refuse(self, code: str, name: str, message: str) -> None:
        self._issues.append(errors.Issue(code, name, message))


def encode_cursor(last: uuid.UUID | None) -> str | None:
    """The place just before a row, as an opaque word that is safe in URLs."""
    return None if last is None else base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def decode_cursor(text: str) -> uuid.UUID:
    """The row that a cursor stands for; ValueError for anything that is none."""
    try:
        return uuid.UUID(bytes=base64.b64decode(text + "==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("Invalid cursor") from None
