"""The scheduler process: the relay's tick, operations' steps, expiry, and signs of life and trouble, on APScheduler's clock.

Any number may run: claims skip each other's rows, and the jobs are safe to run twice. What is *due* is always asked of
the database's clock; this process's clock only says how often to look.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.interval import IntervalTrigger

from kongflow_events import beats, errors, exposition, memory, metrics, settings, starting, words
from kongflow_events import broker as brokers
from kongflow_events.services import expire, health, redrive, relay, replay, retain
from kongflow_events.store import db

log = structlog.get_logger(__name__)

_EXPIRE_SECONDS = 1
_BEAT_SECONDS = 1
# One for each thread of its jobs, and one for whoever reads the metrics.
CONNECTIONS = 5
_QUEUES_SECONDS = 5
# How often old events are looked for, and in how many batches.
_RETAIN_SECONDS = 5
_RETAIN_BATCHES = 10
# How often one step of the operations that are due is taken.
_STEP_SECONDS = 0.1
_SNAPSHOT_SECONDS = 5
# A bucket that stays a while costs a few bytes; looking for it reads them all.
_BUCKETS_SECONDS = 10
# A wall clock that moved this much against the monotonic one was set: the next runs stand in the wrong place.
_CLOCK_STEP = 2.0


def main(current: settings.Settings) -> None:
    """Run a scheduler on RabbitMQ until SIGTERM or SIGINT; the tick that is under way is finished."""
    starting.begin(current, "scheduler")
    exposition.serve(current)
    db.connect(current.database_url, pool_size=CONNECTIONS, statement_seconds=5)
    scheduler = build(BlockingScheduler, current, brokers.RabbitmqHints(current.rabbitmq_url))
    # Not from the signal handler itself: it interrupts the very thread that has to let go of the scheduler's lock.
    stopping = threading.Thread(target=scheduler.shutdown, name="stopping")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None if stopping.ident else stopping.start())
    memory.settle()
    log.info("scheduler started", tick_ms=current.tick_ms)
    scheduler.start()
    stopping.join()
    db.close()


def build(kind: type[BaseScheduler], current: settings.Settings, hints: brokers.Publisher) -> BaseScheduler:
    """A scheduler of this `kind` with all jobs on it, whose relay publishes through `hints`; not started."""
    # A drain that takes longer than a tick is no fault: the library's warning about it would be noise.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    scheduler = kind(
        # The relay keeps to one thread, because its connection to the broker belongs to it.
        executors={"relay": ThreadPoolExecutor(1), "default": ThreadPoolExecutor(3)},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        timezone="UTC",
    )
    ticking = relay.Relay(hints, batch=current.batch, high_water=current.high_water, places=current.target_concurrency)

    pace = relay.Pace()

    def tick() -> None:
        if pace.is_time(time.monotonic()):
            pace.note(ticking.tick(), time.monotonic())
        hints.rest()

    instance = beats.instance()
    _every(scheduler, current.tick_ms / 1000, tick, executor="relay")
    _every(scheduler, _EXPIRE_SECONDS, _in_unit(expire.expire_dispatchers))
    _every(scheduler, _EXPIRE_SECONDS, _in_unit(expire.expire_secrets))
    _every(scheduler, _STEP_SECONDS, _in_unit(redrive.advance_redrives))
    _every(scheduler, _STEP_SECONDS, _in_unit(replay.advance_replays))
    keeping = retain.Retention(timedelta(days=current.retention_days), timedelta(days=current.dead_retention_days))
    _every(scheduler, _RETAIN_SECONDS, _in_unit(lambda: keeping.advance(_RETAIN_BATCHES)))
    _every(scheduler, _BUCKETS_SECONDS, _in_unit(expire.expire_buckets))
    watch = health.SnapshotWatch(current.snapshot_alarm)
    _every(scheduler, _SNAPSHOT_SECONDS, _in_unit(watch.look))
    # The beat keeps to the relay's thread: a relay that hangs must not look alive.
    _every(scheduler, _BEAT_SECONDS, _in_unit(lambda: health.beat("scheduler", instance)), executor="relay")
    # On the relay's thread too, because the connection to the broker is its own.
    _every(scheduler, _QUEUES_SECONDS, lambda: _look_at_queues(hints), executor="relay")
    scheduler.add_listener(_log_failure, EVENT_JOB_ERROR)
    threading.Thread(target=_watch_clock, args=(scheduler,), daemon=True, name="clock-watch").start()
    return scheduler


def _every(scheduler: BaseScheduler, seconds: float, work: Callable[[], object], executor: str = "default") -> None:
    scheduler.add_job(work, IntervalTrigger(seconds=seconds, timezone="UTC"), executor=executor)


def _in_unit(work: Callable[[], object]) -> Callable[[], None]:
    def job() -> None:
        try:
            with db.unit():
                work()
        except db.AWAY as error:
            log.warning("the database is away", reason=str(error).strip())

    return job


def _look_at_queues(hints: brokers.Publisher) -> None:
    """Say how full the queues are, while the broker can be asked; that it cannot is the relay's to say."""
    with suppress(errors.Retryable):
        for kind in words.KINDS:
            metrics.QUEUE_DEPTH.set(hints.depth(kind), kind)
            metrics.QUEUE_CONSUMERS.set(hints.consumers(kind), kind)


def _log_failure(event: JobExecutionEvent) -> None:
    log.error("a scheduled job failed", job=event.job_id, exc_info=event.exception)


def _watch_clock(scheduler: BaseScheduler) -> None:
    """Re-arm every job when the wall clock was set: after a step backwards their next runs lie in the old future."""
    offset = time.time() - time.monotonic()
    while True:
        time.sleep(1)
        drift = time.time() - time.monotonic() - offset
        if abs(drift) > _CLOCK_STEP and scheduler.running:
            log.warning("the wall clock was set; every job runs now", seconds=round(drift, 1))
            offset += drift
            for job in scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
