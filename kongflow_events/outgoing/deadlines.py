"""A hard end for each call: one thread for the process, which shuts a call's socket down when its time is over.

A socket's own timeout starts anew with every byte, so a target that drips bytes would hold a worker for as long as it
likes. Shutting the socket down from outside ends any wait, whatever it waits for: handshake, headers, body, sending.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self

# Seconds that the thread sleeps when no call is under way.
_IDLE: Final = 3600.0


class Deadline:
    """The end of the call that goes on inside `with`, `seconds` from its making; `passed` once it has cut the call."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = time.monotonic()
        self.at = self.started + seconds
        self.passed = False
        self._handle: socket.socket | None = None

    def left(self) -> float:
        """Seconds until the end; never 0, which to a socket would mean not to wait at all."""
        return max(0.001, self.at - time.monotonic())

    def spent_ms(self) -> int:
        """Milliseconds since the start."""
        return int((time.monotonic() - self.started) * 1000)

    def hold(self, sock: socket.socket) -> None:
        """From now on the end of this call is the end of `sock`'s connection.

        Takes a descriptor of its own: the connection's owner wraps and closes its own as it likes, and the number of a
        closed one may already belong to somebody else.
        """
        handle = socket.socket(fileno=os.dup(sock.fileno()))
        with _watch.lock:
            self._release()
            self._handle = handle
            if self.passed:
                self.end()

    def end(self) -> None:
        """Cut the call; the watch does so when it is time."""
        self.passed = True
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        _watch.add(self)
        self._outer = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.reset(self._outer)
        with _watch.lock:
            _watch.running.discard(self)
            self._release()

    def _release(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def hold(sock: socket.socket) -> None:
    """Put `sock` under the deadline of the call that this thread is in, if it is in one."""
    deadline = _current.get()
    if deadline is not None:
        deadline.hold(sock)


class _Watch:
    """The deadlines of all calls under way, and the thread that looks after them, started with the first one."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.running: set[Deadline] = set()
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline) -> None:
        """Look after `deadline`; wakes the thread only when it would sleep past it."""
        with self.lock:
            self.running.add(deadline)
            # A thread does not survive a fork: the child finds it dead and starts its own.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look_after, name="deadlines", daemon=True)
                self._thread.start()
            elif deadline.at < self._wakes_at:
                self.lock.notify()

    def _look_after(self) -> None:
        with self.lock:
            while True:
                self.lock.wait(self._end_those_due())

    def _end_those_due(self) -> float:
        """Cut the calls whose time is over; returns the seconds until the next one's is."""
        now = time.monotonic()
        for deadline in [one for one in self.running if one.at <= now]:
            self.running.discard(deadline)
            deadline.end()
        self._wakes_at = min((one.at for one in self.running), default=now + _IDLE)
        return self._wakes_at - now


_watch = _Watch()
_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
