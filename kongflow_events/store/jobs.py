"""Jobs, their versions, the alias `latest`, and dynamic triggers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from kongflow_events import models, words
from kongflow_events.store import db

# The update makes the row visible, and locks it: two registrations of one job go one after the other.
_JOB = """
INSERT INTO jobs (id, slug, title, organization_id, project_id)
VALUES (%(id)s, %(slug)s, %(title)s, %(organization)s, %(project)s)
ON CONFLICT (project_id, slug) DO UPDATE SET title = EXCLUDED.title, updated_at = now()
RETURNING id
"""

_VERSION = """
INSERT INTO job_versions (id, job_id, environment_id, version, event_specification)
VALUES (%(id)s, %(job)s, %(environment)s, %(version)s, %(specification)s::jsonb)
ON CONFLICT (job_id, version, environment_id)
   DO UPDATE SET event_specification = EXCLUDED.event_specification, updated_at = now()
RETURNING id
"""

_LATEST = """
SELECT versions.id, versions.version FROM job_aliases AS aliases JOIN job_versions AS versions ON versions.id = version_id
 WHERE aliases.job_id = %s AND aliases.environment_id = %s AND aliases.name = 'latest'
"""

_POINT = """
INSERT INTO job_aliases (job_id, environment_id, name, version_id) VALUES (%s, %s, 'latest', %s)
ON CONFLICT (job_id, environment_id, name) DO UPDATE SET version_id = EXCLUDED.version_id
"""

_TRIGGER = """
INSERT INTO dynamic_triggers (id, slug, environment_id) VALUES (%(id)s, %(slug)s, %(environment)s)
ON CONFLICT (environment_id, slug) DO UPDATE SET updated_at = now()
RETURNING id
"""

_TARGETS = {
    words.JOB_VERSION: "SELECT job_id AS id FROM job_versions WHERE id::text = %s AND environment_id = %s",
    words.DYNAMIC_TRIGGER: "SELECT id FROM dynamic_triggers WHERE id::text = %s AND environment_id = %s",
}


def put_job(environment: words.Environment, slug: str, title: str) -> uuid.UUID:
    """The project's job of this slug, made or renamed, and locked until the transaction ends."""
    parameters = {
        "id": words.new_id(),
        "slug": slug,
        "title": title,
        "organization": environment.organization_id,
        "project": environment.project_id,
    }
    return _id(db.rows(_JOB, parameters))


def put_version(job_id: uuid.UUID, environment_id: uuid.UUID, version: str, specification: str) -> uuid.UUID:
    """The job's version in the environment, made or with a new specification (JSON text)."""
    parameters = {
        "id": words.new_id(),
        "job": job_id,
        "environment": environment_id,
        "version": version,
        "specification": specification,
    }
    return _id(db.rows(_VERSION, parameters))


def latest(job_id: uuid.UUID, environment_id: uuid.UUID) -> tuple[uuid.UUID, str] | None:
    """The id and version that `latest` means; None before there is one."""
    found = db.rows(_LATEST, (job_id, environment_id))
    return (found[0]["id"], found[0]["version"]) if found else None


def point_latest(job_id: uuid.UUID, environment_id: uuid.UUID, version_id: uuid.UUID) -> None:
    """Let `latest` mean this version."""
    db.run(_POINT, (job_id, environment_id, version_id))


def find(environment: words.Environment, slug: str) -> models.Job | None:
    """The project's job of this slug."""
    table = models.Job
    return table.get_or_none((table.project_id == environment.project_id) & (table.slug == slug))


def ids_of(environment: words.Environment, slugs: Sequence[str]) -> Mapping[str, uuid.UUID]:
    """The ids of the project's jobs of these slugs; unknown ones are missing."""
    found = db.rows(
        "SELECT slug, id FROM jobs WHERE project_id = %s AND slug = ANY(%s)", (environment.project_id, list(slugs))
    )
    return {row["slug"]: row["id"] for row in found}


def put_trigger(environment_id: uuid.UUID, slug: str, job_ids: Sequence[uuid.UUID]) -> uuid.UUID:
    """The environment's dynamic trigger of this slug, with exactly these jobs. To be called in a transaction."""
    trigger = _id(db.rows(_TRIGGER, {"id": words.new_id(), "slug": slug, "environment": environment_id}))
    attached = models.DynamicTriggerJob
    attached.delete().where(attached.dynamic_trigger_id == trigger).execute()
    rows = [{"dynamic_trigger_id": trigger, "job_id": job_id} for job_id in job_ids]
    if rows:
        attached.insert_many(rows).execute()
    return trigger


def target_id(environment_id: uuid.UUID, type_: str, target: str) -> uuid.UUID | None:
    """What a dispatchable's id stands for, for uniqueness: a version's job, a trigger itself. None if it is not here."""
    found = db.rows(_TARGETS[type_], (target, environment_id))
    return found[0]["id"] if found else None


def _id(found: Sequence[Mapping[str, Any]]) -> uuid.UUID:
    made: uuid.UUID = found[0]["id"]
    return made
