"""Hints on their way to RabbitMQ: the relay's own publisher, and the worker processes' one publisher thread."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import dramatiq
import pika
import structlog
from dramatiq.common import xq_name

from kongflow_events import errors, metrics
from kongflow_events.broker.answers import answered
from kongflow_events.broker.guarded import patient_url
from kongflow_events.words import HintBatch

log = structlog.get_logger(__name__)

# Bytes of one message; ids only ever fill a fraction of what a queue takes without effort.
LARGEST: Final = 16_384
# Offers that wait for the publisher thread, and seconds that it leaves a broker alone that failed.
_WAITING: Final = 1_000
_REST: Final = 0.5


_PERSISTENT: Final = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)


def encode(queue_name: str, batch: HintBatch) -> bytes:
    """The message for `batch`: the actor of the queue's name is to work on its ids."""
    encoded = message(queue_name, batch).encode()
    if len(encoded) > LARGEST:
        raise ValueError(f"a message of {len(encoded)} bytes: messages carry ids, up to {LARGEST} bytes of them")
    return encoded


def message(queue_name: str, batch: HintBatch) -> dramatiq.Message[None]:
    """The message for `batch`, as dramatiq knows it."""
    kwargs = {"alone": True} if batch.alone else {}
    return dramatiq.Message(queue_name, queue_name, (list(batch.ids),), kwargs, {})


def batches(queue_name: str, ids: Sequence[str], most: int) -> list[HintBatch]:
    """Ids as messages of up to `most`; a call to a URL may take seconds, so its message carries one id."""
    size = 1 if queue_name == "post" else most
    return [HintBatch(tuple(ids[start : start + size])) for start in range(0, len(ids), size)]


class Publisher(Protocol):
    """Where hints go."""

    def depth(self, queue_name: str) -> int:
        """How many messages wait; raises Retryable when the broker cannot be asked."""

    def consumers(self, queue_name: str) -> int:
        """How many worker processes take messages from the queue; raises Retryable when the broker cannot be asked."""

    def publish(self, queue_name: str, messages: Sequence[HintBatch]) -> None:
        """Hand one message for each batch over, confirmed; raises Retryable otherwise."""

    def rest(self) -> None:
        """Keep the connection alive while there is nothing to do."""

    def close(self) -> None:
        """Let go of the broker."""


class RabbitmqHints:
    """A publisher on one connection of its own, opened when needed and again after any failure; for one thread."""

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(patient_url(url))
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None
        self._rested = 0.0

    def depth(self, queue_name: str) -> int:
        """How many messages wait in the queue, which is declared when it is missing."""
        depth: int = self._look(queue_name).message_count
        return depth

    def consumers(self, queue_name: str) -> int:
        """How many worker processes take messages from the queue, which is declared when it is missing."""
        consumers: int = self._look(queue_name).consumer_count
        return consumers

    def _look(self, queue_name: str) -> Any:
        with self._translated():
            channel = self._open()
            with self._answered():
                declared = channel.queue_declare(queue_name, durable=True, arguments=_arguments(queue_name))
            return declared.method

    def publish(self, queue_name: str, messages: Sequence[HintBatch]) -> None:
        """Hand over one message for each batch; returns when the broker has confirmed them all."""
        with self._translated():
            for batch in messages:
                body = encode(queue_name, batch)
                channel = self._open()
                with self._answered():
                    channel.basic_publish("", queue_name, body, _PERSISTENT, mandatory=True)

    def rest(self) -> None:
        """Answer the broker's heartbeats; does something once a second at most."""
        now = time.monotonic()
        if self._connection is None or now - self._rested < 1:
            return
        self._rested = now
        with contextlib.suppress(errors.Retryable), self._translated(), self._answered():
            self._connection.process_data_events(0)

    def close(self) -> None:
        """Close the connection, if there is one."""
        with contextlib.suppress(Exception), self._answered():
            if self._connection is not None and self._connection.is_open:
                self._connection.close()
        self._connection = self._channel = None

    def _open(self) -> Any:
        if self._connection is None or self._connection.is_closed or self._channel.is_closed:
            self.close()
            self._connection = pika.BlockingConnection(self._parameters)
            with self._answered():
                self._channel = self._connection.channel()
                self._channel.confirm_delivery()
        return self._channel

    def _answered(self) -> contextlib.AbstractContextManager[None]:
        """A deadline for what goes on inside, if there is a connection."""
        return contextlib.nullcontext() if self._connection is None else answered(self._connection)

    @contextlib.contextmanager
    def _translated(self) -> Any:
        """Every failure is the same news: the broker cannot be reached. A wedged one raises outside pika's hierarchy."""
        try:
            yield
        except Exception as error:
            self.close()
            raise errors.Retryable(f"RabbitMQ: {type(error).__name__} {error}".strip()) from error


def _arguments(queue_name: str) -> dict[str, Any]:
    # The same as dramatiq declares: RabbitMQ refuses two opinions of one queue.
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": xq_name(queue_name)}


class HintBuffer:
    """The publisher thread of a worker process: offers never block and never fail, and may be dropped.

    Whatever is dropped, for want of room here or in the queue or of a broker, is hinted by the relay a second later.
    """

    def __init__(self, publisher: Callable[[], Publisher], *, batch: int, high_water: int) -> None:
        self._make = publisher
        self._batch = batch
        self._high_water = high_water
        self._offers: queue.Queue[tuple[str, Sequence[str]]] = queue.Queue(_WAITING)
        self._closing = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="hints")
        self._thread.start()

    def offer(self, queue_name: str, ids: Sequence[str]) -> None:
        """Take ids whose rows are due."""
        try:
            self._offers.put_nowait((queue_name, ids))
        except queue.Full:
            self._drop(len(ids))

    def close(self, timeout: float) -> None:
        """Hand over what is waiting, for `timeout` seconds at most."""
        self._closing.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        publisher = self._make()
        while not (self._closing.is_set() and self._offers.empty()):
            offered = self._take()
            try:
                for queue_name, ids in offered.items():
                    self._publish(publisher, queue_name, ids)
            except errors.Retryable as error:
                self._drop(sum(map(len, offered.values())))
                log.warning("hints dropped; the relay repeats them", reason=error.reason)
                self._closing.wait(_REST)
            publisher.rest()
        publisher.close()

    def _drop(self, number: int) -> None:
        if number:
            self.dropped += number
            metrics.HINTS_DROPPED.add(amount=number)

    def _take(self) -> dict[str, list[str]]:
        """Everything that is offered, by queue; waits a moment when there is nothing."""
        offered: dict[str, list[str]] = defaultdict(list)
        with contextlib.suppress(queue.Empty):
            queue_name, ids = self._offers.get(timeout=0.2)
            offered[queue_name] += ids
            while True:
                queue_name, ids = self._offers.get_nowait()
                offered[queue_name] += ids
        return offered

    def _publish(self, publisher: Publisher, queue_name: str, ids: Sequence[str]) -> None:
        room = max(0, self._high_water - publisher.depth(queue_name))
        messages = batches(queue_name, ids, self._batch)
        self._drop(sum(len(batch.ids) for batch in messages[room:]))
        publisher.publish(queue_name, messages[:room])
