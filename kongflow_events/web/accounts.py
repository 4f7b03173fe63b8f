"""The account of every request: counted by its route, and said in the log when it failed or took long."""

from __future__ import annotations

import time
from typing import Final

import falcon

from kongflow_events import metrics, traces

# For what no route was found, and for methods that HTTP does not have: strangers can make up as many as they like.
_NONE: Final = "none"
_METHODS: Final = frozenset(falcon.HTTP_METHODS)


class Accounts:
    """Counts every request when it has its answer."""

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
