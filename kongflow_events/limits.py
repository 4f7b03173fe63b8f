"""Rate limits: a bucket of tokens for each API key and for each organization, both off unless a setting gives a rate.

Buckets live in PostgreSQL, so a limit holds exactly over any number of processes. One that refused is remembered here
until it can have what was asked for: a client that does not wait costs no statement.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from typing import Final, NamedTuple

from kongflow_events import errors, metrics, settings
from kongflow_events.store import buckets, db

_REMEMBERED: Final = 10_000


class Limit(NamedTuple):
    """What is counted, of whom, how many of it are let in a second, and how many at once; a `rate` of 0 is no limit."""

    what: str
    whose: str
    rate: float
    burst: int


class _Refusal(NamedTuple):
    """What the database said to a question that this process asked at `asked`, by its monotonic clock."""

    taken: buckets.Taken
    asked: float


_refusals: dict[uuid.UUID, _Refusal] = {}
_lock = threading.Lock()


def of_keys(current: settings.Settings) -> Limit:
    """The limit of an API key: its requests."""
    return Limit("requests with this API key", "key", current.key_rate, current.key_burst)


def of_organizations(current: settings.Settings) -> Limit:
    """The limit of an organization: its events."""
    return Limit("events for this organization", "organization", current.organization_rate, current.organization_burst)


def take(limit: Limit, owner: uuid.UUID, tokens: int = 1) -> errors.Allowance | None:
    """Take `tokens` from the owner's bucket; returns what that leaves, None (and asks nothing) when there is no limit.

    Raises TooManyRequests when there are too few. More than the burst are let in when the bucket is full, and leave it
    in debt: nothing is refused for ever. In a transaction the bucket stays locked until its end.
    """
    if not limit.rate or not tokens:
        return None
    now = time.monotonic()
    taken = _remembered(limit, owner, tokens, now) or _ask(limit, owner, tokens, now)
    left = _allowance(limit, tokens, taken)
    if not taken.let_in:
        metrics.RATE_LIMITED.add(limit.whose)
        raise errors.TooManyRequests(limit.what, left)
    return left


def _remembered(limit: Limit, owner: uuid.UUID, tokens: int, now: float) -> buckets.Taken | None:
    """The refusal that the database would give, if that is certain: since the last one others can only have taken."""
    known = _refusals.get(owner)
    if known is None:
        return None
    passed = now - known.asked
    most = known.taken.tokens + limit.rate * passed
    return buckets.Taken(False, most, known.taken.at + passed) if most < min(tokens, limit.burst) else None


def _ask(limit: Limit, owner: uuid.UUID, tokens: int, now: float) -> buckets.Taken:
    with db.unit():
        taken = buckets.take(owner, limit.rate, limit.burst, tokens)
    if not taken.let_in:
        with _lock:
            if len(_refusals) >= _REMEMBERED:
                _refusals.clear()
            _refusals[owner] = _Refusal(taken, now)
    return taken


def _allowance(limit: Limit, tokens: int, taken: buckets.Taken) -> errors.Allowance:
    missing = max(min(tokens, limit.burst) - taken.tokens, 0.0)
    wait = missing / limit.rate
    remaining = max(math.floor(taken.tokens), 0)
    return errors.Allowance(limit.burst, remaining, math.ceil((taken.at + wait) * 1000), wait)
