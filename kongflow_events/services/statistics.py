"""Statistics: what an environment received, and what became of it, over a window of time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from kongflow_events import errors, words
from kongflow_events.store import db, statistics

_USUAL: Final = timedelta(hours=1)
# More would count rows for longer than a statement may take.
_LONGEST: Final = timedelta(days=31)


class Statistics(NamedTuple):
    """Counts of slots of `seconds` each, the first of which begins at `since`."""

    since: datetime
    seconds: float
    counts: list[words.Counts]


def count_statistics(
    environment: words.Environment, since: datetime | None, until: datetime | None, slots: int
) -> Statistics:
    """Counts from `since` (None: an hour before) until `until` (None: now), in equal slots.

    Events are counted by when they were stored, invocations by when they were made. Raises Invalid when the window is
    empty or longer than 31 days.
    """
    end = until or db.now()
    begin = since or end - _USUAL
    if not timedelta(0) < end - begin <= _LONGEST:
        raise errors.Invalid(
            errors.Issue("custom", "since", f"The window must end after it begins, within {_LONGEST.days} days")
        )
    seconds = (end - begin).total_seconds() / slots
    return Statistics(begin, seconds, statistics.count(environment.id, begin, seconds, slots))
