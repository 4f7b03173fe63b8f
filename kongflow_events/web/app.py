"""The wiring diagram of the HTTP door: what this service can do, on one screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon

from kongflow_events import console, limits, settings
from kongflow_events.web import (
    accounts,
    bulk,
    dispatchers,
    docs,
    events,
    failures,
    health,
    jobs,
    leave,
    ledger,
    metrics,
    middleware,
    runs,
    statistics,
)
from kongflow_events.web.operations import Route
from kongflow_events.web.requests import Door


def create_app(current: settings.Settings, is_leaving: Callable[[], bool] = lambda: False) -> falcon.App[Any, Any]:
    """The WSGI application. The store has to be connected before its first request.

    `is_leaving` says whether this process is about to stop.
    """
    app: falcon.App[Any, Any] = falcon.App(
        middleware=[
            middleware.RequestId(),
            accounts.Accounts(current.slow_request),
            middleware.Cors(),
            middleware.Nowhere(),
            middleware.Limits(),
            leave.Leave(is_leaving),
        ]
    )
    app.set_error_serializer(failures.serialize)
    failures.handle_all(app)
    for path, resource in routes(current):
        app.add_route(path, resource)
    console.mount(app)
    return app


def routes(current: settings.Settings) -> list[Route]:
    """Every path and who answers there: what the router and the document of the API are made from."""
    limit = limits.of_keys(current)
    key = Door(limit)
    key_spelt = Door(limit, refusal="Invalid or Missing API Key")
    reader = Door(limit, public_allowed=True)
    run_reader = Door(limit, public_allowed=True, refusal="Invalid or Missing API Key")
    table: list[Route] = [
        ("/api/v1/events", events.Events(key, current)),
        ("/api/v1/events/bulk", events.Bulk(key, current)),
        ("/api/v1/events/{event_id}", events.Event(reader, 1)),
        ("/api/v2/events/{event_id}", events.Event(reader, 2)),
        ("/api/v1/events/{event_id}/cancel", events.Cancel(key)),
        ("/api/v1/events/{event_id}/cancel-runs", events.CancelRuns(key)),
        ("/api/v1/events/{event_id}/redrive", ledger.RedriveEvent(key)),
        ("/api/v1/events/{event_id}/dismiss", ledger.DismissEvent(key)),
        ("/api/v1/invocations", ledger.Invocations(key)),
        ("/api/v1/invocations/{invocation_id}", ledger.Invocation(key)),
        ("/api/v1/invocations/{invocation_id}/redrive", ledger.RedriveOne(key)),
        ("/api/v1/invocations/{invocation_id}/dismiss", ledger.DismissOne(key)),
        ("/api/v1/redrives", bulk.Redrives(key, current)),
        ("/api/v1/redrives/preview", bulk.RedrivePreview(key, current)),
        ("/api/v1/redrives/{redrive_id}", bulk.Redrive(key)),
        ("/api/v1/redrives/{redrive_id}/cancel", bulk.CancelRedrive(key)),
        ("/api/v1/replays", bulk.Replays(key, current)),
        ("/api/v1/replays/preview", bulk.ReplayPreview(key, current)),
        ("/api/v1/replays/{replay_id}", bulk.Replay(key)),
        ("/api/v1/replays/{replay_id}/cancel", bulk.CancelReplay(key)),
        ("/api/v1/event-dispatchers", dispatchers.Dispatchers(key, current)),
        ("/api/v1/event-dispatchers/ephemeral", dispatchers.Ephemeral(key_spelt, current)),
        ("/api/v1/event-dispatchers/{dispatcher_id}", dispatchers.Dispatcher(key, current)),
        ("/api/v1/event-dispatchers/{dispatcher_id}/explain", dispatchers.Explain(key, current)),
        ("/api/v1/event-dispatchers/{dispatcher_id}/secret/rotate", dispatchers.RotateSecret(key, current)),
        ("/api/v1/event-dispatchers/{dispatcher_id}/test", dispatchers.Probe(key)),
        ("/api/v1/jobs", jobs.Jobs(key_spelt, current)),
        ("/api/v1/jobs/{job}/runs", jobs.JobRuns(key_spelt)),
        ("/api/v1/dynamic-triggers/{slug}", jobs.DynamicTrigger(key_spelt, current)),
        ("/api/v1/runs/{run_id}", runs.Run(run_reader, 1)),
        ("/api/v2/runs/{run_id}", runs.Run(run_reader, 2)),
        ("/api/v2/runs/{run_id}/statuses", runs.Statuses(run_reader)),
        ("/api/v1/runs/{run_id}/cancel", runs.Cancel(key_spelt)),
        ("/api/v1/statistics", statistics.Statistics(key)),
        ("/healthz", health.Alive()),
        ("/readyz", health.Ready()),
        ("/metrics", metrics.Metrics(current)),
    ]
    return [*table, *docs.routes(table)]
