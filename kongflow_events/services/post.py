"""Post: carry one invocation out over HTTP (upstream's invokeEphemeralDispatcher): at least once, always the same bytes.

A repeat happens only when a worker died, a call ended without a 2xx, or the finish could not be committed; the receiver
can tell it by the message id, which is the invocation's.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus

import msgspec
import structlog

from kongflow_events import (
    calls,
    circuits,
    crashes,
    errors,
    metrics,
    notices,
    outgoing,
    retries,
    settings,
    shares,
    traces,
    words,
)
from kongflow_events.store import db, outbox, posts, targets

log = structlog.get_logger(__name__)

# Seconds that a lease outlives the call's deadline: time enough to commit the finish.
_TO_FINISH = 10.0
_ERROR_BYTES = 2_000
# Answers whose Retry-After speaks for the whole target, and not of this call.
_ASKING = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class _Gone(errors.Final):
    """The receiver wants no call any more, this one's repetition included."""


Hints = dict[words.Kind, list[uuid.UUID]]

_shares = shares.Shares()


def post(ids: Collection[uuid.UUID], goes_on: Callable[[], bool] = lambda: False) -> Hints:
    """Make the call of each invocation that is due, that nobody else is at, and that its target lets in.

    Writes down what came of it, and what that says of the target. Whoever ends a call has made a place for the next of its
    target: that one he calls himself while he `goes_on`, and else it is returned, to be hinted. Takes two units of work
    for each, so that no connection waits while a stranger answers.
    """
    following = deque(each for invocation_id in ids for each in _post(invocation_id))
    while following and goes_on():
        following.extend(_post_another(following.popleft()))
    return {"post": list(following)}


def _post_another(invocation_id: uuid.UUID) -> list[uuid.UUID]:
    """The same for one that nobody has asked for by a message: what goes wrong with it must not be said of that one."""
    try:
        return _post(invocation_id)
    except db.AWAY:
        raise
    except Exception:
        log.exception("a call could not be made", invocation=invocation_id)
        return []


def _post(invocation_id: uuid.UUID) -> list[uuid.UUID]:
    current = settings.current()

    def claim(full: Sequence[uuid.UUID]) -> posts.Claimed | None:
        with db.unit():
            return posts.claim(invocation_id, current.post_timeout + _TO_FINISH, current.target_concurrency, full)

    with _shares.one(current.environment_concurrency, claim) as claimed:
        return [] if claimed is None else _carry_out(claimed)


def _carry_out(claimed: posts.Claimed) -> list[uuid.UUID]:
    with structlog.contextvars.bound_contextvars(
        invocation=claimed.id,
        dispatcher=claimed.dispatcher_id,
        event_id=claimed.event_id,
        event_record=claimed.event_record_id,
        environment=claimed.environment_id,
    ):
        if ending := _ending_without_a_call(claimed):
            with db.unit():
                return _end_without_a_call(claimed, *ending)
        return _call(claimed)


def _call(claimed: posts.Claimed) -> list[uuid.UUID]:
    crashes.point("post.after_claim")
    time.sleep(claimed.wait)
    if claimed.waited is not None:
        metrics.SEND_TO_CALL.note(claimed.waited + claimed.wait)
    attempt, failure = _try(claimed)
    _account(attempt)
    crashes.point("post.after_call")
    with db.unit(), db.atomic():
        if failure is None:
            _succeed(claimed, attempt)
        elif _retry_or_bury(claimed, failure, attempt) and _is_the_receivers(failure, attempt):
            _settle(claimed, _failed_call(attempt, failure))
        following = _following(claimed)
    crashes.point("post.after_finish")
    return following


def _account(attempt: posts.Attempt) -> None:
    """Count the call, and say what came of it."""
    metrics.POST_SECONDS.note(attempt.duration_ms / 1000, attempt.outcome)
    said = {
        "outcome": attempt.outcome,
        "status": attempt.status_code,
        "ms": attempt.duration_ms,
        "attempt": attempt.number,
    }
    if attempt.outcome == "succeeded":
        log.debug("a call succeeded", **said)
    else:
        log.info("a call failed", reason=attempt.error, **said)


def _try(claimed: posts.Claimed) -> tuple[posts.Attempt, Exception | None]:
    """Make the call: what came of it, and what it failed with."""
    call = None
    try:
        with _span(claimed) as traceparent:
            call = calls.prepare(claimed, traceparent)
            answer = calls.make(call)
    except errors.KongflowError as error:
        return _failed(claimed, error, call), error
    except Exception as error:
        # It counts as a failed attempt too, or the row would wait for its lease to run out each time.
        log.exception("a call failed in an unforeseen way")
        return _failed(claimed, error, call), error
    attempt = _answered(claimed, answer, call)
    if attempt.outcome == "succeeded":
        return attempt, None
    if answer.status == HTTPStatus.GONE and claimed.limited and claimed.dispatchable["type"] == words.WEBHOOK:
        return attempt, _Gone(f"the target answered {answer.status}")
    return attempt, errors.Retryable(f"the target answered {answer.status}", answer.retry_after)


def _span(claimed: posts.Claimed) -> traces.Spanning:
    return traces.span(
        "post",
        claimed.traceparent,
        invocation=claimed.id,
        dispatcher=claimed.dispatcher_id,
        event_record=claimed.event_record_id,
        attempt=claimed.attempts,
    )


def _end_without_a_call(claimed: posts.Claimed, status: words.InvocationStatus, reason: str) -> list[uuid.UUID]:
    lost = posts.Attempt(claimed.attempts, "lost", 0, error=reason) if status == "DEAD" else None
    with db.atomic():
        if _finish(claimed, status, reason, lost) and status == "DEAD":
            notices.tell_of_dead([claimed.id])
        return _following(claimed)


def _ending_without_a_call(claimed: posts.Claimed) -> tuple[words.InvocationStatus, str] | None:
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
        answer=call.shown(answer.excerpt),
        request_headers=call.shown_headers,
    )


def _failed(claimed: posts.Claimed, error: Exception, call: calls.Call | None) -> posts.Attempt:
    reason = outgoing.clean(retries.reason_of(error), _ERROR_BYTES)
    return posts.Attempt(
        number=claimed.attempts,
        outcome=getattr(error, "outcome", "failed"),
        duration_ms=getattr(error, "duration_ms", 0),
        error=call.shown(reason) if call else reason,
        request_headers=call.shown_headers if call else None,
    )


def _succeed(claimed: posts.Claimed, attempt: posts.Attempt) -> None:
    finished = _finish(claimed, "SUCCEEDED", None, attempt)
    if finished and finished.failing:
        _settle(claimed, circuits.Call(succeeded=True))


def _retry_or_bury(claimed: posts.Claimed, failure: Exception, attempt: posts.Attempt) -> bool:
    """What follows for the invocation; False when the lease was lost, and with it the say."""
    match retries.decide("post", claimed.attempts, failure):
        case retries.Again(delay):
            held = posts.postpone(claimed, delay, attempt)
            if not held:
                metrics.CLAIMS_LOST.add("post")
            return held
        case retries.Dead():
            if not _finish(claimed, "DEAD", attempt.error, attempt):
                return False
            log.warning("dead letter", kind="post", reason=attempt.error)
            notices.tell_of_dead([claimed.id])
            return True


def _finish(
    claimed: posts.Claimed, status: words.InvocationStatus, reason: str | None, attempt: posts.Attempt | None
) -> posts.Finished | None:
    """End it, and count how; None when the lease was lost."""
    finished = posts.finish(claimed, status, reason, attempt)
    if finished is None:
        metrics.CLAIMS_LOST.add("post")
        return None
    metrics.INVOCATIONS.add("post", status.lower())
    if status == "DEAD":
        metrics.DEAD.add("post")
    return finished


# What the call says of its target ------------------------------------------------------------------------------------


def _is_the_receivers(failure: Exception, attempt: posts.Attempt) -> bool:
    """Whether a failure says anything of the receiver, who may not even have been asked."""
    return attempt.status_code is not None or isinstance(failure, outgoing.CallFailed)


def _failed_call(attempt: posts.Attempt, failure: Exception) -> circuits.Call:
    asked = failure.retry_after if isinstance(failure, errors.Retryable) else None
    return circuits.Call(
        succeeded=False,
        asked=asked if attempt.status_code in _ASKING else None,
        gone=isinstance(failure, _Gone),
    )


def _settle(claimed: posts.Claimed, call: circuits.Call) -> None:
    """Write how the target stands after a call, and say what has changed."""
    target = targets.lock(claimed.dispatcher_id, claimed.token) if claimed.limited else None
    if target is None:
        return
    current = settings.current()
    rules = circuits.Rules(current.circuit_failures, current.disable_after_days)
    call = msgspec.structs.replace(call, probe=target.probe)
    standing, change = circuits.after(target.standing, call, target.now, rules)
    targets.save(claimed.dispatcher_id, claimed.token, standing)
    if change:
        metrics.CIRCUITS.add(change)
        log.warning("a target's circuit has changed", change=change)
    if change == "disabled" and targets.disable(claimed.dispatcher_id):
        notices.tell_of_disabled(claimed.dispatcher_id)


def _following(claimed: posts.Claimed) -> list[uuid.UUID]:
    return outbox.hint_next(claimed.dispatcher_id) if claimed.limited else []
