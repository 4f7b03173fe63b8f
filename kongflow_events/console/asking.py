"""What the filters in a page's URL ask for, and how they stand in one.

What cannot be is not asked, but for a time, which is told.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from kongflow_events import errors, words
from kongflow_events.console.visits import Visit

Word = TypeVar("Word", bound=str)


def text(visit: Visit, name: str) -> str | None:
    """The text of a filter, without white space around it; None for none."""
    return visit.query.get(name, "").strip() or None


def choice(visit: Visit, name: str, choices: Collection[Word]) -> Word | None:
    """One of the choices of a filter; None for none of them."""
    return next((one for one in choices if one == visit.query.get(name)), None)


def row_id(visit: Visit, name: str) -> uuid.UUID | None:
    """The id of a row; one that cannot exist is one that nothing has."""
    given = text(visit, name)
    return None if given is None else words.as_id(given)


def moment(visit: Visit, name: str) -> datetime | None:
    """A time, in UTC also when it says otherwise; raises Refused for a text that is none."""
    given = text(visit, name)
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
        # PostgreSQL knows fewer zones than Python.
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise errors.Refused(f"{name} is not a time: write it as 2026-06-17T09:30") from None


def asked(wanted: msgspec.Struct) -> dict[str, Any]:
    """What is asked for as filters of a URL, by the names of its fields."""
    values = msgspec.structs.asdict(wanted)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def ways(
    visit: Visit, page: str, asked: Mapping[str, object], before: uuid.UUID | None, following: uuid.UUID | None
) -> dict[str, str | None]:
    """The ways from a part of a list, which began `before` a row, to its `newest` rows and to `older` ones; None for none."""
    return {
        "newest": visit.at(page, **asked) if before else None,
        "older": visit.at(page, **asked, before=following) if following else None,
    }
