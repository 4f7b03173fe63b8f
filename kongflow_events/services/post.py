"""Post: carry one invocation out over HTTP (upstream's invokeEphemeralDispatcher): at least once, always the same bytes.

A repeat happens only when a worker died, a call ended without a 2xx, or the finish could not be committed; the receiver
can tell it by the message id, which is the invocation's.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

import structlog

from kongflow_events import calls, crashes, errors, outgoing, retries, settings, words
from kongflow_events.store import db, posts

log = structlog.get_logger(__name__)

# Seconds that a lease outlives the call's deadline: time enough to commit the finish.
_TO_FINISH = 10.0
_ERROR_BYTES = 2_000


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
    call = None
    try:
        call = calls.prepare(claimed)
        answer = calls.make(call)
    except errors.KongflowError as error:
        return _failed(claimed, error, call), error
    except Exception as error:
        # It counts as a failed attempt too, or the row would wait for its lease to run out each time.
        log.exception("a call failed in an unforeseen way", invocation=str(claimed.id))
        return _failed(claimed, error, call), error
    attempt = _answered(claimed, answer, call)
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


def _answered(claimed: posts.Claimed, answer: outgoing.Answer, call: calls.Call) -> posts.Attempt:
    good = 200 <= answer.status < 300  # noqa: PLR2004 - HTTP's own numbers
    return posts.Attempt(
        number=claimed.attempts,
        outcome="succeeded" if good else "refused",
        duration_ms=answer.duration_ms,
        status_code=answer.status,
        error=None if good else f"the target answered {answer.status}",
        answer=answer.excerpt,
        request_headers=call.shown_headers,
    )


def _failed(claimed: posts.Claimed, error: Exception, call: calls.Call | None) -> posts.Attempt:
    return posts.Attempt(
        number=claimed.attempts,
        outcome=getattr(error, "outcome", "failed"),
        duration_ms=getattr(error, "duration_ms", 0),
        error=outgoing.clean(retries.reason_of(error), _ERROR_BYTES),
        request_headers=call.shown_headers if call else None,
    )


def _retry_or_bury(claimed: posts.Claimed, failure: Exception, attempt: posts.Attempt) -> None:
    match retries.decide("post", claimed.attempts, failure):
        case retries.Again(delay):
            posts.postpone(claimed, delay, attempt)
        case retries.Dead():
            log.warning("dead letter", kind="post", subject=str(claimed.id), reason=attempt.error)
            posts.finish(claimed, "DEAD", attempt.error, attempt)
