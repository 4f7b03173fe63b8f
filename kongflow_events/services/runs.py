"""Runs as their readers see them. Executing them is a later step."""

from __future__ import annotations

import uuid

from kongflow_events import errors, models, words
from kongflow_events.store import jobs, runs


def get_run(environment: words.Environment, run_id: str) -> models.JobRun:
    """The environment's run of this id; raises NotFound. Upstream let any key read any run's statuses."""
    run = runs.get(environment.id, words.as_id(run_id))
    if run is None:
        raise errors.NotFound("Run not found")
    return run


def list_job_runs(
    environment: words.Environment, job: str, *, cursor: uuid.UUID | None = None, limit: int = 50
) -> words.Page[models.JobRun]:
    """The runs of a job (by slug) in the environment, newest first; raises NotFound."""
    found = jobs.find(environment, job)
    if found is None:
        raise errors.NotFound("Job not found")
    return runs.newest(environment.id, found.id, cursor, limit)


def cancel_run(environment: words.Environment, run_id: str) -> models.JobRun:
    """Cancel a run that has not ended, and return it as it is then; raises NotFound."""
    runs.cancel(environment.id, words.as_id(run_id))
    return get_run(environment, run_id)
