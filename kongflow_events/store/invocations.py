"""Invocations that are carried out inside PostgreSQL: taken, their jobs looked up, their runs and outcomes written."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence

import msgspec

from kongflow_events import words
from kongflow_events.store import db, outbox

# A row that another worker holds is skipped: it is being carried out. By their ids, and in no case by their kind, as a
# planner would who takes the table for empty: hence the IS TRUE.
_TAKE = db.Prepared(
    "take_invocations",
    """
WITH taken AS (
    DELETE FROM outbox WHERE subject_id IN (
        SELECT subject_id FROM outbox
         WHERE subject_id = ANY(%(ids)s::uuid[]) AND (kind = 'invoke') IS TRUE AND due_at <= now()
           AND (lease_until IS NULL OR lease_until < now() OR token = %(token)s::uuid)
         ORDER BY subject_id FOR UPDATE SKIP LOCKED)
    RETURNING subject_id, attempts
)
SELECT invocations.id, taken.attempts, dispatchers.enabled, dispatchers.expires_at <= now() AS expired,
       COALESCE(dispatchers.dispatchable, invocations.dispatchable)->>'type' AS type,
       COALESCE(dispatchers.dispatchable, invocations.dispatchable)->>'id' AS target,
       invocations.dispatcher_id::text, invocations.event_record_id::text, records.traceparent,
       CASE WHEN replay = 0 AND redrives = 0
            THEN extract(epoch FROM clock_timestamp() - GREATEST(records.deliver_at, records.created_at))::float8
        END AS waited
  FROM taken JOIN invocations ON invocations.id = taken.subject_id AND invocations.status = 'PENDING'
  JOIN event_records AS records ON records.id = invocations.event_record_id
  LEFT JOIN event_dispatchers AS dispatchers ON dispatchers.id = invocations.dispatcher_id
""",
)

# What each target starts. A dynamic trigger without a job gives one row that names none; a job without a `latest`
# version is left out.
_STARTS = db.Prepared(
    "find_starts",
    """
SELECT id::text AS target, job_id, id AS version_id FROM job_versions WHERE id = ANY(%(versions)s::uuid[])
UNION ALL
SELECT triggers.id::text, aliases.job_id, aliases.version_id
  FROM dynamic_triggers AS triggers
  LEFT JOIN dynamic_trigger_jobs AS attached ON attached.dynamic_trigger_id = triggers.id
  LEFT JOIN job_aliases AS aliases
    ON aliases.job_id = attached.job_id AND aliases.environment_id = triggers.environment_id AND aliases.name = 'latest'
 WHERE triggers.id = ANY(%(triggers)s::uuid[])
""",
)

_FINISH = db.Prepared(
    "finish_invocations",
    """
WITH started AS (
    INSERT INTO job_runs (id, environment_id, job_id, version_id, event_record_id, external_account_id, invocation_id,
                          is_test, internal)
    SELECT started.id, invocations.environment_id, started.job_id, started.version_id, invocations.event_record_id,
           records.external_account_id, invocations.id, records.is_test, jobs.internal
      FROM unnest(%(run_ids)s::uuid[], %(run_invocations)s::uuid[], %(run_jobs)s::uuid[], %(run_versions)s::uuid[])
        AS started(id, invocation_id, job_id, version_id)
      JOIN invocations ON invocations.id = started.invocation_id
      JOIN event_records AS records ON records.id = invocations.event_record_id
      JOIN jobs ON jobs.id = started.job_id
    ON CONFLICT (invocation_id, job_id) DO NOTHING
), done AS (
    UPDATE invocations
       SET status = ended.status, reason = ended.reason, attempts = ended.attempts, completed_at = now(),
           last_error = CASE WHEN ended.status = 'DEAD' THEN ended.reason ELSE last_error END,
           last_outcome = CASE WHEN ended.status = 'DEAD' THEN 'missing' ELSE last_outcome END,
           died_at = CASE WHEN ended.status = 'DEAD' THEN now() END
      FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(reasons)s::text[], %(attempts)s::integer[])
        AS ended(id, status, reason, attempts)
     WHERE invocations.id = ended.id
    RETURNING invocations.id, invocations.redrives, invocations.attempts, invocations.status, invocations.reason
)
INSERT INTO invocation_attempts (invocation_id, round, number, started_at, duration_ms, outcome, error)
SELECT id, redrives, attempts, now(), 0, 'missing', reason FROM done WHERE status = 'DEAD'
ON CONFLICT DO NOTHING
""",
)

_BURY = """
WITH gone AS (
    DELETE FROM outbox WHERE subject_id = %(id)s AND token = %(token)s RETURNING subject_id, attempts
)
UPDATE invocations
   SET status = 'DEAD', reason = %(error)s, last_error = %(error)s, attempts = gone.attempts, completed_at = now(),
       died_at = now(), pending_one_shot = NULL
  FROM gone WHERE invocations.id = gone.subject_id
"""

_NOTE = """
WITH noted AS (
    UPDATE invocations SET attempts = %(number)s, last_error = %(error)s, last_outcome = %(outcome)s
     WHERE id = %(id)s RETURNING id, redrives
)
INSERT INTO invocation_attempts (invocation_id, round, number, started_at, duration_ms, outcome, error)
SELECT id, redrives, %(number)s, now() - %(seconds)s * interval '1 second', (%(seconds)s * 1000)::integer, %(outcome)s,
       %(error)s
  FROM noted
ON CONFLICT DO NOTHING
"""

_FIND_OR_MAKE = f"""
WITH made AS (
    INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable,
                             pending_one_shot)
    SELECT %(id)s, dispatchers.environment_id, records.id, dispatchers.id, event, dispatchable - 'headers',
           CASE WHEN one_shot THEN dispatchers.id END
      FROM event_dispatchers AS dispatchers
      JOIN event_records AS records ON records.environment_id = dispatchers.environment_id
     WHERE dispatchers.id = %(dispatcher)s AND records.id = %(record)s
    ON CONFLICT DO NOTHING
    RETURNING id, environment_id, dispatcher_id, dispatchable->>'type' = ANY(%(url_types)s) AS url
), owed AS ({outbox.OWE_MADE})
SELECT id, url FROM made
UNION ALL
SELECT id, dispatchable->>'type' = ANY(%(url_types)s) FROM invocations
 WHERE event_record_id = %(record)s AND dispatcher_id = %(dispatcher)s AND replay = 0
"""


class Taken(msgspec.Struct, frozen=True):
    """An invocation whose outbox row this transaction has deleted. `enabled` is None when its dispatcher is gone.

    `waited` are the seconds since its event was due, at the first delivery; None later. Ids that are only told are texts.
    """

    id: uuid.UUID
    attempts: int
    enabled: bool | None
    expired: bool | None
    type: str
    target: str
    dispatcher_id: str
    event_record_id: str
    traceparent: str | None
    waited: float | None


class Start(msgspec.Struct, frozen=True):
    """A job version that a target starts; all but the target is None when the target exists and starts nothing."""

    target: str
    job_id: uuid.UUID | None
    version_id: uuid.UUID | None


class Run(msgspec.Struct, frozen=True):
    """A run to be made."""

    invocation_id: uuid.UUID
    job_id: uuid.UUID
    version_id: uuid.UUID


class Ended(msgspec.Struct, frozen=True):
    """How an invocation ended: SUCCEEDED, SKIPPED or DEAD, why, and after how many attempts."""

    id: uuid.UUID
    status: str
    reason: str | None
    attempts: int


def take(ids: Collection[uuid.UUID], token: uuid.UUID | None) -> list[Taken]:
    """Delete the outbox rows of these invocations that are due and free (or leased to `token`); returns what they are."""
    return [Taken(**row) for row in _TAKE.rows({"ids": list(ids), "token": token})]


def starts(versions: Collection[str], triggers: Collection[str]) -> list[Start]:
    """What these job versions and dynamic triggers start; an id that does not exist gives no row."""
    parameters = {"versions": [*map(words.as_id, versions)], "triggers": [*map(words.as_id, triggers)]}
    return [Start(**row) for row in _STARTS.rows(parameters)]


def finish(runs: Sequence[Run], ended: Sequence[Ended]) -> None:
    """Make the runs and write how their invocations ended, in one statement. A run that exists is not made again."""
    _FINISH.run(
        {
            "run_ids": [words.new_id() for _ in runs],
            "run_invocations": [run.invocation_id for run in runs],
            "run_jobs": [run.job_id for run in runs],
            "run_versions": [run.version_id for run in runs],
            "ids": [end.id for end in ended],
            "statuses": [end.status for end in ended],
            "reasons": [end.reason for end in ended],
            "attempts": [end.attempts for end in ended],
        },
    )


def bury(invocation_id: uuid.UUID, token: uuid.UUID, error: str) -> bool:
    """Make a claimed invocation a dead letter; False, and nothing changed, when the lease was lost to somebody else."""
    return bool(db.run(_BURY, {"id": invocation_id, "token": token, "error": error}))


def note_attempt(invocation_id: uuid.UUID, number: int, outcome: str, error: str, seconds: float) -> None:
    """Write an attempt that failed without having gone over HTTP; `seconds` is how long it took.

    For whoever held the row until now, and gave it back or buried it in the same transaction.
    """
    db.run(_NOTE, {"id": invocation_id, "number": number, "outcome": outcome, "error": error, "seconds": seconds})


def find_or_make(dispatcher_id: uuid.UUID, event_record_id: uuid.UUID) -> tuple[uuid.UUID, words.Kind] | None:
    """The first delivery's invocation of this pair, made and owed if there was none; None if either is missing."""
    found = db.rows(
        _FIND_OR_MAKE,
        {
            "id": words.new_id(),
            "dispatcher": dispatcher_id,
            "record": event_record_id,
            "url_types": list(words.URL_TYPES),
        },
    )
    return (found[0]["id"], "post" if found[0]["url"] else "invoke") if found else None
