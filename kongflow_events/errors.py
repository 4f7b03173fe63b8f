"""What can go wrong, as three words: Refused (the caller's fault), Retryable (try again), Final (never again).

Each door (HTTP, actors, CLI) translates these once; nothing between the doors catches them for control flow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


class KongflowError(Exception):
    """The root of every error this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with an input: a zod-style code, where it is (`event.name`, `events[1].name`), and why."""

    code: str
    path: str
    message: str

    def __str__(self) -> str:
        """The form that upstream's 422 uses (spec events-api.md §2.2)."""
        return f"Code: {self.code} ~ Path: {self.path} ~ Message: {self.message}"


class Refused(KongflowError):
    """The caller must change something: `status` is the HTTP status that says so, `issues` what exactly, where known."""

    status = 400

    def __init__(self, message: str, issues: Sequence[Issue] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.issues = issues


class Unauthorized(Refused):
    """The key is missing, unknown, revoked, expired, or of the wrong kind for this route."""

    status = 401

    def __init__(self, message: str = "Invalid or Missing API key") -> None:
        super().__init__(message)


class Forbidden(Refused):
    """The key is good, but its organization may not do this now."""

    status = 403


class NotFound(Refused):
    """Nothing of that id exists in the key's environment."""

    status = 404


class Conflict(Refused):
    """The request contradicts something that is already stored."""

    status = 409


class TooLarge(Refused):
    """The body is over a limit; the message names it."""

    status = 413


class Unsupported(Refused):
    """The body is in a format that is not spoken here; the message names those that are."""

    status = 415


class Invalid(Refused):
    """The input breaks its schema; `issues` lists every breach, and the message joins them as upstream did."""

    status = 422

    def __init__(self, *issues: Issue) -> None:
        super().__init__(" | ".join(map(str, issues)), issues)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a rate limit leaves: `remaining` of `limit` tokens. The same is let in again in `wait` seconds, at `reset`.

    `reset` is in milliseconds since 1970 by the database's clock; with enough tokens left it is now.
    """

    limit: int
    remaining: int
    reset: int
    wait: float


class TooManyRequests(Refused):
    """A rate limit is used up; nothing was stored. The same is let in after `retry_after` whole seconds, at least one."""

    status = 429

    def __init__(self, what: str, left: Allowance) -> None:
        self.left = left
        self.retry_after = max(1, math.ceil(left.wait))
        super().__init__(f"Too many {what}: {left.remaining} of {left.limit} left, try again in {self.retry_after} s")


class Retryable(KongflowError):
    """The same work may succeed later; `retry_after` is the number of seconds the other side asked for, if it did."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Final(KongflowError):
    """Trying again cannot help: the work becomes a dead letter with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
