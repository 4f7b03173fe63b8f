"""The receiver of the service's calls, a process of its own: answers as its path says, and writes down every call.

    python -m faults.sink FILE SECRET      prints its port, then serves

The first segment of a call's path is how it is answered; `/switched/…` is answered as `PUT /mode/NAME` said last. One
JSON line for each call: `id` (webhook-id), `hash` (of the body), `at`, `path`, `mode`, `status` (0: no answer), and
`verified`: whether the Standard Webhooks library takes it, which is told the secret and nothing else.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

# Seconds that a call to /slow takes, and one to /hang; far beyond every deadline of the harness's service.
SLOW, _HANG = 1.0, 60.0
# Bytes of an answer that would never end.
_HUGE = 10 * 1024**3


class Sink(ThreadingHTTPServer):
    """The server, its mode for `/switched`, and the file."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, path: str, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode = "ok"
        self.webhook = Webhook(secret)
        self._output = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the process
        self._lock = threading.Lock()

    def write(self, line: dict[str, Any]) -> None:
        """Add a line to the file."""
        with self._lock:
            self._output.write(json.dumps(line) + "\n")
            self._output.flush()

    def handle_error(self, *_: object) -> None:
        """Callers that go away are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Sink

    def do_PUT(self) -> None:
        self.server.mode = self.path.rpartition("/")[2]
        _status(self, 200)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # Its caller went away in the middle of it, at a deadline or for good: it is no call.
            self.close_connection = True
            return
        segment = self.path.split("/")[1]
        mode = self.server.mode if segment == "switched" else segment
        call = {
            "id": self.headers.get("webhook-id"),
            "hash": hashlib.sha256(body).hexdigest()[:16],
            "at": time.time(),
            "path": self.path,
            "mode": mode,
            "status": _STATUSES.get(mode, 0),
            "verified": self._is_verified(body),
        }
        # Before the answer: what was answered is then always written down.
        self.server.write(call)
        with contextlib.suppress(OSError):
            _ANSWERS[mode](self)

    def log_message(self, *_: object) -> None:
        pass

    def _is_verified(self, body: bytes) -> bool:
        try:
            self.server.webhook.verify(body, dict(self.headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            return False
        return True


def _status(handler: _Handler, code: int, **headers: str) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"ok")


def _slow(handler: _Handler) -> None:
    time.sleep(SLOW)
    _status(handler, 200)


def _hang(handler: _Handler) -> None:
    time.sleep(_HANG)
    handler.close_connection = True


def _drip(handler: _Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(int(_HANG)):
        handler.wfile.write(b"X-Drop-%d: x\r\n" % number)
        time.sleep(0.5)


def _huge(handler: _Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(_HUGE))
    handler.end_headers()
    for _ in range(_HUGE // 65_536):
        handler.wfile.write(b"x" * 65_536)


def _gzip(handler: _Handler) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(bomb)))
    handler.end_headers()
    handler.wfile.write(bomb)


def _nul(handler: _Handler) -> None:
    handler.send_response(500)
    handler.send_header("Content-Length", "5")
    handler.end_headers()
    handler.wfile.write(b"a\0\xff\xed\xa0")


def _reset(handler: _Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


_ANSWERS: dict[str, Callable[[_Handler], None]] = {
    "ok": lambda handler: _status(handler, 200),
    "500": lambda handler: _status(handler, 500),
    "429": lambda handler: _status(handler, 429, Retry_After="2"),
    "410": lambda handler: _status(handler, 410),
    "301": lambda handler: _status(handler, 301, Location="/ok/followed"),
    "slow": _slow,
    "hang": _hang,
    "drip": _drip,
    "huge": _huge,
    "gzip": _gzip,
    "nul": _nul,
    "reset": _reset,
}
_STATUSES = {
    "ok": 200,
    "500": 500,
    "429": 429,
    "410": 410,
    "301": 301,
    "slow": 200,
    "huge": 200,
    "gzip": 200,
    "nul": 500,
}


def main() -> None:
    """Serve until killed."""
    sink = Sink(*sys.argv[1:])
    print(sink.server_port, flush=True)
    sink.serve_forever()


if __name__ == "__main__":
    main()
