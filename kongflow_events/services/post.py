"""Post: carry one invocation out over HTTP (upstream's invokeEphemeralDispatcher): at least once, always the same bytes.

A repeat happens only when a worker died, a call ended without a 2xx, or the finish could not be committed; the receiver
can tell it by the message id, which is the invocation's.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

import msgspec
import structlog

from kongflow_events import crashes, errors, outgoing, retries, schemas, settings, words
from kongflow_events.store import db, posts

log = structlog.get_logger(__name__)

# Seconds that a lease outlives the call's deadline: time enough to commit the finish.
_TO_FINISH = 10.0
_ERROR_BYTES = 2_000


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a URL target receives, keys in this order; without an account there is no `accountId`."""

    id: str
    source: str
    name: str
    payload: msgspec.Raw
    context: msgspec.Raw
    timestamp: str
    accountId: str | None = None  # noqa: N815 - the wire's name


def post(ids: Collection[uuid.UUID]) -> None:
    """Make the call of each invocation that is due and that nobody else is at, and write down what came of it.

    Takes two units of work for each, so that no connection waits while a stranger answers.
    """
    for invocation_id in ids:
        _post(invocation_id)


def _post(invocation_id: uuid.UUID) -> None:
    with db.unit():
        claimed = posts.claim(invocation_id, settings.current().post_timeout + _TO_FINISH)
        if claimed is None or _ended_before_the_call(claimed):
            return
    crashes.point("post.after_claim")
    attempt, failure = _try(claimed)
    crashes.point("post.after_call")
    with db.unit():
        if failure is None:
            posts.finish(claimed, "SUCCEEDED", None, attempt)
        else:
            _retry_or_bury(claimed, failure, attempt)
    crashes.point("post.after_finish")


def _try(claimed: posts.Claimed) -> tuple[posts.Attempt, Exception | None]:
    """Make the call: what came of it, and what it failed with."""
    try:
        answer = _call(claimed)
    except errors.KongflowError as error:
        return _failed(claimed, error), error
    except Exception as error:
        # It counts as a failed attempt too, or the row would wait for its lease to run out each time.
        log.exception("a call failed in an unforeseen way", invocation=str(claimed.id))
        return _failed(claimed, error), error
    attempt = _answered(claimed, answer)
    if attempt.outcome == "succeeded":
        return attempt, None
    return attempt, errors.Retryable(f"the target answered {answer.status}", answer.retry_after)


def _ended_before_the_call(claimed: posts.Claimed) -> bool:
    ending = _ending_without_a_call(claimed)
    if ending is None:
        return False
    status, reason = ending
    lost = posts.Attempt(claimed.attempts, "lost", 0, error=reason) if status == "DEAD" else None
    posts.finish(claimed, status, reason, lost)
    return True


def _ending_without_a_call(claimed: posts.Claimed) -> tuple[str, str] | None:
    if claimed.cancelled:
        return "CANCELED", "event cancelled"
    skipped = words.why_skipped(claimed.enabled, claimed.expired)
    if skipped:
        return "SKIPPED", skipped
    if claimed.attempts > retries.LIMITS["post"]:
        return "DEAD", retries.WORKER_LOST
    return None


def _call(claimed: posts.Claimed) -> outgoing.Answer:
    current = settings.current()
    return outgoing.post(
        claimed.url,
        headers={"Content-Type": "application/json; charset=utf-8", "webhook-id": str(claimed.id)},
        body=body_of(claimed),
        timeout=current.post_timeout,
        allowed=current.networks,
    )


def body_of(claimed: posts.Claimed) -> bytes:
    """The request's body: the sender's own payload bytes inside upstream's envelope."""
    return msgspec.json.encode(
        Body(
            id=claimed.event_id,
            source=claimed.source,
            name=claimed.name,
            payload=msgspec.Raw(claimed.payload_raw),
            context=msgspec.Raw(claimed.context or "{}"),
            timestamp=schemas.iso(claimed.timestamp),
            accountId=claimed.account,
        )
    )


def _answered(claimed: posts.Claimed, answer: outgoing.Answer) -> posts.Attempt:
    good = 200 <= answer.status < 300  # noqa: PLR2004 - HTTP's own numbers
    return posts.Attempt(
        number=claimed.attempts,
        outcome="succeeded" if good else "refused",
        duration_ms=answer.duration_ms,
        status_code=answer.status,
        error=None if good else f"the target answered {answer.status}",
        answer=answer.excerpt,
    )


def _failed(claimed: posts.Claimed, error: Exception) -> posts.Attempt:
    return posts.Attempt(
        number=claimed.attempts,
        outcome=getattr(error, "outcome", "failed"),
        duration_ms=getattr(error, "duration_ms", 0),
        error=outgoing.clean(retries.reason_of(error), _ERROR_BYTES),
    )


def _retry_or_bury(claimed: posts.Claimed, failure: Exception, attempt: posts.Attempt) -> None:
    match retries.decide("post", claimed.attempts, failure):
        case retries.Again(delay):
            posts.postpone(claimed, delay, attempt)
        case retries.Dead():
            log.warning("dead letter", kind="post", subject=str(claimed.id), reason=attempt.error)
            posts.finish(claimed, "DEAD", attempt.error, attempt)
