"""The in-process broker of `kongflow-events dev`: dramatiq's own, in memory, without its memory of every failure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final

from dramatiq.brokers.stub import StubBroker

from kongflow_events.broker.guarded import middleware
from kongflow_events.broker.hints import message
from kongflow_events.models import HintBatch

# Rejected messages that are kept to be looked at.
_KEPT: Final = 100


class MemoryBroker(StubBroker):
    """Queues in this process's memory. Good enough there, because what is owed stands in PostgreSQL."""

    def __init__(self) -> None:
        super().__init__(middleware=middleware())
        kept: Any = defaultdict(lambda: deque(maxlen=_KEPT))
        self.dead_letters_by_queue = kept


class MemoryHints:
    """A publisher, and a worker's buffer too, for the broker in memory; for any thread."""

    def __init__(self, broker: MemoryBroker, *, batch: int, high_water: int) -> None:
        self._broker = broker
        self._batch = batch
        self._high_water = high_water

    def depth(self, queue_name: str) -> int:
        """How many messages wait in the queue."""
        return self._broker.queues[queue_name].qsize()

    def publish(self, queue_name: str, batches: Sequence[HintBatch]) -> None:
        """Hand over one message for each batch."""
        for batch in batches:
            self._broker.enqueue(message(queue_name, batch))

    def offer(self, queue_name: str, ids: Sequence[str]) -> None:
        """Take ids whose rows are due; dropped above the mark."""
        size = 1 if queue_name == "post" else self._batch
        if self.depth(queue_name) < self._high_water:
            self.publish(
                queue_name, [HintBatch(tuple(ids[start : start + size])) for start in range(0, len(ids), size)]
            )

    def rest(self) -> None:
        """Nothing has to be kept alive."""

    def close(self) -> None:
        """Nothing has to be let go of."""
