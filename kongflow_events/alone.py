"""One row taken alone: its attempt is committed before the work, so that whatever the work does to the worker counts.

Rows are worked on in batches, under row locks that a crash gives back. A row that fails, or that may have killed its
worker, comes here instead: it can then harm only itself, and becomes a dead letter when its attempts are used up.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TypeVar

import structlog

from kongflow_events import crashes, metrics, notices, outgoing, retries, settings, words
from kongflow_events.store import db, invocations, outbox

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# Bytes of an error's text that a dead letter keeps.
_ERROR_BYTES = 2000


def carry_out(kind: words.Kind, subject_id: uuid.UUID, work: Callable[[uuid.UUID], Result]) -> Result | None:
    """Claim one due row of work inside PostgreSQL, and do `work(token)` for it in a transaction of its own.

    1. Claim: count the attempt, lease the row; commit. Somebody else's row, or none: nothing to do.
    2. Past its attempts already: its workers died. Make it a dead letter.
    3. Work, which deletes the row, or leaves it as it was. A failure is written down and decides what follows.

    Returns what the work returns, None when it was not done. A database that is away is nobody's failure: it is raised,
    and the lease runs out.
    """
    claimed = outbox.claim(kind, subject_id, settings.current().lease)
    if claimed is None:
        return None
    token, number = claimed
    if number > retries.LIMITS[kind]:
        _give_up(kind, subject_id, token, number)
        return None
    started = time.monotonic()
    try:
        with db.atomic():
            done = work(token)
            # What is left now was in other hands: a sender's, say, who has the event under his lock.
            outbox.release(subject_id, token)
        crashes.point(f"{kind}.after_commit")
        return done
    except db.AWAY:
        raise
    except Exception as error:
        log.exception("work failed", kind=kind, attempt=number, **_named(kind, subject_id))
        metrics.FAILED.add(kind)
        _fail(kind, subject_id, token, number, error, time.monotonic() - started)
        return None


def _give_up(kind: words.Kind, subject_id: uuid.UUID, token: uuid.UUID, number: int) -> None:
    with db.atomic():
        if _bury(kind, subject_id, token, retries.WORKER_LOST) and kind != "deliver":
            invocations.note_attempt(subject_id, number, "lost", retries.WORKER_LOST, 0.0)
            notices.tell_of_dead([subject_id])


def _fail(
    kind: words.Kind, subject_id: uuid.UUID, token: uuid.UUID, number: int, error: Exception, seconds: float
) -> None:
    """Write a failure down, unless the lease was lost: then the row, and all that is told of it, is somebody else's."""
    reason = outgoing.clean(retries.reason_of(error), _ERROR_BYTES)
    with db.atomic():
        match retries.decide(kind, number, error):
            case retries.Again(delay):
                held = outbox.postpone(subject_id, token, delay, reason)
            case retries.Dead():
                held = _bury(kind, subject_id, token, reason)
        if not held:
            metrics.CLAIMS_LOST.add(kind)
        if held and kind != "deliver":
            invocations.note_attempt(subject_id, number, "failed", reason, seconds)
            notices.tell_of_dead([subject_id])


def _bury(kind: words.Kind, subject_id: uuid.UUID, token: uuid.UUID, reason: str) -> bool:
    bury = outbox.bury_delivery if kind == "deliver" else invocations.bury
    held = bury(subject_id, token, reason)
    if held:
        metrics.DEAD.add(kind)
        if kind != "deliver":
            metrics.INVOCATIONS.add(kind, "dead")
        log.warning("dead letter", kind=kind, reason=reason, **_named(kind, subject_id))
    return held


def _named(kind: words.Kind, subject_id: uuid.UUID) -> dict[str, uuid.UUID]:
    """What the log calls the row's subject."""
    return {"event_record" if kind == "deliver" else "invocation": subject_id}
