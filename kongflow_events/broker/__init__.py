"""The broker: RabbitMQ, guarded, or queues in memory for `dev`. Importing this connects nothing."""

from __future__ import annotations

from kongflow_events.broker.guarded import GuardedBroker, Redelivery
from kongflow_events.broker.hints import HintBuffer, Publisher, RabbitmqHints
from kongflow_events.broker.memory import MemoryBroker, MemoryHints

__all__ = [
    "GuardedBroker",
    "HintBuffer",
    "MemoryBroker",
    "MemoryHints",
    "Publisher",
    "RabbitmqHints",
    "was_redelivered",
]


def was_redelivered() -> bool:
    """Whether the message that this thread is working on was handed out before: a worker may have died of it."""
    return Redelivery.is_so()
