"""`/healthz` for whoever restarts processes, `/readyz` for whoever sends them requests."""

from __future__ import annotations

import falcon

from kongflow_events.services import health
from kongflow_events.web.requests import answer


class Alive:
    """This process answers."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:  # noqa: ARG002 - Falcon's
        """Say so, without looking at anything else."""
        answer(response, {"status": "ok"})

    on_head = on_get


class Ready:
    """This service can do its work."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:  # noqa: ARG002 - Falcon's
        """Look at everything it needs; 503 with what is missing."""
        found = health.readiness()
        response.status = 200 if found.ready else 503
        answer(response, {"ready": found.ready, "checks": found.checks, "relayAgeSeconds": found.relay_age})

    on_head = on_get
