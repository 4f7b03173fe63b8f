"""RabbitMQ is killed, cut off, frozen, full, emptied and lied to: F6 to F13. Ingest must not notice any of it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import pika

from faults.run import Run
from faults.scenarios.registry import fault
from faults.sink import SLOW
from kongflow_events import settings, words
from kongflow_events.broker.hints import encode

# Seconds without a fault, to compare with.
_CALM = 4.0
_CONSUMERS_BACK = 10.0
# Messages that wait in a queue beyond which no more copies are made.
_ENOUGH = 1_000
_DELIVERED = 30.0
_FULL_OUTAGE = 60.0
# Seconds after which a relay without a sign of life is held by something: an answer may take three, a connection too.
_SILENT = 9.0


@fault("F6", "RabbitMQ kill -9 and restart", quick=True)
def killed(run: Run) -> None:
    """No request fails, and the consumers are back within ten seconds of the node."""
    with run.load():
        for _ in range(int(run.between(1, 3))):
            run.pause(2)
            run.world.journal.note("broker killed")
            run.world.node.kill()
            run.pause(1)
            _start(run)
            run.within(_CONSUMERS_BACK, "consumers back", run.world.consuming)
    run.expect_no_failed_request()


@fault("F7", "RabbitMQ is down while events come in", quick=True)
def down(run: Run) -> None:
    """Ingest is as fast as before; everything is delivered within 30 s of the return."""

    def break_it() -> None:
        run.world.to_broker.set("refuse")
        run.world.node.kill()

    def mend_it() -> None:
        _start(run)
        run.world.to_broker.set("pass")

    _outage(run, break_it, mend_it, 10)


@fault("F8", "RabbitMQ is a black hole: takes everything, answers nothing", quick=True)
def frozen(run: Run) -> None:
    """As when it is down; the connections that stood before are frozen too."""
    _outage(run, lambda: run.world.to_broker.set("freeze"), lambda: run.world.to_broker.set("pass"), 10)


@fault("F9", "RabbitMQ's memory alarm: publishers are blocked")
def alarm(run: Run) -> None:
    """As when it is down."""
    limit = "set_vm_memory_high_watermark"
    _outage(
        run,
        lambda: run.world.node.command(limit, "absolute", "1MB"),
        lambda: run.world.node.command(limit, "0.4"),
        8,
        full=30,
    )


@fault("F10", "queues purged and deleted", quick=True)
def emptied(run: Run) -> None:
    """Queues are declared again, consumers come back, and nothing is missing."""
    with run.load():
        for number in range(int(run.between(4, 12))):
            kind = run.random.choice(words.KINDS)
            connection = run.world.node.connect()
            channel = connection.channel()
            channel.queue_delete(kind) if number % 2 else channel.queue_purge(kind)
            connection.close()
            run.pause(run.between(1.5, 5))
        run.within(_CONSUMERS_BACK, "consumers back", run.world.consuming)
    run.expect_no_failed_request()


@fault("F11", "every connection to RabbitMQ is closed during slow calls, then the poster is killed", quick=True)
def connections_closed(run: Run) -> None:
    """Acknowledgements of before do not hit messages of after."""
    slow = run.add_hook("slow")
    with run.load(30):
        for _ in range(int(run.between(1, 3))):
            run.pause(3)
            run.world.node.command("close_all_connections", "the fault harness")
            run.within(_CONSUMERS_BACK, "consumers back", run.world.consuming)
            run.pause(1)
            run.world.processes.signal_group("poster", signal.SIGKILL)
            run.within(_CONSUMERS_BACK, "poster back", run.world.consuming)
    waiting = run.world.number(f"SELECT count(*) FROM outbox WHERE lane = '{slow.dispatcher_id}'")
    # More slow calls come than one target is made at a time.
    run.drain_bound += waiting * SLOW / settings.Settings().target_concurrency
    run.expect_no_failed_request()


@fault("F12", "every hint ten times, shuffled", quick=True)
def duplicated(run: Run) -> None:
    """Nothing is done twice, and no call is repeated."""
    until = time.monotonic() + run.between(6, 20)
    run.expect_no_repeats = True
    with run.load():
        connection = run.world.node.connect()
        channel = connection.channel()
        while time.monotonic() < until:
            # Ten times what there is to do is enough; more would only be a backlog of the harness's own.
            busy = max(run.world.look(kind)[0] for kind in words.KINDS) > _ENOUGH
            owed = [] if busy else run.world.rows("SELECT kind, subject_id::text FROM outbox LIMIT 30")
            bodies = [(str(kind), encode(str(kind), words.HintBatch((str(one),)))) for kind, one in owed] * 10
            run.random.shuffle(bodies)
            for kind, body in bodies:
                channel.basic_publish("", kind, body, pika.BasicProperties(delivery_mode=2))
            connection.process_data_events(0.2)
        connection.close()
    # These queues were filled by the harness, past the mark that the service keeps to.
    run.depth_bound = 1_000_000


@fault("F13", "overload: workers at a third of what comes in, no poster at all", quick=True)
def overload(run: Run) -> None:
    """The queues stay shallow, and the backlog goes away as fast as it can be worked on."""
    mark = 50
    for name in ("scheduler-1", "scheduler-2", "worker-1", "worker-2", "poster"):
        run.world.processes.dress(name, KONGFLOW_BATCH="1", KONGFLOW_HIGH_WATER=str(mark))
    until = time.monotonic() + run.between(12, 120)
    with run.load(), _stopped(run, "poster"):
        while time.monotonic() < until:
            with _stopped(run, "worker-1"), _stopped(run, "worker-2"):
                time.sleep(0.7)
            time.sleep(0.3)
    # Two relays, four workers and a poster may each fill what another has just filled. The drain goes by the usual mark.
    run.expect_shallow(4 * mark)
    backlog = run.world.owed()
    run.measured["backlog"] = backlog
    run.drain_bound = 10 + 1.2 * backlog / 60


@contextlib.contextmanager
def _stopped(run: Run, name: str) -> Iterator[None]:
    run.world.processes.signal_group(name, signal.SIGSTOP)
    try:
        yield
    finally:
        run.world.processes.signal_group(name, signal.SIGCONT)


def _outage(
    run: Run,
    break_it: Callable[[], object],
    mend_it: Callable[[], object],
    seconds: float,
    full: float = _FULL_OUTAGE,
) -> None:
    """Load, an outage of the broker in the middle of it, its return; ingest must not notice."""
    with run.load():
        calm, began = run.stretch(_CALM), time.time()
        run.world.journal.note("broker away")
        break_it()
        run.pause(run.between(seconds, full))
        ended = time.time()
        silence = run.world.silence()
        mend_it()
        run.world.journal.note("broker back")
        delivered = "SELECT count(*) FROM event_records WHERE delivered_at IS NOT NULL"
        before = run.world.number(delivered)
        run.within(_CONSUMERS_BACK, "deliveries after the return", lambda: run.world.number(delivered) > before)
    run.within(_DELIVERED, "all delivered after the return", lambda: run.world.owed() == 0)
    run.measured["longest silence of a relay, s"] = silence
    run.expect(silence < _SILENT, f"a relay was held by the broker: it has said nothing for {silence:.1f} s")
    run.expect_no_failed_request()
    run.expect_latency(calm, (began, ended), 1.5)


def _start(run: Run) -> None:
    run.world.node.start()
    run.world.node.wait()
