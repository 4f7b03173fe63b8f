"""Runs as the console lists them: an environment's, over all its jobs.

The index has each job's runs in order. What is newest over all jobs is among the newest of the jobs that were started
last: one look at the end of each job, then a short walk along a page's worth of them.
"""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

from kongflow_events import words
from kongflow_events.store import db, stretches

# Runs that one page looks at when only some are wanted.
_LOOK = 500

_NEWEST = f"""
WITH ends AS (
    SELECT jobs.id, last.run_id FROM jobs CROSS JOIN LATERAL (
        SELECT id AS run_id FROM job_runs AS runs
         WHERE {stretches.only("runs.job_id", "jobs.id")} AND runs.environment_id = %(environment)s
           AND (%(before)s::uuid IS NULL OR runs.id < %(before)s)
         ORDER BY runs.job_id, runs.id DESC LIMIT 1) AS last
     WHERE jobs.project_id = %(project)s AND (%(job)s::text IS NULL OR jobs.slug = %(job)s)
     ORDER BY last.run_id DESC LIMIT %(look)s
), looked AS MATERIALIZED (
    SELECT each.* FROM ends CROSS JOIN LATERAL (
        SELECT id, job_id, version_id, event_record_id, status, is_test, created_at, started_at, completed_at, invocation_id
          FROM job_runs AS runs
         WHERE {stretches.only("runs.job_id", "ends.id")} AND runs.environment_id = %(environment)s
           AND (%(before)s::uuid IS NULL OR runs.id < %(before)s)
         ORDER BY runs.job_id, runs.id DESC LIMIT %(look)s) AS each
     ORDER BY each.id DESC LIMIT %(look)s
), wanted AS (
    SELECT * FROM looked WHERE %(status)s::text IS NULL OR status = %(status)s ORDER BY id DESC LIMIT %(limit)s
), seen AS (
    SELECT count(*) AS number, (SELECT id FROM looked ORDER BY id LIMIT 1) AS last FROM looked
)
SELECT seen.number AS looked, seen.last, wanted.id, jobs.slug AS job, versions.version, wanted.status, wanted.is_test,
       wanted.created_at, wanted.started_at, wanted.completed_at, wanted.invocation_id, records.event_id,
       records.name AS event_name, records.id AS record_id
  FROM seen LEFT JOIN wanted ON TRUE
  LEFT JOIN jobs ON jobs.id = wanted.job_id
  LEFT JOIN job_versions AS versions ON versions.id = wanted.version_id
  LEFT JOIN event_records AS records ON records.id = wanted.event_record_id
 ORDER BY wanted.id DESC
"""

_ONE = """
SELECT runs.id, jobs.slug AS job, versions.version, runs.status, runs.is_test, runs.created_at, runs.started_at,
       runs.completed_at, runs.invocation_id, records.event_id, records.name AS event_name, records.id AS record_id
  FROM job_runs AS runs JOIN jobs ON jobs.id = runs.job_id
  JOIN job_versions AS versions ON versions.id = runs.version_id
  JOIN event_records AS records ON records.id = runs.event_record_id
 WHERE runs.id = %(id)s AND runs.environment_id = %(environment)s
"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs a list is about; None asks nothing. `job` is a slug."""

    job: str | None = None
    status: str | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A run with its job, its version and its event."""

    id: uuid.UUID
    job: str
    version: str
    status: str
    is_test: bool
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    invocation_id: uuid.UUID | None
    event_id: str
    event_name: str
    record_id: uuid.UUID


def newest(
    environment_id: uuid.UUID, project_id: uuid.UUID, wanted: Wanted, before: uuid.UUID | None, limit: int
) -> words.Page[Listed]:
    """The environment's runs, newest first, from just before `before`."""
    look = limit + 1 if wanted.status is None else _LOOK
    found = db.rows(
        _NEWEST,
        {
            "environment": environment_id,
            "project": project_id,
            "before": before,
            "limit": limit + 1,
            "look": look,
            **msgspec.structs.asdict(wanted),
        },
    )
    return stretches.page(found, Listed, look, limit)


def get(environment_id: uuid.UUID, run_id: uuid.UUID) -> Listed | None:
    """The environment's run of this id."""
    found = db.rows(_ONE, {"id": run_id, "environment": environment_id})
    return Listed(**found[0]) if found else None
