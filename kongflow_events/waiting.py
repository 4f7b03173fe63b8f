"""Waiting, for whoever carries a service out: a thread waits by itself, a task lets its event loop go on meanwhile.

Services are written for threads. `carry_out` runs one as a task of an event loop, in a greenlet of its own: wherever it
would wait it is left, and gone on with when what it waits for has come. Hundreds of requests then wait for a commit
without a thread each, which have to be woken and hand Python's lock on, one after the other.
"""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from greenlet import getcurrent, greenlet

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class _Task(greenlet):
    """Work that an event loop carries out, and what it has for itself."""

    def __init__(self, work: Callable[..., Any]) -> None:
        super().__init__(work)
        self.loop = asyncio.get_running_loop()
        self.own: dict[object, Any] = {}

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """Leave the work until this has come; to be called by the work itself."""
        assert self.parent is not None
        return self.parent.switch(awaitable)


async def carry_out(work: Callable[Arguments, Value], *arguments: Arguments.args, **named: Arguments.kwargs) -> Value:
    """The result of `work` as a task of the running loop; raises what it raises.

    Between its waits the loop stands still, so that it has to be short.
    """
    task = _Task(work)
    wanted = task.switch(*arguments, **named)
    while not task.dead:
        try:
            come = await wanted
        except BaseException as error:  # noqa: BLE001 - it is the work's, whatever it is
            wanted = task.throw(error)
        else:
            wanted = task.switch(come)
    result: Value = wanted
    return result


class Own(Generic[Value]):
    """Something that each thread and each task has for itself, made when it is first asked for."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._threads = threading.local()

    def get(self) -> Value:
        """The caller's own one."""
        task = getcurrent()
        if isinstance(task, _Task):
            if self not in task.own:
                task.own[self] = self._make()
            return cast("Value", task.own[self])
        if not hasattr(self._threads, "own"):
            self._threads.own = self._make()
        return cast("Value", self._threads.own)


class Turn(Protocol):
    """Something that happens once: one waits for it, another, of any thread, says that it has happened."""

    def wait(self) -> object:
        """Return when it has happened."""

    def come(self) -> None:
        """It has happened."""


def turn() -> Turn:
    """A turn for whoever calls this to wait for."""
    task = getcurrent()
    return _TurnOfTask(task) if isinstance(task, _Task) else _TurnOfThread()


class _TurnOfThread:
    def __init__(self) -> None:
        # A lock that one thread takes and another gives back: an Event costs five times as much.
        lock = threading.Lock()
        lock.acquire()
        self.wait: Callable[[], object] = lock.acquire
        self.come: Callable[[], None] = lock.release


class _TurnOfTask:
    def __init__(self, task: _Task) -> None:
        self._task = task
        self._future = task.loop.create_future()
        self._thread = threading.get_ident()

    def wait(self) -> object:
        return self._task.wait_for(self._future)

    def come(self) -> None:
        if threading.get_ident() == self._thread:
            _settle(self._future, value=True)
        else:
            self._task.loop.call_soon_threadsafe(_settle, self._future, True)


def result_of(coroutine: Coroutine[Any, Any, Value], loop: asyncio.AbstractEventLoop) -> Value:
    """The result of a coroutine of this loop, which is the task's that calls, or another thread's."""
    task = getcurrent()
    if isinstance(task, _Task):
        return cast("Value", task.wait_for(coroutine))
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def let_others_come() -> None:
    """Of a task: let what else this turn of the loop has to do be done first."""
    task = getcurrent()
    if isinstance(task, _Task):
        task.wait_for(asyncio.sleep(0))


def ready(descriptor: int, seconds: float, event: int = select.POLLIN) -> bool:
    """Whether there is something to read at a descriptor, or room to write (POLLOUT), within so many seconds."""
    task = getcurrent()
    if isinstance(task, _Task) and seconds > 0:
        return _ready_for_task(task, descriptor, seconds, event)
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(seconds * 1000))


def _ready_for_task(task: _Task, descriptor: int, seconds: float, event: int) -> bool:
    loop, future = task.loop, task.loop.create_future()
    reads = event == select.POLLIN
    add, remove = (loop.add_reader, loop.remove_reader) if reads else (loop.add_writer, loop.remove_writer)
    add(descriptor, _settle, future, True)
    timer = loop.call_later(seconds, _settle, future, False)
    try:
        return bool(task.wait_for(future))
    finally:
        timer.cancel()
        remove(descriptor)


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    # Two may want to at the same turn of the loop, or the task may be gone.
    if not future.done():
        future.set_result(value)


class Places:
    """Room for so many tasks at a time; threads are few by themselves."""

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)

    def take(self, seconds: float) -> bool:
        """Wait for a place, at most so long; returns whether there is one now, which `give` gives back."""
        task = getcurrent()
        if not isinstance(task, _Task):
            return True
        if not self._free.locked():
            return bool(task.wait_for(self._free.acquire()))
        try:
            return bool(task.wait_for(asyncio.wait_for(self._free.acquire(), seconds)))
        except TimeoutError:
            return False

    def give(self) -> None:
        """Give it back."""
        if isinstance(getcurrent(), _Task):
            self._free.release()
