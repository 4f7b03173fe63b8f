"""A TCP proxy in this process, between the service and its servers: it passes, freezes, refuses, resets or dribbles."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Literal

from tests.servers import free_port

Mode = Literal["pass", "freeze", "refuse", "dribble"]

_CHUNK = 65_536
# A dribbling proxy hands over a few bytes at a time, with pauses (seconds) between them.
_DRIP, _PAUSE = 64, 0.02


class Proxy:
    """Listens on a loopback port of its own and connects to `target`; `set` changes what happens to bytes, at once.

    Frozen, it takes connections and bytes and hands nothing over, as a black hole or a stopped server does; what it took
    flows again when it passes again. Refusing, it listens no more and its connections are reset.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._mode: Mode = "pass"
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def set(self, mode: Mode) -> None:
        """From now on do this with every byte and every new connection."""
        self._do(self._change(mode))

    def reset(self) -> None:
        """Break every connection that there is, as a router that forgets them does."""
        self._do(self._break_all())

    def close(self) -> None:
        """End it."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)

    async def _change(self, mode: Mode) -> None:
        self._mode = mode
        (self._flowing.clear if mode == "freeze" else self._flowing.set)()
        if mode == "refuse":
            if self._server is not None:
                self._server.close()
                self._server = None
            await self._break_all()
        elif self._server is None:
            await self._listen()

    async def _end(self) -> None:
        await self._change("refuse")
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _break_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            self._writers.add(writer)
            await self._flowing.wait()
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
            for one in (writer, forth):
                one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._writers.add(forth)
            await asyncio.gather(self._pump(reader, forth), self._pump(back, writer))
            self._writers.discard(forth)
        self._writers.discard(writer)
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand bytes on until one side ends; the other side then ends too."""
        try:
            while data := await reader.read(_DRIP if self._mode == "dribble" else _CHUNK):
                await self._flowing.wait()
                if self._mode == "dribble":
                    await asyncio.sleep(_PAUSE)
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort() if reader.exception() else writer.close()
