"""How a process that runs until it is told to stop hears of it: by SIGINT, or by SIGTERM."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Stopping:
    """Whether somebody has asked for the end, and waiting for that.

    No threading.Event: a signal's handler interrupts the very thread that may hold its lock, and would wait for itself. A
    SimpleQueue can be put to from there.
    """

    def __init__(self) -> None:
        self._asked = False
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask(self) -> None:
        """Ask for the end; from a signal's handler too."""
        self._asked = True
        self._told.put(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the end is asked for, at most so long; whether it was."""
        if not self._asked:
            with suppress(queue.Empty):
                self._told.get(timeout=None if seconds is None else max(0.0, seconds))
        return self._asked


@contextmanager
def until_interrupted() -> Iterator[Stopping]:
    """What SIGINT and SIGTERM ask to stop, for as long as this lasts, also where a shell has SIGINT ignored."""
    stopping = Stopping()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stopping.ask()) for number in numbers]
    try:
        yield stopping
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
