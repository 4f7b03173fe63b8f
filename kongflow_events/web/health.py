"""`/healthz` for whoever restarts processes, `/readyz` for whoever sends them requests."""

from __future__ import annotations

import falcon

from kongflow_events import schemas
from kongflow_events.services import health
from kongflow_events.web.operations import operation
from kongflow_events.web.requests import answer


class Alive:
    """This process answers."""

    @operation("getHealth", answer=schemas.Alive)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:  # noqa: ARG002 - Falcon's
        """Ask whether this process answers.

        Nothing else is looked at: this is for whoever restarts processes.
        """
        answer(response, schemas.Alive())

    on_head = on_get


class Ready:
    """This service can do its work."""

    @operation("getReadiness", answer=schemas.Ready, others={503: schemas.Ready})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Ask whether the service can do its work.

        The database has to answer, its schema to be this version's, and a relay to tick: this is for whoever sends
        requests here. A 503 says what is missing, or that this process is about to stop.
        """
        found = health.readiness()
        leaving = {"process": "stopping"} if request.context.leaving else {}
        ready = found.ready and not leaving
        response.status = 200 if ready else 503
        answer(response, schemas.Ready(ready, found.checks | leaving, found.relay_age))

    on_head = on_get
