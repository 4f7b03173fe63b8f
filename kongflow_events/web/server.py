"""The server of the web processes: uvicorn, with what it leaves to a proxy in front of it.

A master binds the port and keeps its workers alive; each of them is `web/asgi.py`.
"""

from __future__ import annotations

import argparse
import asyncio
from asyncio import TimerHandle
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

# Bytes of a request's line and headers, and seconds in which they have to come.
_LARGEST_HEAD: Final = 65_536
_SLOWEST_HEAD: Final = 30.0
# Seconds that a connection is kept while nothing comes on it: longer than proxies keep theirs, who would else send on one
# that is just being closed.
_KEPT: Final = 75
# Seconds that requests get to end when the process is to stop, after it has said so for as long as the setting wants.
_LAST: Final = 20
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """A connection; one whose next request does not get to the end of its headers in good time, or bytes, is closed."""

    _in_head = True
    _head = 0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """It is there."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come, which may be the beginning of a request, or all of several."""
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if not self._in_head or not self._head or self.transport.is_closing():
            return
        if self._head > _LARGEST_HEAD:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._timer is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        self._stop_waiting()
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is complete."""
        super().on_message_complete()
        self._in_head, self._head = True, 0

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(_SLOWEST_HEAD, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def serve(host: str, port: int, workers: int, log_level: str = "info") -> None:
    """Serve with so many workers until SIGTERM or SIGINT; one that dies is replaced. A taken port ends the process."""
    config = uvicorn.Config(
        "kongflow_events.web.asgi:app",
        host=host,
        port=port,
        workers=workers,
        http=Protocol,
        loop="uvloop",
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        log_level=log_level,
        access_log=False,
        # The console has its own rules for whom to believe.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEPT,
        timeout_graceful_shutdown=_LAST,
    )
    Multiprocess(config, sockets=[config.bind_socket()]).run()


if __name__ == "__main__":
    # Of `kongflow-events dev`, whose terminal is for people; whoever lists processes sees whose port it has.
    _parser = argparse.ArgumentParser()
    _parser.add_argument("--port", type=int, required=True)
    serve("127.0.0.1", _parser.parse_args().port, 1, "error")
