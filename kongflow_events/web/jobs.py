"""`/api/v1/jobs` and `/api/v1/dynamic-triggers`: what upstream's indexing registered."""

from __future__ import annotations

import falcon

from kongflow_events import schemas, settings
from kongflow_events.services import jobs, runs
from kongflow_events.store import db
from kongflow_events.web.requests import Door, answer, body_of, query_of

# Upstream's page size for runs, and its largest.
_RUNS, _MOST_RUNS = 20, 50


class Jobs:
    """Register versions of jobs."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Register one."""
        environment = self._door.enter(request)
        body = schemas.parse_job(body_of(request, self._most))
        with db.unit():
            answer(response, jobs.register_job(environment, body))


class JobRuns:
    """The runs of a job."""

    cors = True

    def __init__(self, door: Door) -> None:
        self._door = door

    def on_get(self, request: falcon.Request, response: falcon.Response, job: str) -> None:
        """List, newest first, in upstream's form."""
        environment = self._door.enter(request)
        query = query_of(request)
        cursor, limit = query.cursor(), query.limit("take", _RUNS, _MOST_RUNS)
        query.check()
        with db.unit():
            page = schemas.page(runs.list_job_runs(environment, job, cursor=cursor, limit=limit), schemas.job_run)
            answer(response, {"runs": page.data, **({"nextCursor": page.next_cursor} if page.next_cursor else {})})

    on_head = on_get


class DynamicTrigger:
    """One trigger, many jobs."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    def on_put(self, request: falcon.Request, response: falcon.Response, slug: str) -> None:
        """Make it, or give it other jobs."""
        environment = self._door.enter(request)
        body = schemas.parse_dynamic_trigger(body_of(request, self._most))
        with db.unit():
            answer(response, jobs.put_dynamic_trigger(environment, slug, body))
