"""Dispatchers as the console lists them, and how each has been doing lately.

An environment has 10,000 dispatchers at the most that matter: a page may look at all of them, never at all invocations.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from kongflow_events import models, patterns, words
from kongflow_events.store import db, stretches

State = Literal["enabled", "disabled", "paused", "failing", "resting"]

# Invocations among which an event is looked for that is worth to be shown.
_LOOK: Final = 20

_LIST = """
SELECT dispatchers.id FROM event_dispatchers AS dispatchers
  LEFT JOIN targets ON targets.dispatcher_id = dispatchers.id
 WHERE dispatchers.environment_id = %(environment)s
"""

_CONDITIONS = {
    "before": "dispatchers.id < %(before)s",
    "source": "dispatchers.source = %(source)s",
    "type": "dispatchers.dispatchable->>'type' = %(type)s",
    "name": """dispatchers.id IN (
        SELECT dispatcher_id FROM event_dispatcher_names AS names
         WHERE names.environment_id = %(environment)s AND names.name = ANY(%(heard_by)s))""",
}

_STATES: dict[State, str] = {
    "enabled": "dispatchers.enabled AND targets.paused_at IS NULL",
    "disabled": "NOT dispatchers.enabled",
    "paused": "targets.paused_at IS NOT NULL",
    "failing": "targets.failures > 0",
    "resting": "targets.rests_until > now()",
}

# For each dispatcher a short walk along its own end of the index.
_RECENT = f"""
SELECT recent.* FROM unnest(%(ids)s::uuid[]) AS dispatchers(id) CROSS JOIN LATERAL (
    SELECT invocations.id, invocations.dispatcher_id, status, created_at, completed_at, invocations.attempts, redrives,
           invocations.last_error, invocations.last_outcome, reason, event_record_id
      FROM invocations WHERE {stretches.only("invocations.dispatcher_id", "dispatchers.id")}
     ORDER BY invocations.dispatcher_id, invocations.id DESC LIMIT %(limit)s
) AS recent
"""

_NEWEST = f"{stretches.only('dispatcher_id', '%(id)s')} ORDER BY dispatcher_id, id DESC"

_ATTEMPTS = f"""
SELECT attempts.invocation_id, attempts.started_at, attempts.duration_ms, attempts.outcome, attempts.status_code
  FROM (SELECT id FROM invocations WHERE {_NEWEST} LIMIT %(limit)s) AS recent
  JOIN invocation_attempts AS attempts ON attempts.invocation_id = recent.id
 ORDER BY attempts.started_at DESC LIMIT %(limit)s
"""

_LAST_EVENT = f"""
SELECT records.name, records.source, records.payload_raw AS payload, coalesce(records.context::text, '{{}}') AS context
  FROM (SELECT id, event_record_id FROM invocations WHERE {_NEWEST} LIMIT {_LOOK}) AS last
  JOIN event_records AS records ON records.id = last.event_record_id
 WHERE records.name <> %(but)s AND records.cancelled_at IS NULL
   AND length(records.payload_raw) <= %(longest)s AND coalesce(length(records.context::text), 0) <= %(longest)s
 ORDER BY last.id DESC LIMIT 1
"""

_WAITING = """
SELECT count(*) AS number FROM (
    SELECT FROM outbox WHERE kind = 'post' AND lane = %(id)s LIMIT %(most)s) AS waiting
"""

_WEBHOOKS = """
SELECT dispatchers.id, dispatchers.event, dispatchers.dispatchable->>'url' AS url, secrets.public_key,
       secrets.created_at, older.number AS older, older.until
  FROM event_dispatchers AS dispatchers
  LEFT JOIN webhook_secrets AS secrets ON secrets.dispatcher_id = dispatchers.id AND secrets.expires_at IS NULL
 CROSS JOIN LATERAL (
    SELECT count(*) AS number, max(expires_at) AS until FROM webhook_secrets
     WHERE dispatcher_id = dispatchers.id AND expires_at > now()) AS older
 WHERE dispatchers.environment_id = %(environment)s AND dispatchers.dispatchable->>'type' = 'WEBHOOK'
   AND (%(before)s::uuid IS NULL OR dispatchers.id < %(before)s)
 ORDER BY dispatchers.id DESC LIMIT %(limit)s
"""


# What jobs and triggers are called by those who wrote them, by the ids that dispatchables know.
_CALLED = """
SELECT versions.id::text AS id, jobs.slug || ' ' || versions.version AS name
  FROM job_versions AS versions JOIN jobs ON jobs.id = versions.job_id WHERE versions.id = ANY(%(ids)s::uuid[])
UNION ALL
SELECT id::text, slug FROM dynamic_triggers WHERE id = ANY(%(ids)s::uuid[])
"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which dispatchers a list is about; None asks nothing. `name` is an event's: those that hear it, by patterns too."""

    name: str | None = None
    source: str | None = None
    type: str | None = None
    state: State | None = None


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """An invocation of a dispatcher, as a mark of how it is doing."""

    id: uuid.UUID
    dispatcher_id: uuid.UUID
    status: str
    created_at: datetime
    completed_at: datetime | None
    attempts: int
    redrives: int
    last_error: str | None
    last_outcome: str | None
    reason: str | None
    event_record_id: uuid.UUID


class Attempt(msgspec.Struct, frozen=True):
    """One call, or one failure, of a dispatcher."""

    invocation_id: uuid.UUID
    started_at: datetime
    duration_ms: int
    outcome: str
    status_code: int | None


class Event(msgspec.Struct, frozen=True):
    """An event that a dispatcher took; `payload` and `context` are JSON texts."""

    name: str
    source: str
    payload: str
    context: str


class Webhook(msgspec.Struct, frozen=True):
    """A webhook with what signs its calls: since when, and how many secrets before it still sign, until when."""

    id: uuid.UUID
    event: str
    url: str
    public_key: str | None
    created_at: datetime | None
    older: int
    until: datetime | None


def newest(
    environment_id: uuid.UUID, wanted: Wanted, before: uuid.UUID | None, limit: int
) -> words.Page[models.EventDispatcher]:
    """The environment's dispatchers, newest first, from just before `before`."""
    asked: dict[str, Any] = {"before": before, **msgspec.structs.asdict(wanted)}
    conditions = [condition for field, condition in _CONDITIONS.items() if asked[field] is not None]
    if wanted.state is not None:
        conditions.append(_STATES[wanted.state])
    found = db.rows(
        f"{_LIST} AND {' AND '.join(['TRUE', *conditions])} ORDER BY dispatchers.id DESC LIMIT %(limit)s",
        {
            **asked,
            "environment": environment_id,
            "heard_by": patterns.heard_by(wanted.name) if wanted.name is not None else [],
            "limit": limit + 1,
        },
    )
    ids = [row["id"] for row in found[:limit]]
    table = models.EventDispatcher
    rows = list(table.select().where(table.id.in_(ids)).order_by(table.id.desc()))
    return words.Page(rows, ids[-1] if len(found) > limit else None)


def recent(dispatcher_ids: Sequence[uuid.UUID], limit: int) -> dict[uuid.UUID, list[Recent]]:
    """The last `limit` invocations of each of these dispatchers, newest first; a dispatcher without any is not there."""
    found: dict[uuid.UUID, list[Recent]] = {}
    for row in db.rows(_RECENT, {"ids": list(dispatcher_ids), "limit": limit}):
        found.setdefault(row["dispatcher_id"], []).append(Recent(**row))
    return found


def attempts(dispatcher_id: uuid.UUID, limit: int) -> list[Attempt]:
    """The last attempts of the dispatcher's last `limit` invocations, newest first."""
    return [Attempt(**row) for row in db.rows(_ATTEMPTS, {"id": dispatcher_id, "limit": limit})]


def last_event(dispatcher_id: uuid.UUID, longest: int, but: str) -> Event | None:
    """The last event that the dispatcher took, of its last few: not cancelled, not called `but`, and not too long.

    Neither its payload nor its context has more than `longest` characters.
    """
    found = db.rows(_LAST_EVENT, {"id": dispatcher_id, "longest": longest, "but": but})
    return Event(**found[0]) if found else None


def called(dispatchables: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What the jobs (with versions) and dynamic triggers of dispatchables are called, by id; none for one that is gone."""
    ids = [words.as_id(one["id"]) for one in dispatchables if "id" in one]
    return {row["id"]: row["name"] for row in db.rows(_CALLED, {"ids": ids})} if ids else {}


def waiting(dispatcher_id: uuid.UUID, most: int) -> int:
    """How many calls wait for the dispatcher's target; counts to `most` and no further."""
    number: int = db.rows(_WAITING, {"id": dispatcher_id, "most": most})[0]["number"]
    return number


def webhooks(environment_id: uuid.UUID, before: uuid.UUID | None, limit: int) -> words.Page[Webhook]:
    """The environment's webhooks with the state of their secrets, newest first, from just before `before`."""
    found = db.rows(_WEBHOOKS, {"environment": environment_id, "before": before, "limit": limit + 1})
    items = [Webhook(**row) for row in found[:limit]]
    return words.Page(items, items[-1].id if len(found) > limit else None)
