"""Statistics as they go over the wire."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta

from kongflow_events import words
from kongflow_events.dates import Instant, iso
from kongflow_events.schemas.answers import Answer, Date
from kongflow_events.schemas.queries import Strict, reader


class StatisticsQuery(Strict, frozen=True):
    """The parameters of `GET /api/v1/statistics`."""

    since: Annotated[Instant | None, Meta(description="Where to begin; an hour before the end unless it is said.")] = (
        None
    )
    until: Annotated[Instant | None, Meta(description="Where to end; now unless it is said.")] = None
    slots: Annotated[int, Meta(ge=1, le=500, description="How many equal parts the time is cut into.")] = 60


class Slot(Answer, frozen=True):
    """What came in during one slot, and what has become of it by now."""

    at: Annotated[Date, Meta(description="When the slot begins.")]
    received: Annotated[int, Meta(description="Events that were stored in it.")]
    delivered: Annotated[int, Meta(description="Those of them that went to somebody by now.")]
    invocations: Annotated[int, Meta(description="Invocations that were made in it.")]
    failed: Annotated[int, Meta(description="Those of them of which an attempt failed, however they ended.")]
    dead: Annotated[int, Meta(description="Those of them that are dead letters now.")]


class Statistics(Answer, frozen=True):
    """Counts over a window of time."""

    since: Annotated[Date, Meta(description="When the first slot begins.")]
    seconds: Annotated[float, Meta(description="How long each slot is.")]
    slots: Annotated[list[Slot], Meta(description="The slots, in the order of time.")]


read_query = reader(StatisticsQuery)


def statistics(since: datetime, seconds: float, counts: Sequence[words.Counts]) -> Statistics:
    """The answer for counts of slots of `seconds` each, from `since` on."""
    begins = [since + timedelta(seconds=seconds * number) for number in range(len(counts))]
    slots = [
        Slot(iso(at), one.received, one.delivered, one.invocations, one.failed, one.dead)
        for at, one in zip(begins, counts, strict=True)
    ]
    return Statistics(iso(since), seconds, slots)
