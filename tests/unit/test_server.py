"""Connections of the web server: what it leaves to a proxy in front of it, it does itself here."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import uvicorn

from kongflow_events.web import server

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def talk(*parts: bytes, pause: float = 0) -> bytes:
    """What a connection says to these bytes until it is closed, or has been silent for a second."""

    async def both() -> bytes:
        config = uvicorn.Config(
            answer, port=0, http=server.Protocol, lifespan="off", log_config=None, interface="asgi3", ws="none"
        )
        serving = uvicorn.Server(config)
        running = asyncio.create_task(serving._serve())
        while not serving.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*serving.servers[0].sockets[0].getsockname()[:2])
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        heard = b""
        try:
            while chunk := await asyncio.wait_for(reader.read(65_536), 1):
                heard += chunk
            heard += b"<closed>"
        except TimeoutError:
            pass
        writer.close()
        serving.should_exit = True
        await running
        return heard

    return asyncio.run(both())


def test_requests_are_answered_one_after_the_other_and_the_connection_is_kept() -> None:
    heard = talk(GET, GET, GET + GET)
    assert heard.count(b"HTTP/1.1 200 OK") == 4
    assert not heard.endswith(b"<closed>")


def test_a_head_that_has_no_end_is_refused() -> None:
    heard = talk(b"GET / HTTP/1.1\r\nX: ", b"x" * 70_000)
    assert heard.startswith(b"HTTP/1.1 431 ")
    assert heard.endswith(b"<closed>")


def test_a_body_is_no_head() -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    heard = talk(post, b"x" * 50_000, b"x" * 50_000, GET)
    assert heard.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nX", GET + b"GET /"])
def test_whoever_does_not_come_to_the_end_of_a_head_is_not_waited_for(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SLOWEST_HEAD", 0.2)
    began = time.monotonic()
    assert talk(begun[:-4], begun[-4:], pause=0.05).endswith(b"<closed>")
    assert time.monotonic() - began < 1.0
