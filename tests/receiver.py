"""A receiver of the service's calls: a real HTTP server on loopback that remembers what it got and answers as told."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self


class Call(NamedTuple):
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


Answering = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, **headers: str) -> Answering:
    """Answer with a status, headers (underscores for dashes), and a short body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"ok")

    return answer


def drip(where: str) -> Answering:
    """Answer a byte at a time, in the headers or in the body, for longer than anybody should wait."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 1000\r\n\r\n" if where == "body" else b"")
        handler.wfile.write(start)
        for _ in range(200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Answer with ten gigabytes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(10 * 2**30))
    handler.end_headers()
    for _ in range(10 * 2**10):
        handler.wfile.write(b"x" * 2**20)


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Never answer."""
    time.sleep(30)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


class Receiver:
    """The server; `answers` are given in turn, the last one for ever."""

    def __init__(self, *answers: Answering) -> None:
        self.calls: list[Call] = []
        self.answers = list(answers) or [status(200)]
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.calls.append(Call(self.path, headers, body, self.client_address[1]))
                answer = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                try:
                    answer(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().handle()

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.socket.close()
