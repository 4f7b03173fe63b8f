"""Shares: how many of this process's threads one environment's work may have, so that others find some that are free."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar


class Owned(Protocol):
    """Work that belongs to an environment."""

    @property
    def environment_id(self) -> uuid.UUID:
        """Whose it is."""


Work = TypeVar("Work", bound=Owned)


class Shares:
    """Work under way, by environment."""

    def __init__(self) -> None:
        self._under_way: Counter[uuid.UUID] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def one(self, most: int, take: Callable[[Sequence[uuid.UUID]], Work | None]) -> Iterator[Work | None]:
        """What `take` takes, counted until the end of the block; it is told which environments have `most` under way.

        Whose work it is shows only once it is taken: threads that take at the same moment may together exceed the share,
        once. That they took one after the other would cost every one of them more.
        """
        with self._lock:
            full = [environment for environment, count in self._under_way.items() if count >= most]
        taken = take(full)
        if taken is not None:
            with self._lock:
                self._under_way[taken.environment_id] += 1
        try:
            yield taken
        finally:
            if taken is not None:
                self._give_back(taken.environment_id)

    def _give_back(self, environment: uuid.UUID) -> None:
        with self._lock:
            self._under_way[environment] -= 1
            if not self._under_way[environment]:
                del self._under_way[environment]
