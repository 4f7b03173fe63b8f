"""What an answer that is no success looks like: always `error`, in words for a person."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from kongflow_events import errors
from kongflow_events.schemas.answers import Answer


class Issue(Answer, frozen=True):
    """One thing that is wrong with a request."""

    code: Annotated[str, Meta(description="What kind of mistake, in zod's words.")]
    path: Annotated[
        str, Meta(description="Where it is: `event.name`, `events[1].name`, a parameter. Empty: all of it.")
    ]
    message: Annotated[str, Meta(description="What is wrong.")]


class Refusal(Answer, frozen=True):
    """Why a request was refused."""

    error: Annotated[str, Meta(description="Why, in one sentence.")]
    issues: Annotated[list[Issue] | UnsetType, Meta(description="Every mistake, where there are several.")] = UNSET


class Breach(Answer, frozen=True):
    """What in a request breaks its schema."""

    error: Annotated[str, Meta(description="Every mistake, in one line.")]
    message: Annotated[str, Meta(description="The same line, where upstream has it.")]
    issues: Annotated[list[Issue], Meta(description="Every mistake by itself.")]


class RateLimited(Answer, frozen=True):
    """How much too much it was (RFC 9457, with upstream's members)."""

    title: Annotated[str, Meta(description="What it is called.")]
    status: Annotated[int, Meta(description="429.")]
    type: Annotated[str, Meta(description="Where this kind of problem is explained.")]
    detail: Annotated[str, Meta(description="What happened, in one sentence.")]
    reset: Annotated[int, Meta(description="When requests are let in again, in milliseconds since 1970.")]
    limit: Annotated[int, Meta(description="How many requests are let in.")]
    remaining: Annotated[int, Meta(description="How many of them are left.")]
    seconds_until_reset: Annotated[int, Meta(description="How long to wait, in seconds.")]
    error: Annotated[str, Meta(description="What happened, in one sentence.")]


class Unforeseen(Answer, frozen=True):
    """Something is wrong with the service."""

    error: Annotated[str, Meta(description="Always `Internal Server Error`: the cause stands in the log alone.")]
    request_id: Annotated[str, Meta(description="What the log calls this request.")]


def refusal(error: errors.Refused) -> Refusal | Breach:
    """The body of a 4xx; a schema's breach also carries upstream's `message`."""
    issues = [Issue(issue.code, issue.path, issue.message) for issue in error.issues]
    if isinstance(error, errors.Invalid):
        return Breach(error.message, error.message, issues)
    return Refusal(error.message, issues or UNSET)


def too_many(error: errors.TooManyRequests) -> RateLimited:
    """The body of a 429: a problem (RFC 9457) with upstream's members (spec events-api.md §1.2)."""
    return RateLimited(
        title="Too Many Requests",
        status=error.status,
        type="about:blank",
        detail=error.message,
        reset=error.left.reset,
        limit=error.left.limit,
        remaining=error.left.remaining,
        seconds_until_reset=error.retry_after,
        error=error.message,
    )
