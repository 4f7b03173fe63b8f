"""How a process that runs until it is told to stop hears of it: by SIGINT, or by SIGTERM."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Stopping:
    """Whether somebody has asked for the end, and waiting for that.

    No lock: a signal's handler interrupts the very thread that may hold it, and would wait for itself. And a signal that the
    kernel gives to another thread interrupts no wait for a lock; a byte on a socket ends one that is for bytes.
    """

    def __init__(self) -> None:
        self._asked = False
        self._told, self.tell = socket.socketpair()
        for end in (self._told, self.tell):
            end.setblocking(False)
        self._poller = select.poll()
        self._poller.register(self._told, select.POLLIN)

    def ask(self) -> None:
        """Ask for the end; from a signal's handler too."""
        self._asked = True
        with suppress(BlockingIOError):
            self.tell.send(b"\0")

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the end is asked for, at most so long; whether it was."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self._asked:
            left = None if until is None else 1000 * (until - time.monotonic())
            if left is not None and left <= 0:
                break
            # Bytes that come before the end is asked for are of signals that somebody else handles.
            if self._poller.poll(left) and not self._asked:
                with suppress(BlockingIOError):
                    self._told.recv(4096)
        return self._asked


@contextmanager
def until_interrupted() -> Iterator[Stopping]:
    """What SIGINT and SIGTERM ask to stop, for as long as this lasts, also where a shell has SIGINT ignored."""
    stopping = Stopping()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stopping.ask()) for number in numbers]
    told_before = signal.set_wakeup_fd(stopping.tell.fileno(), warn_on_full_buffer=False)
    try:
        yield stopping
    finally:
        signal.set_wakeup_fd(told_before)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
