"""A broker in memory, for tests of what the relay does."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from kongflow_events import words


class Queue:
    """One that has room for everything, and remembers what was hinted."""

    def __init__(self) -> None:
        self.hinted: list[uuid.UUID] = []

    def depth(self, queue_name: str) -> int:
        return 0

    def consumers(self, queue_name: str) -> int:
        return 1

    def publish(self, queue_name: str, messages: Sequence[words.HintBatch]) -> None:
        self.hinted += [uuid.UUID(one) for batch in messages for one in batch.ids]
