"""Dramatiq's RabbitMQ broker with the guards that its 2.2.1 lacks: no message lost to a reconnect, none that stops a queue.

The consumer is a private class of dramatiq; the version is pinned, and the tests of this module hold for it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dramatiq
import structlog
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import q_name
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Retries
from pika.exceptions import AMQPChannelError, AMQPConnectionError

from kongflow_events.broker.answers import ANSWER, answered
from kongflow_events.processes import stop_at_masters_death

log = structlog.get_logger(__name__)

# A broker that is silent, wedged or out of memory must fail a call within seconds.
_PATIENCE: Final = {
    "heartbeat": "10",
    "blocked_connection_timeout": "2",
    "socket_timeout": "2",
    "stack_timeout": "3",
    "connection_attempts": "1",
}


# Seconds without a sign of a consumer, which comes round every second, and within two heartbeats of a connection that is
# silent.
_STALLED: Final = 45.0
# Rounds in a row in which a consumer got nothing although messages waited and it had room for them.
_PASSED_OVER: Final = 2


def patient_url(url: str) -> str:
    """`url` with our limits on every wait; what it says of them itself wins."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode({**_PATIENCE, **dict(parse_qsl(parts.query))})))


class GuardedConsumer(_RabbitmqConsumer):
    """A consumer that acknowledges only what it delivered, rejects what is no message for its queue, and is one.

    Delivery tags start at 1 on each new channel: a message from before a reconnect carries a tag that means another
    message now. Acknowledging it would lose that one, so a stale acknowledgement is dropped; RabbitMQ has handed the
    message out again already.

    When a queue is deleted, and declared by somebody else at once, RabbitMQ has been seen to tell none of its consumers, and
    to leave a new one's Basic.Consume unanswered: processes that look healthy, and a queue that nobody reads.
    """

    def __init__(self, broker: GuardedBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]  # as below
        self._prefetch = prefetch
        # Seconds that the first message may take: to subscribe, and to wait for it.
        self._first: float | None = ANSWER + timeout / 1000
        self._passed_over = 0

    def __next__(self) -> Any:
        """The next message, or None when there was none or it was rejected; raises ConnectionClosed to be made anew."""
        self.broker.beats[self.queue_name] = time.monotonic()
        message = self._next()
        if message is None:
            self._make_sure_that_nothing_waits()
            return None
        self._passed_over = 0
        message.owner = self
        if _is_for(message, self.queue_name):
            return message
        log.error("rejected a message that is none of ours", queue=self.queue_name, message_id=str(message.message_id))
        self.nack(message)
        return None

    def _next(self) -> Any:
        first, self._first = self._first, None
        # Only the first one waits for an answer of the broker's.
        with contextlib.nullcontext() if first is None else answered(self.connection, first):
            return super().__next__()  # type: ignore[no-untyped-call]  # dramatiq leaves its consumer untyped

    def _make_sure_that_nothing_waits(self) -> None:
        """Notice that this is no consumer any more: it has room, messages wait, and none comes."""
        waits = len(self.known_tags) < self._prefetch and self._waiting() > 0
        self._passed_over = self._passed_over + 1 if waits else 0
        if self._passed_over >= _PASSED_OVER:
            log.warning("messages wait and this consumer gets none; it subscribes again", queue=self.queue_name)
            raise ConnectionClosed("passed over")

    def _waiting(self) -> int:
        """Messages that wait in the queue; one that is gone is declared before the consumer is made anew."""
        try:
            with answered(self.connection):
                declared = self.channel.queue_declare(self.queue_name, passive=True)
        except (AssertionError, AMQPConnectionError, AMQPChannelError) as error:
            if getattr(error, "reply_code", None) == HTTPStatus.NOT_FOUND:
                self.broker.queues_pending.add(q_name(self.queue_name))
            raise ConnectionClosed(error) from None
        waiting: int = declared.method.message_count
        return waiting

    def ack(self, message: Any) -> None:
        """Acknowledge a message of this consumer's own.

        On a lost connection there is nothing to acknowledge: dramatiq would try again in five seconds, and hold the
        thread that long, for a message that RabbitMQ hands out again anyway.
        """
        if message.owner is self:
            with contextlib.suppress(ConnectionClosed):
                super().ack(message)  # type: ignore[no-untyped-call]  # likewise

    def nack(self, message: Any) -> None:
        """Send a message of this consumer's own to the dead-letter queue; not on a lost connection, as `ack`."""
        if message.owner is self:
            with contextlib.suppress(ConnectionClosed):
                super().nack(message)  # type: ignore[no-untyped-call]  # likewise


def _is_for(message: Any, queue: str) -> bool:
    """Whether an envelope is one that we write: for the actor of its queue's name, and without options.

    Options are dramatiq's own language: they can park a message in a worker's memory, or end the thread that meets it.
    """
    return (
        message.options == {} and isinstance(message.kwargs, dict) and message.actor_name == message.queue_name == queue
    )


class GuardedBroker(RabbitmqBroker):
    """RabbitMQ with confirmed publishing, guarded consumers, and none of the middleware that raises in other threads."""

    def __init__(self, url: str) -> None:
        super().__init__(url=patient_url(url), confirm_delivery=True, middleware=[*middleware(), DieWithMaster()])
        # When the consumer of each queue last came round, by the monotonic clock.
        self.beats: dict[str, float] = {}

    @property
    def consumer_class(self) -> type[GuardedConsumer]:
        """What reads from a queue."""
        return GuardedConsumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        """A consumer that holds one message for each thread: a message that waits in a process waits for that process."""
        self.beats[queue_name] = time.monotonic()
        # Dramatiq asks for two.
        return super().consume(queue_name, max(1, prefetch // 2), timeout)


def middleware() -> list[dramatiq.Middleware]:
    """What every broker of ours runs with.

    Nothing is retried: attempts are counted in PostgreSQL. `Retries` stays because it sends an unforeseen failure to
    the dead-letter queue, where it is seen.
    """
    return [Retries(max_retries=0), Redelivery(), Watchdog()]


class Redelivery(dramatiq.Middleware):
    """Tells an actor whether RabbitMQ handed its message out before: then a worker may have died of it."""

    _current = threading.local()

    @classmethod
    def is_so(cls) -> bool:
        """Whether the message that this thread is working on was handed out before."""
        return getattr(cls._current, "redelivered", False)

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:  # noqa: ARG002 - dramatiq's
        """Remember it for the actor that comes."""
        self._current.redelivered = getattr(message, "redelivered", False)


class Watchdog(dramatiq.Middleware):
    """Ends a worker process that lost a thread, or whose consumer hangs: it would look healthy, and work on nothing."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Look every second from now on."""
        threading.Thread(target=self._watch, args=(broker, worker), daemon=True, name="watchdog").start()

    def _watch(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        while True:
            time.sleep(1)
            threads: list[Any] = [*worker.workers, *list(worker.consumers.values())]
            if any(thread.running and not thread.is_alive() for thread in threads):
                _end("a thread has died; ending the process so that it is started again")
            if any(thread.running for thread in threads) and hanging(broker, time.monotonic()):
                _end("a consumer hangs; ending the process so that it is started again")


def hanging(broker: dramatiq.Broker, now: float) -> list[str]:
    """The queues whose consumers have not come round for longer than a lost connection can hold them."""
    return [queue for queue, beat in list(getattr(broker, "beats", {}).items()) if now - beat > _STALLED]


def _end(why: str) -> None:
    log.critical(why)
    os._exit(1)


class DieWithMaster(dramatiq.Middleware):
    """A worker process ends when its master is killed: an orphan would go on consuming, and nobody would know."""

    def after_process_boot(self, broker: dramatiq.Broker) -> None:  # noqa: ARG002 - dramatiq's
        """Ask the kernel for the signal."""
        stop_at_masters_death()
