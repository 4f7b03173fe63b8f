"""Dates as senders write them and as upstream's clients read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# RFC 3339 with any number of fractional digits, also with a space for the T; or a date alone, which is its midnight.
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:?\d{2}))?", re.ASCII)


class Instant:
    """A date on the wire, as a type that decoding knows; `at` is aware, in UTC."""

    __slots__ = ("at",)

    def __init__(self, at: datetime) -> None:
        self.at = at


def is_whole(value: Any) -> bool:
    """Whether it is a whole number in JSON, where 1.0 is another way to write 1."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0


def at_of(instant: Instant | None) -> datetime | None:
    """The moment of a date that may not have been given."""
    return None if instant is None else instant.at


def parse(value: Any) -> datetime:
    """A date from JSON: RFC 3339 with an offset, a date alone, or whole milliseconds since 1970; ValueError otherwise."""
    if is_whole(value):
        return _from_milliseconds(int(value))
    if isinstance(value, str) and (found := _DATE.fullmatch(value)):
        return _from_parts(*found.groups())
    raise ValueError("Invalid date")


def parse_moment(text: str) -> datetime:
    """A date and its time, in RFC 3339 with an offset; ValueError for anything else, a date alone included."""
    found = _DATE.fullmatch(text)
    if found is None or found[2] is None:
        raise ValueError("Invalid date")
    return _from_parts(*found.groups())


def iso(at: datetime) -> str:
    """UTC, milliseconds (cut, not rounded), `Z`: `2024-01-01T00:00:00.000Z`, as JavaScript writes it."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _from_milliseconds(value: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        raise ValueError("Invalid date") from None


def _from_parts(date: str, time: str | None, fraction: str | None, offset: str | None) -> datetime:
    if time is None:
        return datetime.fromisoformat(f"{date}T00:00:00+00:00")
    microseconds = (fraction or "")[:6].ljust(6, "0")
    zone = "+00:00" if offset in (None, "Z", "z") else offset
    try:
        return datetime.fromisoformat(f"{date}T{time}.{microseconds}{zone}").astimezone(UTC)
    except OverflowError:
        raise ValueError("Invalid date") from None
