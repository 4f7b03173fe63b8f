"""One example of each body and each answer: the story of a paid order that is to be shipped."""

from __future__ import annotations

from typing import Any, Final

from kongflow_events.schemas import answers, ledger, refusals, requests, statistics

EVENT: Final = "order-1"
JOB: Final = "ship-order"
TRIGGER: Final = "order-events"
DISPATCHER: Final = "01977d2c-5c00-7a11-8f04-2d6a1c9be001"
JOB_VERSION: Final = "01977d2c-5c00-7a11-8f04-2d6a1c9be002"
DYNAMIC_TRIGGER: Final = "01977d2c-5c00-7a11-8f04-2d6a1c9be003"
RUN: Final = "01977d2c-5c00-7a11-8f04-2d6a1c9be004"
INVOCATION: Final = "01977d2c-5c00-7a11-8f04-2d6a1c9be005"
REDRIVE: Final = "1"
REPLAY: Final = "2"
_CURSOR: Final = "AZd9LFwAehGPBC1qHJvgAQ"

_FILTER: Final = {"amount": [{"$gt": 10}], "currency": ["EUR", "USD"]}
_PAYLOAD: Final = {"amount": 42, "currency": "EUR"}

_EVENT: Final[dict[str, Any]] = {
    "id": EVENT,
    "name": "order.paid",
    "payload": _PAYLOAD,
    "context": {},
    "timestamp": "2026-06-17T09:30:00.000Z",
    "deliverAt": "2026-06-17T09:30:00.120Z",
    "deliveredAt": None,
    "cancelledAt": None,
}
_DISPATCHER: Final[dict[str, Any]] = {
    "id": DISPATCHER,
    "event": ["order.paid"],
    "source": "trigger.dev",
    "payloadFilter": _FILTER,
    "contextFilter": None,
    "dispatchable": {"type": "JOB_VERSION", "id": JOB_VERSION},
    "dispatchableId": "large-orders",
    "enabled": True,
    "manual": False,
    "accountId": None,
    "oneShot": False,
    "expiresAt": None,
    "target": None,
    "createdAt": "2026-06-17T09:00:00.000Z",
    "updatedAt": "2026-06-17T09:00:00.000Z",
    "warnings": [],
}
_RUN: Final[dict[str, Any]] = {"id": RUN, "status": "PENDING", "startedAt": None, "completedAt": None}
_UPDATED: Final = {"updatedAt": "2026-06-17T09:30:00.200Z"}

_INVOCATION: Final[dict[str, Any]] = {
    "id": INVOCATION,
    "eventId": EVENT,
    "eventName": "order.paid",
    "dispatcherId": DISPATCHER,
    "dispatcherEvent": "order.paid",
    "dispatchable": {"type": "WEBHOOK", "url": "https://shop.example.com/hooks", "format": "event"},
    "replay": None,
    "status": "DEAD",
    "reason": "the target answered 500",
    "attempts": 10,
    "redrives": 0,
    "errorClass": "refused",
    "lastError": "the target answered 500",
    "createdAt": "2026-06-17T09:30:00.180Z",
    "completedAt": "2026-06-18T03:12:45.010Z",
    "nextAttemptAt": None,
}
_LISTED: Final = {
    "source": "trigger.dev",
    "payloadType": "JSON",
    "accountId": "acme",
    "createdAt": "2026-06-17T09:30:00.120Z",
    "state": "delivered",
}
_STATISTICS: Final[dict[str, Any]] = {
    "since": "2026-06-17T09:00:00.000Z",
    "seconds": 1800.0,
    "slots": [
        {
            "at": "2026-06-17T09:00:00.000Z",
            "received": 120,
            "delivered": 118,
            "invocations": 236,
            "failed": 3,
            "dead": 1,
        },
        {"at": "2026-06-17T09:30:00.000Z", "received": 97, "delivered": 97, "invocations": 194, "failed": 0, "dead": 0},
    ],
}
_ATTEMPT: Final = {
    "round": 0,
    "number": 10,
    "startedAt": "2026-06-18T03:12:44.800Z",
    "durationMs": 210,
    "outcome": "refused",
    "statusCode": 500,
    "error": "the target answered 500",
    "answer": "Internal Server Error",
    "requestHeaders": {
        "X-Shop": "eu",
        "Content-Type": "application/json; charset=utf-8",
        "webhook-id": INVOCATION,
        "webhook-timestamp": "1781752364",
        "webhook-signature": "***",
    },
}
_PROGRESS: Final = {
    "state": "RUNNING",
    "rate": 200,
    "total": 1000,
    "seen": 400,
    "done": 400,
    "lastError": None,
    "createdAt": "2026-06-18T08:00:00.000Z",
    "finishedAt": None,
}
_REDRIVE: Final[dict[str, Any]] = {
    "id": REDRIVE,
    **_PROGRESS,
    "of": "invocations",
    "dispatcher": None,
    "name": "order.paid",
    "errorClass": "refused",
    "since": "2026-06-18T00:00:00.000Z",
    "until": None,
}
_REPLAY: Final[dict[str, Any]] = {
    "id": REPLAY,
    **_PROGRESS,
    "since": "2026-06-17T00:00:00.000Z",
    "until": "2026-06-18T00:00:00.000Z",
    "eventId": None,
    "name": "order.paid",
    "source": None,
    "account": None,
    "filter": {"amount": [{"$gt": 10}]},
    "contextFilter": None,
    "dispatchers": [DISPATCHER],
}

BODIES: Final[dict[Any, Any]] = {
    requests.SendBody: {
        "event": {"id": EVENT, "name": "order.paid", "payload": _PAYLOAD},
        "options": {"accountId": "acme"},
    },
    requests.BulkBody: {
        "events": [
            {"id": EVENT, "name": "order.paid", "payload": _PAYLOAD},
            {"id": "order-2", "name": "order.paid", "payload": {"amount": 7, "currency": "USD"}},
        ],
        "options": {"deliverAfter": 60},
    },
    requests.EphemeralBody: {
        "url": "https://shop.example.com/callbacks/payment-1",
        "name": "payment.done",
        "filter": {"orderId": [EVENT]},
        "timeoutInSeconds": 3600,
    },
    requests.DispatcherBody: {
        "event": "order.paid",
        "payloadFilter": _FILTER,
        "dispatchable": {"type": "JOB_VERSION", "id": JOB_VERSION},
        "dispatchableId": "large-orders",
    },
    requests.RotationBody: {"overlapInSeconds": 3600},
    requests.DispatcherChange: {"enabled": False, "payloadFilter": None},
    requests.ExplainBody: {"event": {"name": "order.paid", "payload": {"amount": 5, "currency": "EUR"}}},
    requests.JobBody: {
        "id": JOB,
        "name": "Ship an order",
        "version": "1.0.0",
        "trigger": {"event": "order.paid", "filter": _FILTER},
    },
    requests.DynamicTriggerBody: {"jobs": [JOB]},
    ledger.RedriveBody: {"name": "order.paid", "errorClass": "refused", "since": "2026-06-18T00:00:00Z", "rate": 200},
    ledger.ReplayBody: {
        "since": "2026-06-17T00:00:00Z",
        "until": "2026-06-18T00:00:00Z",
        "name": "order.paid",
        "filter": {"amount": [{"$gt": 10}]},
        "dispatchers": [DISPATCHER],
    },
}

ANSWERS: Final[dict[Any, Any]] = {
    answers.EventLog: _EVENT,
    answers.SentAnswer: _EVENT,
    list[answers.EventLog]: [_EVENT, {**_EVENT, "id": "order-2", "payload": {"amount": 7, "currency": "USD"}}],
    answers.EventPage: {"data": [{**_EVENT, **_LISTED}], "nextCursor": _CURSOR},
    statistics.Statistics: _STATISTICS,
    answers.Event: {
        "id": EVENT,
        "name": "order.paid",
        "createdAt": "2026-06-17T09:30:00.120Z",
        **_UPDATED,
        "runs": [_RUN],
    },
    answers.CancelledRuns: {"cancelledRunIds": [RUN], "failedToCancelRunIds": []},
    answers.Dispatcher: _DISPATCHER,
    answers.DispatcherPage: {"data": [_DISPATCHER], "nextCursor": None},
    answers.DispatcherId: {"id": DISPATCHER},
    answers.NewSecret: {
        "dispatcherId": DISPATCHER,
        "signing": {"kind": "hmac", "publicKey": None},
        "secret": "whsec_YSBzZWNyZXQgb2YgYXQgbGVhc3QgdHdlbnR5LWZvdXI=",
        "othersUntil": "2026-06-17T10:30:00.000Z",
    },
    answers.Explanation: {
        "dispatcherId": DISPATCHER,
        "eventId": None,
        "matches": False,
        "reasons": [{"code": "payloadFilter", "message": "payload.amount: $gt 10 does not hold for 5"}],
        "payloadFilter": {
            "filter": "payloadFilter",
            "at": "payload",
            "test": "all of",
            "holds": False,
            "kind": "object",
            "checks": [
                {
                    "filter": "payloadFilter.amount[0].$gt",
                    "at": "payload.amount",
                    "test": "$gt",
                    "holds": False,
                    "kind": "number",
                    "expected": 10,
                    "value": 5,
                },
                {
                    "filter": "payloadFilter.currency",
                    "at": "payload.currency",
                    "test": "one of",
                    "holds": True,
                    "kind": "string",
                    "expected": ["EUR", "USD"],
                    "value": "EUR",
                },
            ],
        },
        "contextFilter": None,
        "invocation": None,
    },
    answers.Job: {
        "id": JOB,
        "name": "Ship an order",
        "version": "1.0.0",
        "versionId": JOB_VERSION,
        "latest": "1.0.0",
        "dispatcherId": DISPATCHER,
        "warnings": [],
    },
    answers.DynamicTrigger: {"id": TRIGGER, "triggerId": DYNAMIC_TRIGGER, "jobs": [JOB]},
    answers.JobRuns: {"runs": [{**_RUN, **_UPDATED}]},
    answers.Run: {**_RUN, **_UPDATED, "output": None, "tasks": [], "statuses": []},
    answers.RunStatuses: {"run": {"id": RUN, "status": "PENDING", "output": None}, "statuses": []},
    ledger.InvocationPage: {"data": [_INVOCATION], "nextCursor": None},
    ledger.InvocationDetail: {**_INVOCATION, "attemptList": [_ATTEMPT]},
    ledger.Redrive: _REDRIVE,
    ledger.RedrivePage: {"data": [_REDRIVE], "nextCursor": None},
    ledger.RedrivePreview: {"total": 1000},
    ledger.Replay: _REPLAY,
    ledger.ReplayPage: {"data": [_REPLAY], "nextCursor": None},
    ledger.ReplayPreview: {"total": 1000, "sampled": 1000, "passing": 870, "invocations": 870},
    answers.Alive: {"status": "ok"},
    answers.Ready: {
        "ready": True,
        "checks": {"database": "ok", "schema": "ok", "relay": "ok"},
        "relayAgeSeconds": 0.4,
    },
    answers.Exposition: '# TYPE kongflow_events_total counter\nkongflow_events_total{outcome="new"} 42.0\n',
    answers.Html: '<!doctype html><html lang="en">…</html>',
    answers.Css: "body { margin: 0 }",
    dict[str, Any]: {"openapi": "3.1.0", "info": {"title": "KongFlow Events", "version": "0.1.0"}, "paths": {}},
    refusals.Breach: {
        "error": "Code: invalid_type ~ Path: event.name ~ Message: Required",
        "message": "Code: invalid_type ~ Path: event.name ~ Message: Required",
        "issues": [{"code": "invalid_type", "path": "event.name", "message": "Required"}],
    },
    refusals.RateLimited: {
        "title": "Too Many Requests",
        "status": 429,
        "type": "about:blank",
        "detail": "Too many requests with this API key: 0 of 750 left, try again in 4 s",
        "reset": 1781688604000,
        "limit": 750,
        "remaining": 0,
        "secondsUntilReset": 4,
        "error": "Too many requests with this API key: 0 of 750 left, try again in 4 s",
    },
    refusals.Unforeseen: {"error": "Internal Server Error", "requestId": "6f1c8a1e5d0b4d6b9f3e2a7c4b5d8e90"},
}
