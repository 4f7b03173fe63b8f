"""The in-process broker of `kongflow-events dev`: dramatiq's own, in memory, without its memory of every failure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from queue import Queue
from typing import Any, Final

from dramatiq.brokers.stub import StubBroker

from kongflow_events.broker.guarded import middleware
from kongflow_events.broker.hints import batches, message
from kongflow_events.words import HintBatch

# Rejected messages that are kept to be looked at.
_KEPT: Final = 100


class MemoryBroker(StubBroker):
    """Queues in this process's memory. Good enough there, because what is owed stands in PostgreSQL."""

    def __init__(self) -> None:
        super().__init__(middleware=middleware())
        kept: Any = defaultdict(lambda: deque(maxlen=_KEPT))
        self.dead_letters_by_queue = kept


class MemoryHints:
    """A publisher, and a worker's buffer too, for queues in memory: each queue's broker by its name. For any thread."""

    def __init__(self, brokers: Mapping[str, MemoryBroker], *, batch: int, high_water: int) -> None:
        self._brokers = brokers
        self._batch = batch
        self._high_water = high_water

    def depth(self, queue_name: str) -> int:
        """How many messages wait in the queue."""
        queue: Queue[bytes] = self._brokers[queue_name].queues[queue_name]
        return queue.qsize()

    def consumers(self, queue_name: str) -> int:  # noqa: ARG002 - as RabbitMQ is asked
        """How many worker processes take messages from the queue: this one."""
        return 1

    def publish(self, queue_name: str, messages: Sequence[HintBatch]) -> None:
        """Hand over one message for each batch."""
        for batch in messages:
            self._brokers[queue_name].enqueue(message(queue_name, batch))

    def offer(self, queue_name: str, ids: Sequence[str]) -> None:
        """Take ids whose rows are due; dropped above the mark."""
        if self.depth(queue_name) < self._high_water:
            self.publish(queue_name, batches(queue_name, ids, self._batch))

    def rest(self) -> None:
        """Nothing has to be kept alive."""

    def close(self) -> None:
        """Nothing has to be let go of."""
