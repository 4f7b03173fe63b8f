"""`/api/v1/jobs` and `/api/v1/dynamic-triggers`: what upstream's indexing registered."""

from __future__ import annotations

from typing import Final

import falcon

from kongflow_events import schemas, settings
from kongflow_events.services import jobs, runs
from kongflow_events.store import db
from kongflow_events.web.operations import operation
from kongflow_events.web.requests import Door, answer, body_of, query_of

_runs_query: Final = schemas.reader(schemas.JobRunsQuery)


class Jobs:
    """Register versions of jobs."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("registerJob", body=schemas.JobBody, answer=schemas.Job)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Register a version of a job.

        The alias `latest`, and with it the job's dispatcher, goes to the highest version by semver.org: an older one that
        comes later changes neither, the same one again is taken as corrected.
        """
        environment = self._door.enter(request)
        body = schemas.parse_job(body_of(request, self._most))
        with db.unit():
            answer(response, jobs.register_job(environment, body))


class JobRuns:
    """The runs of a job."""

    cors = True

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("listJobRuns", query=schemas.JobRunsQuery, answer=schemas.JobRuns)
    def on_get(self, request: falcon.Request, response: falcon.Response, job: str) -> None:
        """List the runs of a job, newest first."""
        environment = self._door.enter(request)
        query = _runs_query(query_of(request))
        with db.unit():
            found = runs.list_job_runs(environment, job, cursor=query.cursor, limit=query.take)
            answer(response, schemas.job_runs(found))

    on_head = on_get


class DynamicTrigger:
    """One trigger, many jobs."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("putDynamicTrigger", body=schemas.DynamicTriggerBody, answer=schemas.DynamicTrigger)
    def on_put(self, request: falcon.Request, response: falcon.Response, slug: str) -> None:
        """Make a dynamic trigger, or give it other jobs.

        A dispatcher that sets it off starts one run of each of its jobs.
        """
        environment = self._door.enter(request)
        body = schemas.parse_dynamic_trigger(body_of(request, self._most))
        with db.unit():
            answer(response, jobs.put_dynamic_trigger(environment, slug, body))
