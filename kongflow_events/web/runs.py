"""`/api/v{1,2}/runs`: runs are read and cancelled here, always within the key's environment."""

from __future__ import annotations

import falcon

from kongflow_events import schemas
from kongflow_events.services import runs
from kongflow_events.store import db
from kongflow_events.web.operations import operation
from kongflow_events.web.requests import Door, answer


class Run:
    """One run."""

    cors = True

    def __init__(self, door: Door, version: int) -> None:
        self._door = door
        self._version = version

    @operation("getRun", answer=schemas.Run)
    def on_get(self, request: falcon.Request, response: falcon.Response, run_id: str) -> None:
        """Look at a run."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, schemas.run(runs.get_run(environment, run_id), self._version))

    on_head = on_get


class Statuses:
    """The statuses that a run reports of itself."""

    cors = True

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("getRunStatuses", answer=schemas.RunStatuses)
    def on_get(self, request: falcon.Request, response: falcon.Response, run_id: str) -> None:
        """Look at what a run reports of itself."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, schemas.run_statuses(runs.get_run(environment, run_id)))

    on_head = on_get


class Cancel:
    """Cancel a run."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("cancelRun", answer=schemas.Run)
    def on_post(self, request: falcon.Request, response: falcon.Response, run_id: str) -> None:
        """Cancel a run.

        One that has ended stays as it is. The body is not looked at.
        """
        environment = self._door.enter(request)
        with db.unit():
            answer(response, schemas.run(runs.cancel_run(environment, run_id), 2))
