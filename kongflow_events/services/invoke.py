"""Invoke: carry invocations out inside PostgreSQL by creating their runs (upstream's InvokeDispatcher).

A JOB_VERSION gives one run, a DYNAMIC_TRIGGER one for each attached job that has a `latest` version.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from kongflow_events import alone, crashes, metrics, notices, traces, words
from kongflow_events.store import db, invocations

log = structlog.get_logger(__name__)


def invoke(ids: Collection[uuid.UUID], *, one_by_one: bool = False) -> None:
    """Carry out the invocations `ids` that are due; one that somebody else has, or that is done, is left alone.

    They go in one transaction; when that fails, or when `one_by_one` says that one of them may be harmful, each goes
    alone with its attempt counted first.
    """
    with db.unit():
        if one_by_one:
            _invoke_one_by_one(ids)
        else:
            _invoke_together(ids)


def _invoke_together(ids: Collection[uuid.UUID]) -> None:
    try:
        with db.atomic():
            carried_out = _invoke(ids, None)
        crashes.point("invoke.after_commit")
        _account(carried_out)
    except db.AWAY:
        raise
    except Exception:
        log.exception("a batch of invocations failed and is redone one by one", invocations=len(ids))
        _invoke_one_by_one(ids)


def _invoke_one_by_one(ids: Collection[uuid.UUID]) -> None:
    for invocation_id in ids:
        carried_out = alone.carry_out("invoke", invocation_id, partial(_invoke, [invocation_id]))
        if carried_out is not None:
            _account(carried_out)


class _CarriedOut(NamedTuple):
    """What a transaction has carried out, how each ended, and since when: ns since 1970."""

    taken: list[invocations.Taken]
    ended: list[invocations.Ended]
    began: int


def _account(carried_out: _CarriedOut) -> None:
    """Count what is committed, say it, and record it."""
    for status, number in Counter(end.status for end in carried_out.ended).items():
        metrics.INVOCATIONS.add("invoke", status.lower(), amount=number)
    since = (time.time_ns() - carried_out.began) / 1e9
    # Looked up once: for each invocation of a batch it would cost as much as all the rest.
    say = log.debug
    for one, end in zip(carried_out.taken, carried_out.ended, strict=True):
        if end.status == "DEAD":
            metrics.DEAD.add("invoke")
            log.warning(
                "dead letter", kind="invoke", invocation=one.id, dispatcher=one.dispatcher_id, reason=end.reason
            )
        elif one.waited is not None and end.status == "SUCCEEDED":
            metrics.SEND_TO_RUN.note(one.waited + since)
        say(
            "invocation ended",
            invocation=one.id,
            dispatcher=one.dispatcher_id,
            event_record=one.event_record_id,
            status=end.status,
            reason=end.reason,
        )
    if traces.recording():
        _trace(carried_out)


def _trace(carried_out: _CarriedOut) -> None:
    for one, end in zip(carried_out.taken, carried_out.ended, strict=True):
        named = {"invocation": one.id, "dispatcher": one.dispatcher_id, "status": end.status}
        traces.past("invoke", one.traceparent, carried_out.began, **named)


def _invoke(ids: Collection[uuid.UUID], token: uuid.UUID | None) -> _CarriedOut:
    began = time.time_ns()
    taken = invocations.take(ids, token)
    if not taken:
        return _CarriedOut([], [], began)
    started = _starts_of(taken)
    ended, runs = [], []
    for one in taken:
        end = _end(one, started, counted=token is not None)
        ended.append(end)
        if end.status == "SUCCEEDED":
            runs += [
                invocations.Run(one.id, start.job_id, start.version_id)
                for start in started[one.target]
                if start.job_id and start.version_id
            ]
    invocations.finish(runs, ended)
    if dead := [end.id for end in ended if end.status == "DEAD"]:
        notices.tell_of_dead(dead)
    crashes.point("invoke.before_commit")
    return _CarriedOut(taken, ended, began)


def _starts_of(taken: Sequence[invocations.Taken]) -> Mapping[str, list[invocations.Start]]:
    targets = defaultdict(set)
    for one in taken:
        targets[one.type].add(one.target)
    by_target = defaultdict(list)
    for start in invocations.starts(targets[words.JOB_VERSION], targets[words.DYNAMIC_TRIGGER]):
        by_target[start.target].append(start)
    return by_target


def _end(one: invocations.Taken, started: Mapping[str, list[invocations.Start]], *, counted: bool) -> invocations.Ended:
    """How `one` ends. `counted` says that this attempt stands in its number already."""
    status, reason = _outcome(one, one.target in started)
    return invocations.Ended(one.id, status, reason, one.attempts + (not counted))


def _outcome(one: invocations.Taken, exists: bool) -> tuple[str, str | None]:
    skipped = words.why_skipped(one.enabled, one.expired)
    if skipped:
        return "SKIPPED", skipped
    if not exists:
        return "DEAD", f"its {one.type} {one.target} does not exist"
    return "SUCCEEDED", None
