"""From the server, which is an event loop's (ASGI), to the application, which is made for threads (WSGI).

What comes most, the sending of one small event, is a task of the loop: no thread waits for its body or for its commit.
Everything else has a thread. A body is read when the application asks for it, and has seen whose it is.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from kongflow_events import errors, waiting

_SEND: Final = ("POST", "/api/v1/events")
# Bytes of a body that the loop has the time for: as many as may be in a statement with others.
_SMALL: Final = 16_384
# What is the same for every request (PEP 3333).
_ALWAYS: Final = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    # The input ends where the body does, whatever length was stated.
    "wsgi.input_terminated": True,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}
# The two headers that have no prefix.
_PLAIN: Final = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Bridge:
    """An ASGI application that has `app` answer, a WSGI one, with so many threads."""

    def __init__(self, app: WsgiApp, threads: int) -> None:
        self._app = app
        self._threads = ThreadPoolExecutor(threads, "request")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        environ = _environ(scope)
        environ["wsgi.input"] = _Body(receive, loop)
        if _is_small_send(environ):
            answer = await waiting.carry_out(self._answer, environ)
        else:
            answer = await loop.run_in_executor(self._threads, self._answer, environ)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _answer(self, environ: Environ) -> _Answer:
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], _error: object = None) -> None:
            begun.append((status, headers))

        body = b"".join(self._app(environ, start))
        status, headers = begun[-1]
        return _Answer(int(status[:3]), headers, body)


class _Body:
    """The body of a request: read by the loop, and not before somebody wants it."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._loop = loop
        self._read = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or as many as are left; raises Refused when the sender has left before the end."""
        if len(self._read) < size and not self._ended:
            waiting.result_of(self._read_on(size), self._loop)
        wanted, self._read = self._read[:size], self._read[size:]
        return wanted

    async def _read_on(self, size: int) -> None:
        parts = [self._read]
        missing = size - len(self._read)
        while missing > 0 and not self._ended:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                # What has come of it may look like a whole one, and would be stored for good under its event's id.
                raise errors.Refused("The body did not come to its end")
            parts.append(message.get("body", b""))
            missing -= len(parts[-1])
            self._ended = not message.get("more_body", False)
        self._read = b"".join(parts)


def _environ(scope: Message) -> Environ:
    server, client = scope["server"] or ("", ""), scope["client"] or ("", "")
    path = scope["raw_path"]
    environ: Environ = {
        **_ALWAYS,
        "REQUEST_METHOD": scope["method"],
        # Bytes in the form of Latin-1, as WSGI has them.
        "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "wsgi.url_scheme": scope["scheme"],
    }
    for name, value in scope["headers"]:
        # In WSGI an underscore would pass for a hyphen.
        if b"_" not in name:
            key, text = _key(name), value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


# As many as anybody sends, but not all that strangers make up.
@lru_cache(maxsize=200)
def _key(name: bytes) -> str:
    """WSGI's name of a header."""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in _PLAIN else f"HTTP_{key}"


def _is_small_send(environ: Environ) -> bool:
    if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) != _SEND:
        return False
    length = environ.get("CONTENT_LENGTH", "")
    return length.isdecimal() and int(length) <= _SMALL
