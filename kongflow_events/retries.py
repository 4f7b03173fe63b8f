"""When to try again, as a pure decision: the limits, the back-off, and what a failure leads to."""

from __future__ import annotations

import math
import random
from typing import Final

import msgspec

from kongflow_events import errors, words

# Tries before the work becomes a dead letter (upstream's numbers, spec events-semantics.md §9).
LIMITS: Final[dict[words.Kind, int]] = {"deliver": 5, "invoke": 6, "post": 10}
# The longest pause, and how far chance may move each one, so that what failed together does not return together.
LONGEST: Final = 6 * 3600.0
JITTER: Final = 0.2
# What the error column of a dead letter says when worker after worker died at it.
WORKER_LOST: Final = "worker lost"


class Again(msgspec.Struct, frozen=True):
    """Try again in `delay` seconds."""

    delay: float


class Dead(msgspec.Struct, frozen=True):
    """Give up; `reason` is what the dead letter says."""

    reason: str


def decide(kind: words.Kind, attempts: int, error: BaseException, luck: float | None = None) -> Again | Dead:
    """What follows when attempt number `attempts` (from 1) at this kind of work ended with `error`.

    `luck` in 0…1 places the pause within its jitter; chance by default.
    """
    if isinstance(error, errors.Final) or attempts >= LIMITS[kind]:
        return Dead(reason_of(error))
    asked = error.retry_after if isinstance(error, errors.Retryable) else None
    pause = pause_after(attempts, random.random() if luck is None else luck)  # noqa: S311 - spreads load, keeps no secret
    return Again(max(pause, asked or 0.0))


def pause_after(attempts: int, luck: float) -> float:
    """Seconds to wait after attempt number `attempts`: e^attempts, at most six hours, give or take a fifth by `luck`."""
    # e^10 is past six hours: a larger exponent could only overflow.
    return min(math.exp(min(attempts, 10)), LONGEST) * (1 + JITTER * (2 * luck - 1))


def reason_of(error: BaseException) -> str:
    """An error in one line, for people: its own words, or its kind when it has none."""
    return str(error) or type(error).__name__
