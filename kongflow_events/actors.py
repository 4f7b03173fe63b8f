"""The actors: one line each, from the ids in a message to the service that works on them.

A worker process is `dramatiq kongflow_events.actors:boot`; the supervisor of `kongflow-events dev` declares the same
actors on its in-process broker.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import dramatiq
import dramatiq.worker
import structlog

from kongflow_events import beats, exposition, memory, metrics, starting, words
from kongflow_events import broker as brokers
from kongflow_events.services import deliver, invoke, post
from kongflow_events.store import db

log = structlog.get_logger(__name__)

# A little over what threads take, for the sake of a worker that hands one over while another is at work.
_SPARE_CONNECTIONS = 2

# How much less of a busy processor a worker claims than who answers senders: what is stored can wait, and a sender does not.
# It is what the command `nice` gives.
_NICE = 10
# Seconds after which a consumer that lost its broker tries again; dramatiq's own three would show in every recovery.
_RECONNECT = 1.0
# Seconds that one thread may go on with calls to one target, also while nobody waits for it.
_TURN = 0.25
# Seconds that a stopping worker gives its last hints; the relay repeats what does not make it.
_LAST_HINTS = 2.0

Hints = Mapping[words.Kind, Sequence[uuid.UUID]]


class Offer(Protocol):
    """Where hints for follow-up work go; never blocks, never raises, may drop."""

    def offer(self, queue: str, ids: Sequence[str]) -> None:
        """Take ids whose rows are due in `queue`."""


def boot() -> None:
    """Make this process a worker on RabbitMQ, as the dramatiq command expects of a broker's factory."""
    current = starting.begin_or_exit("worker")
    db.connect(current.database_url, pool_size=current.pool_size + _SPARE_CONNECTIONS)
    broker = brokers.GuardedBroker(current.rabbitmq_url)
    hints = brokers.HintBuffer(
        lambda: brokers.RabbitmqHints(current.rabbitmq_url), batch=current.batch, high_water=current.high_water
    )
    broker.add_middleware(_Closing(hints))
    broker.add_middleware(_Beating())
    declare(broker, hints)
    dramatiq.worker.CONSUMER_RESTART_DELAY_SECS = _RECONNECT
    dramatiq.set_broker(broker)
    exposition.serve(current)
    # A sandbox may forbid even that, and it is no reason not to work.
    with suppress(OSError):
        os.nice(_NICE)
    memory.settle()


def declare(broker: dramatiq.Broker, hints: Offer) -> None:
    """Declare the three actors on `broker`; what they leave to be done next is offered to `hints`."""
    turns = _Turns()
    broker.add_middleware(turns)

    @dramatiq.actor(actor_name="deliver", queue_name="deliver", broker=broker)
    def deliver_actor(ids: list[str], alone: bool = False) -> None:
        _carry_out("deliver", ids, lambda subjects: deliver.deliver(subjects, one_by_one=_alone(alone)), hints)

    @dramatiq.actor(actor_name="invoke", queue_name="invoke", broker=broker)
    def invoke_actor(ids: list[str], alone: bool = False) -> None:
        _carry_out("invoke", ids, lambda subjects: invoke.invoke(subjects, one_by_one=_alone(alone)), hints)

    @dramatiq.actor(actor_name="post", queue_name="post", broker=broker)
    def post_actor(ids: list[str], alone: bool = False) -> None:  # noqa: ARG001 - every post is taken alone
        goes_on = turns.begin()
        _carry_out("post", ids, lambda subjects: post.post(subjects, goes_on), hints)


def _alone(asked: bool) -> bool:
    return asked or brokers.was_redelivered()


def _carry_out(
    queue: words.Kind, ids: list[str], work: Callable[[list[uuid.UUID]], Hints | None], hints: Offer
) -> None:
    """The door of the actors: hand ids to a service, offer what it leaves to be done next.

    A database that is away ends it quietly: the rows stay in the outbox, and the relay hints them again. Anything
    unforeseen goes on to the dead-letter queue.
    """
    began = time.monotonic()
    outcome = "failed"
    try:
        follow_up = work([uuid.UUID(one) for one in ids]) or {}
        outcome = "done"
    except db.AWAY as error:
        outcome = "away"
        log.warning("the database is away; the relay will hint this again", rows=len(ids), reason=str(error))
        return
    finally:
        metrics.MESSAGES.add(queue, outcome)
        metrics.MESSAGE_SECONDS.note(time.monotonic() - began, queue)
    for kind, subjects in follow_up.items():
        if subjects:
            hints.offer(kind, [str(subject) for subject in subjects])


class _Turns(dramatiq.Middleware):
    """How long a thread may go on with calls to one target, rather than hand the next one over through the broker.

    The way through the broker costs as much as a call. Whoever waits for a thread ends every turn with the call under way.
    """

    def __init__(self) -> None:
        self._workers: list[dramatiq.Worker] = []

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002 - dramatiq's
        self._workers.append(worker)

    def begin(self) -> Callable[[], bool]:
        """A turn that begins now; says whether it goes on."""
        until = time.monotonic() + _TURN

        def goes_on() -> bool:
            return time.monotonic() < until and any(worker.work_queue.empty() for worker in self._workers)

        return goes_on


class _Beating(dramatiq.Middleware):
    """Has the worker say that it lives: as a poster when it makes calls, which is all that such a one does."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002 - dramatiq's
        beats.begin("poster" if worker.consumer_whitelist == {"post"} else "worker")


class _Closing(dramatiq.Middleware):
    """Hands the last hints over when the worker stops."""

    def __init__(self, hints: brokers.HintBuffer) -> None:
        self._hints = hints

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002 - dramatiq's
        self._hints.close(_LAST_HINTS)
