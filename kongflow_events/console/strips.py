"""Health at a glance: what became of the last few things, oldest left, as marks of a small picture.

A mark says by its height what it says by its colour, and its title tells the rest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from kongflow_events.console import shown
from kongflow_events.store import console_dispatchers

Item = TypeVar("Item")

HEIGHT: Final = 24
_STEP: Final = 7
# Bars of calls: a millisecond is the lowest, half a minute the highest.
_LOWEST, _LONGEST_MS = 4, 30_000


class Mark(NamedTuple):
    """One thing: `tone` is its colour; it stands at `x` and reaches `height` up from the ground."""

    tone: str
    x: int
    height: int
    title: str


class Strip(NamedTuple):
    """The picture: `says` tells it to those who do not see it."""

    marks: list[Mark]
    width: int
    says: str


_HEIGHTS: Final = {"good": 12, "busy": 8, "warn": 16, "bad": HEIGHT, "plain": 8}


def of_invocations(recent: Sequence[console_dispatchers.Recent], places: int) -> Strip:
    """How a dispatcher's last invocations went, given newest first; there is room for `places`."""
    return _strip(recent, places, "invocations", _fate, lambda one: f"{_fate(one)}, {shown.exact(one.created_at)}")


def of_attempts(attempts: Sequence[console_dispatchers.Attempt], places: int) -> Strip:
    """How a target's last calls went, given newest first; the longer a call took, the higher its mark."""

    def title(one: console_dispatchers.Attempt) -> str:
        answered = f" {one.status_code}" if one.status_code else ""
        return f"{one.outcome}{answered} after {one.duration_ms} ms, {shown.exact(one.started_at)}"

    made = _strip(attempts, places, "attempts", lambda one: one.outcome, title)
    heights = [_height(one.duration_ms) for one in reversed(attempts[:places])]
    return made._replace(marks=[mark._replace(height=at) for mark, at in zip(made.marks, heights, strict=True)])


def _fate(one: console_dispatchers.Recent) -> str:
    return "trying again" if one.status == "PENDING" and one.attempts else one.status.lower()


def _strip(
    newest: Sequence[Item], places: int, what: str, fate: Callable[[Item], str], title: Callable[[Item], str]
) -> Strip:
    shown_ones = list(reversed(newest[:places]))
    empty = places - len(shown_ones)
    marks = [_mark(fate(one), (empty + place) * _STEP, title(one)) for place, one in enumerate(shown_ones)]
    counted = ", ".join(f"{number} {word}" for word, number in Counter(map(fate, shown_ones)).most_common())
    says = f"The last {len(shown_ones)} {what}: {counted}" if shown_ones else f"No {what} yet"
    return Strip(marks, places * _STEP, says)


def _mark(fate: str, x: int, title: str) -> Mark:
    tone = "warn" if fate == "trying again" else shown.tone(fate if shown.tone(fate) != "plain" else fate.upper())
    return Mark(tone, x, _HEIGHTS[tone], title)


def _height(milliseconds: int) -> int:
    share = math.log1p(milliseconds) / math.log1p(_LONGEST_MS)
    return round(_LOWEST + min(share, 1) * (HEIGHT - _LOWEST))
