"""RabbitMQ, guarded: what stock dramatiq loses, ours does not; what stops a queue, ours rejects."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import dramatiq
import pika
import pytest
from dramatiq.errors import ConnectionClosed

from faults.proxy import Proxy
from kongflow_events import broker, errors
from kongflow_events.broker.guarded import hanging
from kongflow_events.words import HintBatch
from tests.servers import RabbitMQ, eventually, free_port

QUEUE = "deliver"


@pytest.fixture
def guarded(queues: RabbitMQ) -> Iterator[broker.GuardedBroker]:
    made = broker.GuardedBroker(queues.url)
    yield made
    made.close()


@pytest.fixture
def hints(queues: RabbitMQ) -> Iterator[broker.RabbitmqHints]:
    made = broker.RabbitmqHints(queues.url)
    # As the relay does before it publishes: it declares the queue.
    made.depth(QUEUE)
    yield made
    made.close()


@pytest.fixture
def working(guarded: broker.GuardedBroker) -> Iterator[Callable[..., list[Any]]]:
    """Start a worker whose actor appends what it is given to a list."""
    workers: list[dramatiq.Worker] = []

    def start(wait: threading.Event | None = None) -> list[Any]:
        seen: list[Any] = []

        def perform(ids: list[str], alone: bool = False) -> None:
            seen.append((tuple(ids), alone, broker.was_redelivered()))
            if wait is not None:
                wait.wait(20)

        dramatiq.actor(perform, actor_name=QUEUE, queue_name=QUEUE, broker=guarded)
        worker = dramatiq.Worker(guarded, queues={QUEUE}, worker_threads=2, worker_timeout=100)
        worker.start()
        workers.append(worker)
        return seen

    yield start
    for worker in workers:
        worker.stop(timeout=5000)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A broker that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    taken.append(listener.accept()[0])
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield f"amqp://guest:guest@127.0.0.1:{port}/%2F"
        for connection in taken:
            connection.close()


def envelope(**changes: Any) -> bytes:
    """A message as dramatiq writes it, but for the changes."""
    whole = {
        "queue_name": QUEUE,
        "actor_name": QUEUE,
        "args": [["x"]],
        "kwargs": {},
        "options": {},
        "message_id": "1",
        "message_timestamp": 1,
    }
    return json.dumps({**whole, **changes}).encode()


def publish_raw(queues: RabbitMQ, body: bytes) -> None:
    connection = queues.connect()
    channel = connection.channel()
    channel.basic_publish("", QUEUE, body, pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent))
    connection.close()


def depth(queues: RabbitMQ, queue: str) -> int:
    connection = queues.connect()
    found: int = connection.channel().queue_declare(queue, passive=True).method.message_count
    connection.close()
    return found


def forget(consumer: Any) -> None:
    """End its subscription without an answer, so that pika does not learn of it: as when nobody is told of a queue's end."""
    [tag] = consumer.channel.consumer_tags
    consumer.channel._impl._send_method(pika.spec.Basic.Cancel(tag, nowait=True))


class TestPublishing:
    def test_a_batch_is_one_confirmed_message_that_an_actor_gets(
        self, hints: broker.RabbitmqHints, working: Callable[..., list[Any]]
    ) -> None:
        seen = working()
        hints.publish(QUEUE, [HintBatch(("a", "b")), HintBatch(("c",), alone=True)])

        eventually(lambda: len(seen) == 2)
        assert sorted(seen) == [(("a", "b"), False, False), (("c",), True, False)]

    def test_depth_counts_what_waits_and_declares_a_missing_queue(self, hints: broker.RabbitmqHints) -> None:
        assert hints.depth(QUEUE) == 0
        hints.publish(QUEUE, [HintBatch(("a",))] * 3)

        eventually(lambda: hints.depth(QUEUE) == 3)

    def test_consumers_are_the_worker_processes_that_take_from_a_queue(
        self, hints: broker.RabbitmqHints, working: Callable[..., list[Any]]
    ) -> None:
        assert hints.consumers(QUEUE) == 0
        working()

        eventually(lambda: hints.consumers(QUEUE) == 1)

    def test_a_lost_connection_is_opened_again(self, hints: broker.RabbitmqHints) -> None:
        hints.publish(QUEUE, [HintBatch(("a",))])
        assert hints._connection is not None
        hints._connection.close()
        hints.publish(QUEUE, [HintBatch(("b",))])

        eventually(lambda: hints.depth(QUEUE) == 2)

    def test_no_broker_is_retryable(self) -> None:
        nobody = broker.RabbitmqHints(f"amqp://guest:guest@127.0.0.1:{free_port()}/%2F")

        with pytest.raises(errors.Retryable):
            nobody.depth(QUEUE)
        with pytest.raises(errors.Retryable):
            nobody.publish(QUEUE, [HintBatch(("a",))])

    def test_a_broker_that_never_answers_is_retryable_within_seconds(self, black_hole: str) -> None:
        with pytest.raises(errors.Retryable):
            broker.RabbitmqHints(black_hole).depth(QUEUE)

    @pytest.mark.parametrize("verb", ["depth", "publish", "close"])
    def test_a_broker_that_freezes_on_a_standing_connection_holds_nobody(self, queues: RabbitMQ, verb: str) -> None:
        with contextlib.closing(Proxy(urlsplit(queues.url).port or 0)) as proxy:
            hints = broker.RabbitmqHints(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F")
            hints.depth(QUEUE)
            proxy.set("freeze")
            asked = {
                "depth": lambda: hints.depth(QUEUE),
                "publish": lambda: hints.publish(QUEUE, [HintBatch(("a",))]),
                "close": hints.close,
            }
            with ThreadPoolExecutor(1) as asking:
                # Its heartbeat would be missed after 15 to 30 s.
                said = asking.submit(asked[verb]).exception(10)
            assert isinstance(said, errors.Retryable) or verb == "close"

            proxy.set("pass")
            # What was frozen on its way may still arrive.
            assert hints.depth(QUEUE) in {0, 1}
            hints.close()

    def test_a_message_stays_small(self, hints: broker.RabbitmqHints) -> None:
        with pytest.raises(errors.Retryable, match="messages carry ids"):
            hints.publish(QUEUE, [HintBatch(("x" * 20_000,))])


class TestBuffer:
    def test_offers_arrive_in_messages_of_many_ids(self, queues: RabbitMQ, working: Callable[..., list[Any]]) -> None:
        seen = working()
        buffer = broker.HintBuffer(lambda: broker.RabbitmqHints(queues.url), batch=10, high_water=100)
        buffer.offer(QUEUE, [str(number) for number in range(25)])

        eventually(lambda: sum(len(ids) for ids, _, _ in seen) == 25)
        assert sorted(len(ids) for ids, _, _ in seen) == [5, 10, 10]
        buffer.close(5)

    def test_it_drops_rather_than_fill_a_queue_above_the_mark(
        self, queues: RabbitMQ, hints: broker.RabbitmqHints
    ) -> None:
        hints.publish(QUEUE, [HintBatch(("x",))] * 3)
        eventually(lambda: hints.depth(QUEUE) == 3)
        buffer = broker.HintBuffer(lambda: broker.RabbitmqHints(queues.url), batch=1, high_water=5)
        buffer.offer(QUEUE, ["a", "b", "c", "d"])
        buffer.close(5)

        eventually(lambda: hints.depth(QUEUE) == 5)
        assert buffer.dropped == 2

    def test_an_offer_never_waits_for_a_broker_that_does_not_answer(self, black_hole: str) -> None:
        buffer = broker.HintBuffer(lambda: broker.RabbitmqHints(black_hole), batch=10, high_water=100)
        for _ in range(5000):
            buffer.offer(QUEUE, ["a"])

        assert buffer.dropped > 0
        buffer.close(0)


class TestConsuming:
    @pytest.mark.parametrize(
        "poison",
        [
            b"not json",
            b"[]",
            b"{}",
            envelope(options=None),
            envelope(options={"eta": 9e15}),
            envelope(options={"throws": "x"}, args=[]),
            envelope(options={"retries": "x"}, args=[]),
            envelope(actor_name="post"),
            envelope(kwargs=None),
            envelope(actor_name=[QUEUE]),
            envelope(queue_name="elsewhere"),
            envelope(actor_name="nobody"),
            envelope(args=[], kwargs={"odd": 1}),
        ],
    )
    def test_a_poisoned_message_is_rejected_and_those_behind_it_run(
        self,
        queues: RabbitMQ,
        hints: broker.RabbitmqHints,
        guarded: broker.GuardedBroker,
        working: Callable[..., list[Any]],
        poison: bytes,
    ) -> None:
        hints.depth(QUEUE)
        # As many as there are threads: one left alone might be survived.
        publish_raw(queues, poison)
        publish_raw(queues, poison)
        hints.publish(QUEUE, [HintBatch((str(number),)) for number in range(3)])
        seen = working()

        eventually(lambda: len(seen) == 3)
        eventually(lambda: depth(queues, f"{QUEUE}.XQ") == 2)

    def test_an_unforeseen_failure_goes_to_the_dead_letter_queue(
        self, queues: RabbitMQ, hints: broker.RabbitmqHints, guarded: broker.GuardedBroker
    ) -> None:
        def perform(ids: list[str]) -> None:
            raise ValueError(ids)

        dramatiq.actor(perform, actor_name=QUEUE, queue_name=QUEUE, broker=guarded)
        worker = dramatiq.Worker(guarded, queues={QUEUE}, worker_threads=1, worker_timeout=100)
        worker.start()
        hints.publish(QUEUE, [HintBatch(("a",))])

        eventually(lambda: depth(queues, f"{QUEUE}.XQ") == 1)
        worker.stop()

    def test_a_stale_acknowledgement_loses_no_other_message(
        self, queues: RabbitMQ, hints: broker.RabbitmqHints, guarded: broker.GuardedBroker
    ) -> None:
        guarded.declare_queue(QUEUE)
        hints.publish(QUEUE, [HintBatch(("old",)), HintBatch(("new",))])
        eventually(lambda: hints.depth(QUEUE) == 2)
        before = guarded.consume(QUEUE, prefetch=2, timeout=1000)
        stale = next(before)
        assert stale._tag == 1
        before.connection.close()  # the broker hands both out again, under tags that begin at 1
        after = guarded.consume(QUEUE, prefetch=4, timeout=1000)
        fresh = [next(after), next(after)]
        assert {message._tag for message in fresh} == {1, 2}

        after.ack(stale)
        after.nack(stale)
        after.connection.process_data_events(0.2)
        after.connection.close()

        eventually(lambda: hints.depth(QUEUE) == 2)
        assert depth(queues, f"{QUEUE}.XQ") == 0

    def test_an_acknowledgement_on_a_lost_connection_holds_nobody(
        self, hints: broker.RabbitmqHints, guarded: broker.GuardedBroker
    ) -> None:
        guarded.declare_queue(QUEUE)
        hints.publish(QUEUE, [HintBatch(("a",)), HintBatch(("b",))])
        consumer = guarded.consume(QUEUE, prefetch=4, timeout=2000)
        first, second = next(consumer), next(consumer)
        consumer.connection.close()

        consumer.ack(first)
        consumer.nack(second)

        eventually(lambda: hints.depth(QUEUE) == 2)

    def test_an_actor_knows_that_its_message_was_handed_out_before(
        self, hints: broker.RabbitmqHints, guarded: broker.GuardedBroker, working: Callable[..., list[Any]]
    ) -> None:
        guarded.declare_queue(QUEUE)
        hints.publish(QUEUE, [HintBatch(("a",))])
        first = guarded.consume(QUEUE, prefetch=2, timeout=2000)
        assert next(first) is not None
        first.connection.close()
        seen = working()

        eventually(lambda: seen == [(("a",), False, True)])

    def test_a_consumer_that_does_not_come_round_is_noticed(self, guarded: broker.GuardedBroker) -> None:
        guarded.declare_queue(QUEUE)
        consumer = guarded.consume(QUEUE, prefetch=2, timeout=10)
        began = guarded.beats[QUEUE]
        assert next(consumer) is None

        assert guarded.beats[QUEUE] > began
        assert hanging(guarded, guarded.beats[QUEUE] + 40) == []
        assert hanging(guarded, guarded.beats[QUEUE] + 50) == [QUEUE]
        consumer.close()

    def test_a_consumer_that_the_broker_has_forgotten_subscribes_again(
        self, hints: broker.RabbitmqHints, working: Callable[..., list[Any]]
    ) -> None:
        seen = working()
        [thread] = [one for one in threading.enumerate() if getattr(one, "queue_name", None) == QUEUE]
        eventually(lambda: hints.consumers(QUEUE) == 1)
        consumer = thread.consumer  # type: ignore[attr-defined]
        consumer.connection.add_callback_threadsafe(lambda: forget(consumer))
        eventually(lambda: hints.consumers(QUEUE) == 0)
        hints.publish(QUEUE, [HintBatch(("a",))])

        eventually(lambda: seen == [(("a",), False, False)])

    def test_a_consumer_whose_queue_has_gone_without_a_word_asks_for_its_declaration(
        self, queues: RabbitMQ, guarded: broker.GuardedBroker
    ) -> None:
        guarded.declare_queue(QUEUE, ensure=True)
        consumer = guarded.consume(QUEUE, prefetch=2, timeout=10)
        assert next(consumer) is None
        forget(consumer)
        consumer.connection.process_data_events(0.1)
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(queues.url))) as connection:
            connection.channel().queue_delete(QUEUE)

        with pytest.raises(ConnectionClosed):
            next(consumer)
        assert QUEUE in guarded.queues_pending
        consumer.connection.close()

    def test_a_consumer_whose_subscription_is_not_answered_gives_up(self, queues: RabbitMQ) -> None:
        with contextlib.closing(Proxy(urlsplit(queues.url).port or 0)) as proxy:
            guarded = broker.GuardedBroker(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F")
            guarded.declare_queue(QUEUE, ensure=True)
            consumer = guarded.consume(QUEUE, prefetch=2, timeout=10)
            proxy.set("freeze")

            with ThreadPoolExecutor(1) as asking:
                assert isinstance(asking.submit(next, consumer).exception(10), ConnectionClosed)
            proxy.set("pass")
            guarded.close()

    def test_a_process_holds_one_message_for_each_thread(
        self, hints: broker.RabbitmqHints, working: Callable[..., list[Any]]
    ) -> None:
        hold = threading.Event()
        seen = working(hold)
        hints.publish(QUEUE, [HintBatch((str(number),)) for number in range(10)])

        eventually(lambda: len(seen) == 2)
        eventually(lambda: hints.depth(QUEUE) == 8)
        hold.set()
        eventually(lambda: len(seen) == 10)


class TestMemory:
    def test_queues_in_memory_behave_alike(self) -> None:
        memory = broker.MemoryBroker()
        hints = broker.MemoryHints({QUEUE: memory}, batch=2, high_water=3)
        seen: list[Any] = []

        def perform(ids: list[str], alone: bool = False) -> None:
            seen.append((tuple(ids), alone))

        dramatiq.actor(perform, actor_name=QUEUE, queue_name=QUEUE, broker=memory)
        hints.offer(QUEUE, ["a", "b", "c", "d", "e"])
        hints.offer(QUEUE, ["dropped, because three messages wait"])
        hints.publish(QUEUE, [HintBatch(("f",), alone=True)])
        assert hints.depth(QUEUE) == 4

        worker = dramatiq.Worker(memory, worker_threads=1, worker_timeout=100)
        worker.start()
        eventually(lambda: len(seen) == 4)
        assert seen == [(("a", "b"), False), (("c", "d"), False), (("e",), False), (("f",), True)]
        assert not broker.was_redelivered()
        worker.stop()
        hints.rest()
        hints.close()
