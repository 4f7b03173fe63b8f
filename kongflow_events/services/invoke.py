"""Invoke: carry invocations out inside PostgreSQL by creating their runs (upstream's InvokeDispatcher).

A JOB_VERSION gives one run, a DYNAMIC_TRIGGER one for each attached job that has a `latest` version.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import structlog

from kongflow_events import alone, crashes, notices, words
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
            _invoke(ids, None)
        crashes.point("invoke.after_commit")
    except db.AWAY:
        raise
    except Exception:
        log.exception("a batch of invocations failed and is redone one by one", invocations=len(ids))
        _invoke_one_by_one(ids)


def _invoke_one_by_one(ids: Collection[uuid.UUID]) -> None:
    for invocation_id in ids:
        alone.carry_out("invoke", invocation_id, partial(_invoke, [invocation_id]))


def _invoke(ids: Collection[uuid.UUID], token: uuid.UUID | None) -> None:
    taken = invocations.take(ids, token)
    if not taken:
        return
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
