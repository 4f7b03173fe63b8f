"""How a web process leaves: it says so while it still serves, so that a proxy has sent its requests elsewhere by the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import falcon


class Leave:
    """Every answer of a process that is leaving closes its connection: the next request on it would come too late."""

    def __init__(self, is_leaving: Callable[[], bool]) -> None:
        self._is_leaving = is_leaving

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Tell the resource."""
        request.context.leaving = self._is_leaving()

    def process_response(
        self, _request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Tell the client; by now, for a request may take a while."""
        if self._is_leaving():
            response.set_header("Connection", "close")


def on_sigterm(seconds: float) -> Callable[[], bool]:
    """From SIGTERM on serve for `seconds` more, and only then stop the server; returns whether that has begun.

    To be called in the main thread, when the server has its own handlers, which this takes the place of. The server, which
    would refuse connections at once, gets SIGINT when the time is over; it takes both alike. SIGINT from outside stops it
    at once, as does SIGTERM when the time is zero.
    """
    leaving = threading.Event()
    if not seconds:
        return leaving.is_set

    def leave(_signal: int, _frame: object) -> None:
        if not leaving.is_set():
            leaving.set()
            timer = threading.Timer(seconds, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
            timer.daemon = True
            timer.start()

    signal.signal(signal.SIGTERM, leave)
    return leaving.is_set
