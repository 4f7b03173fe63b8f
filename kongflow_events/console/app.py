"""Every page of the console and who answers there, on one screen."""

from __future__ import annotations

from typing import Any, Final

import falcon

from kongflow_events import errors
from kongflow_events.console import (
    audit,
    dead,
    dispatchers,
    door,
    event,
    events,
    keys,
    overview,
    places,
    runs,
    sign_in,
    static,
)
from kongflow_events.console.visits import ROOT

Route = tuple[str, Any]

_ENVIRONMENT: Final = f"{ROOT}/env/{{environment_id}}"


def mount(app: falcon.App[Any, Any]) -> None:
    """Have `app` answer at `/console`. The store's readers have to be connected before the first page."""
    for path, resource in routes():
        app.add_route(path, resource)
    app.add_sink(_nowhere, ROOT)


def routes() -> list[Route]:
    """Every path."""
    return [
        ("/", places.Host()),
        (ROOT, places.First()),
        (f"{ROOT}/environments", places.Environments()),
        (f"{ROOT}/sign-in", sign_in.SignIn()),
        (f"{ROOT}/sign-out", sign_in.SignOut()),
        (f"{ROOT}/link/{{token}}", sign_in.Link()),
        (f"{ROOT}/theme", sign_in.Theme()),
        (f"{ROOT}/static/{{name}}", static.Static()),
        *((f"{_ENVIRONMENT}/{path}", resource) for path, resource in _pages()),
    ]


def _pages() -> list[Route]:
    """The pages of one environment, by what stands behind it in their paths."""
    return [
        ("overview", overview.Overview()),
        ("overview/live", overview.Live()),
        ("events", events.Events()),
        ("events/{record_id}", event.Event()),
        ("events/{record_id}/cancel", event.Cancel()),
        ("events/{record_id}/cancel-runs", event.CancelRuns()),
        ("events/{record_id}/replay", event.Replay()),
        ("events/{record_id}/redrive", event.Redrive()),
        ("events/{record_id}/dismiss", event.Dismiss()),
        ("events/{record_id}/invocations/{invocation_id}/redrive", event.RedriveInvocation()),
        ("events/{record_id}/invocations/{invocation_id}/dismiss", event.DismissInvocation()),
        ("dispatchers", dispatchers.Dispatchers()),
        ("dispatchers/{dispatcher_id}", dispatchers.Dispatcher()),
        ("dispatchers/{dispatcher_id}/enable", dispatchers.Enable()),
        ("dispatchers/{dispatcher_id}/disable", dispatchers.Disable()),
        ("dispatchers/{dispatcher_id}/pause", dispatchers.Pause()),
        ("dispatchers/{dispatcher_id}/resume", dispatchers.Resume()),
        ("dispatchers/{dispatcher_id}/explain", dispatchers.Explain()),
        ("dispatchers/{dispatcher_id}/test", dispatchers.Probe()),
        ("dispatchers/{dispatcher_id}/rotate-secret", dispatchers.RotateSecret()),
        ("dead", dead.DeadLetters()),
        ("dead/redrive-one", dead.RedriveOne()),
        ("dead/dismiss-one", dead.DismissOne()),
        ("dead/redrive", dead.RedriveMany()),
        ("dead/redrives/{redrive_id}", dead.Redrive()),
        ("dead/redrives/{redrive_id}/progress", dead.RedriveProgress()),
        ("dead/redrives/{redrive_id}/stop", dead.StopRedrive()),
        ("runs", runs.Runs()),
        ("runs/{run_id}", runs.Run()),
        ("runs/{run_id}/cancel", runs.CancelRun()),
        ("keys", keys.Keys()),
        ("keys/create", keys.CreateKey()),
        ("keys/{key_id}/revoke", keys.RevokeKey()),
        ("audit", audit.Audit()),
    ]


def _nowhere(req: falcon.Request, resp: falcon.Response, **_: str) -> None:
    with door.telling(req, resp):
        raise errors.NotFound("There is no such page")
