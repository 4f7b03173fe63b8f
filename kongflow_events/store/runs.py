"""Runs: read, listed, cancelled."""

from __future__ import annotations

import uuid

from kongflow_events import models, words
from kongflow_events.store import db

_OPEN = "status <> ALL(%(final)s)"

_CANCEL = f"""
UPDATE job_runs SET status = 'CANCELED', completed_at = now(), updated_at = now()
 WHERE id = %(id)s AND environment_id = %(environment)s AND {_OPEN}
"""

_CANCEL_FOR_EVENT = f"""
WITH canceled AS (
    UPDATE job_runs SET status = 'CANCELED', completed_at = now(), updated_at = now()
     WHERE event_record_id = %(record)s AND environment_id = %(environment)s AND {_OPEN}
    RETURNING id
)
SELECT id FROM canceled ORDER BY id
"""


def for_event(event_record_id: uuid.UUID) -> list[models.JobRun]:
    """The runs that an event started, in the order they were made."""
    table = models.JobRun
    return list(table.select().where(table.event_record_id == event_record_id).order_by(table.created_at, table.id))


def get(environment_id: uuid.UUID, run_id: uuid.UUID) -> models.JobRun | None:
    """The environment's run of this id."""
    table = models.JobRun
    return table.get_or_none((table.id == run_id) & (table.environment_id == environment_id))


def newest(
    environment_id: uuid.UUID, job_id: uuid.UUID, before: uuid.UUID | None, limit: int
) -> words.Page[models.JobRun]:
    """A job's runs in the environment, newest first, going on before `before`."""
    table = models.JobRun
    # As `stretches.only` says it.
    query = table.select().where(table.job_id.between(job_id, job_id) & (table.environment_id == environment_id))
    if before is not None:
        query = query.where(table.id < before)
    found = list(query.order_by(table.job_id, table.id.desc()).limit(limit + 1))
    return words.Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def cancel(environment_id: uuid.UUID, run_id: uuid.UUID) -> None:
    """Cancel a run that has not ended; one that has stays as it is."""
    final = list(words.FINAL_RUN_STATUSES)
    db.run(_CANCEL, {"id": run_id, "environment": environment_id, "final": final})


def cancel_for_event(environment_id: uuid.UUID, event_record_id: uuid.UUID) -> list[uuid.UUID]:
    """Cancel every run of the event that has not ended; returns their ids."""
    final = list(words.FINAL_RUN_STATUSES)
    found = db.rows(_CANCEL_FOR_EVENT, {"record": event_record_id, "environment": environment_id, "final": final})
    return [row["id"] for row in found]
