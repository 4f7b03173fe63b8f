"""A deadline for what RabbitMQ owes an answer to: pika offers none for one call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import pika
from pika.exceptions import AMQPConnectionError

# Seconds that the broker gets for one answer. One that is frozen keeps its connections and says nothing: the heartbeat
# would notice after half a minute, and hold the thread so long.
ANSWER: Final = 3.0


@contextlib.contextmanager
def answered(connection: pika.BlockingConnection, seconds: float = ANSWER) -> Iterator[None]:
    """End the connection when what goes on inside has no answer in time; its waiting calls then raise AMQPConnectionError.

    By pika's own timers and by what its heartbeat ends a connection with.
    """
    impl = connection._impl  # noqa: SLF001 - there is no other way to it
    late = AMQPConnectionError(f"no answer within {seconds:g} s")
    timer = impl.ioloop.call_later(seconds, lambda: impl._terminate_stream(late))  # noqa: SLF001 - likewise
    try:
        yield
    finally:
        impl.ioloop.remove_timeout(timer)
