"""A reverse proxy, as the README asks for in front of the API.

It buffers: a request goes on when all of it is there. It asks each process whether it is ready, prefers those that are, and
sends a request that found its connection refused, or closed before there was an answer, to the next.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import urllib3

from faults.machines import Every

_KEPT = ("Content-Type", "Retry-After")
# Seconds between two looks at who is ready, and that a look may take.
_LOOK, _LONGEST_LOOK = 0.25, 2.0


class _Process:
    """One process behind the proxy."""

    def __init__(self, port: int) -> None:
        self._pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=32, retries=False, timeout=10)
        self.ready = True
        self._looking = Every(_LOOK, self.look)

    def __enter__(self) -> Self:
        self._looking.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._looking.__exit__()

    def ask(self, path: str, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Its answer; raises HTTPError."""
        return self._pool.request("POST", path, body=body, headers=headers)

    def look(self) -> None:
        """Ask it whether it is ready."""
        try:
            self.ready = self._pool.request("GET", "/readyz", timeout=_LONGEST_LOOK).status == 200
        except urllib3.exceptions.HTTPError:
            self.ready = False


class Buffering:
    """Listens on a loopback port, in threads, before the processes at `ports`; use as a context manager.

    `sent_on` counts the requests that were sent to another process, by what they had met.
    """

    def __init__(self, *ports: int) -> None:
        self._processes = [_Process(port) for port in ports]
        self._turn = itertools.count()
        self.sent_on: Counter[str] = Counter()
        self._server = self._make_server()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        for process in self._processes:
            process.__enter__()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for process in self._processes:
            process.__exit__()

    def all_ready(self) -> bool:
        """Whether every process is ready, asked now: one that was at the last look may have been stopped since."""
        for process in self._processes:
            process.look()
        return all(process.ready for process in self._processes)

    def request(self, path: str, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The first answer that a process gives; raises HTTPError when none does, or when one takes too long over it."""
        *earlier, last = self._in_turn()
        for process in earlier:
            try:
                return process.ask(path, body, headers)
            except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ProtocolError) as error:
                self.sent_on[type(error).__name__] += 1
        return last.ask(path, body, headers)

    def _in_turn(self) -> list[_Process]:
        """Those that are ready, a different one first each time; then the others."""
        start = next(self._turn) % len(self._processes)
        turned = self._processes[start:] + self._processes[:start]
        return sorted(turned, key=lambda process: not process.ready)

    def _make_server(self) -> ThreadingHTTPServer:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return
                answer = front.request(self.path, body, dict(self.headers.items()))
                self.send_response(answer.status)
                for name in _KEPT:
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(answer.data)))
                self.end_headers()
                self.wfile.write(answer.data)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: object) -> None:
                """Clients that go away are what this is for."""

        return Server(("127.0.0.1", 0), Handler)
