"""The account of every request: counted by its route, and said in the log when it failed or took long."""

from __future__ import annotations

import logging
import time
from functools import partial
from http import HTTPStatus
from typing import Final

import falcon
import structlog

from kongflow_events import metrics, traces
from kongflow_events.console import door

log = structlog.get_logger(__name__)

# For what no route was found, and for methods that HTTP does not have: strangers can make up as many as they like.
_NONE: Final = "none"
_METHODS: Final = frozenset(falcon.HTTP_METHODS)
# What machines ask every few seconds, whatever they are told.
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class Accounts:
    """Counts every request when it has its answer; one that took `slow` seconds is said whatever came of it."""

    def __init__(self, slow: float) -> None:
        self._slow = slow

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """It begins."""
        request.context.began = time.perf_counter()
        traces.receive(request.get_header("traceparent"))

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """It ends."""
        seconds = time.perf_counter() - request.context.began
        route = request.uri_template or _NONE
        method = request.method if request.method in _METHODS else _NONE
        metrics.REQUESTS.add(route, method, str(response.status_code))
        metrics.REQUEST_SECONDS.note(seconds, route)
        level = self._level(route, response.status_code, seconds)
        if not log.is_enabled_for(level):
            return
        say = partial(log.log, level)
        say(
            "request",
            method=method,
            path=door.shown_path(request),
            status=response.status_code,
            ms=round(seconds * 1000, 1),
        )

    def _level(self, route: str, status: int, seconds: float) -> int:
        if route in _PROBES:
            return logging.DEBUG
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return logging.WARNING
        return logging.INFO if status >= HTTPStatus.BAD_REQUEST or seconds >= self._slow else logging.DEBUG
