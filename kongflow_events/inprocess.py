"""The working process of `dev`: scheduler, in-process broker and worker threads in one.

Messages live in memory, which is good enough because they are only hints: what is owed stands in PostgreSQL, and the
relay hints it again at the next start.
"""

from __future__ import annotations

import dramatiq
from apscheduler.schedulers.background import BackgroundScheduler

from kongflow_events import actors, beats, exposition, scheduler, settings, starting
from kongflow_events import broker as brokers
from kongflow_events.interrupts import Stopping, until_interrupted
from kongflow_events.store import db

# Calls to URLs get a broker and threads of their own: a slow target must not hold up work inside PostgreSQL.
_THREADS = {("deliver", "invoke"): 4, ("post",): 8}
_STOP_MS = 15_000


def main(current: settings.Settings) -> None:
    """Run until SIGTERM or SIGINT; what is being worked on is finished."""
    starting.begin(current, "worker")
    exposition.serve(current)
    with until_interrupted() as stopping:
        _run(current, stopping)


def _run(current: settings.Settings, stopping: Stopping) -> None:
    db.connect(current.database_url, pool_size=sum(_THREADS.values()) + scheduler.CONNECTIONS)
    by_queue = {queue: broker for queues in _THREADS for broker in [brokers.MemoryBroker()] for queue in queues}
    hints = brokers.MemoryHints(by_queue, batch=current.batch, high_water=current.high_water)
    for broker in set(by_queue.values()):
        actors.declare(broker, hints)
    workers = [
        dramatiq.Worker(by_queue[queues[0]], queues=set(queues), worker_threads=threads)
        for queues, threads in _THREADS.items()
    ]
    for worker in workers:
        worker.start()
    ticking = scheduler.build(BackgroundScheduler, current, hints)
    ticking.start()
    beats.begin("worker")
    stopping.wait()
    ticking.shutdown()
    for worker in workers:
        worker.stop(timeout=_STOP_MS)
    db.close()


if __name__ == "__main__":
    main(settings.current())
