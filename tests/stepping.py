"""Two at once, in any order that a test chooses: a thread halts before each of its statements until it is told to go on.

Nothing sleeps and nothing is left to luck: a thread stands still at a halt, has ended, or waits for a lock, and which of
them it is, the database says.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from kongflow_events.store import db

# Seconds between two looks at the database for a lock that a thread may wait for, and until a test gives up.
_LOOK = 0.002
_PATIENCE = 30.0

_here = threading.local()


class Killed(BaseException):
    """What a worker meets that is killed: no `except Exception` sees it, and the database rolls back."""


class Worker:
    """Does `work` in a thread of its own, on a connection of its own, one statement at a time.

    It halts before every statement (BEGIN and COMMIT are statements), or with `transactions` only before those that
    begin a transaction. A worker that is not driven to its end has to be killed.
    """

    def __init__(self, work: Callable[[], Any], *, transactions: bool = False) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.backend: int | None = None
        self._work = work
        self._done = False
        self._transactions = transactions
        self._halted = threading.Event()
        self._going = threading.Event()
        self._meets: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._halted.wait(_PATIENCE)

    @property
    def ended(self) -> bool:
        """Whether it has nothing left to do."""
        return self._halted.is_set() and self._done

    @property
    def halted(self) -> bool:
        """Whether it stands before a statement, waiting to be told to go on."""
        return self._halted.is_set() and not self._done

    def go(self) -> None:
        """Let it execute the statement it stands before; returns at once."""
        self._halted.clear()
        self._going.set()

    def step(self, meets: BaseException | None = None) -> None:
        """Let it go on to its next halt or its end; with `meets`, its statement raises that in place of being executed."""
        self._meets = meets
        self.go()
        assert self._halted.wait(_PATIENCE), "it waits for a lock that only another step could release"

    def kill(self) -> None:
        """End it where it stands; what it did not commit is rolled back."""
        meets: BaseException | None = Killed()
        while not self.ended:
            self.step(meets)
            # What it still says to the database is its ROLLBACK.
            meets = None

    def settle(self, look: Callable[[int], bool]) -> None:
        """Wait until it halts, ends, or waits for a lock; `look` tells of a backend whether it does."""
        while not self._halted.wait(_LOOK):
            if self.backend is not None and look(self.backend):
                return

    def halt(self, connection: Any) -> None:
        """Called by the worker's own thread before each statement."""
        if self._transactions and connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
            return
        self.backend = connection.info.backend_pid
        self._halted.set()
        assert self._going.wait(_PATIENCE)
        self._going.clear()
        if self._meets is not None:
            meets, self._meets = self._meets, None
            raise meets

    def _run(self) -> None:
        _here.worker = self
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the test's to judge
            self.error = error
        self._done = True
        self._halted.set()


@contextmanager
def halting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store with a halt before each statement of a `Worker`; everybody else passes.

    That a connection plans a statement, the first time it has it, is no step of the work.
    """
    pool: Any = db._Pool
    cursor, planned = pool.cursor, db.Prepared.planned

    def at_once(self: db.Prepared) -> str:
        worker, _here.worker = getattr(_here, "worker", None), None
        try:
            return planned(self)
        finally:
            _here.worker = worker

    def halted(self: Any, *arguments: Any) -> Any:
        worker: Worker | None = getattr(_here, "worker", None)
        if worker is not None:
            worker.halt(self.connection())
        return cursor(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pool, "cursor", halted)
        patch.setattr(db.Prepared, "planned", at_once)
        yield


class Interleaving:
    """Runs pieces of work at the same time, one statement after another, in orders that a test draws."""

    def __init__(self, url: str) -> None:
        self._observer = psycopg2.connect(url)
        self._observer.autocommit = True

    def close(self) -> None:
        """Give the observer's connection back."""
        self._observer.close()

    def __call__(self, order: Iterable[int], *works: Callable[[], Any]) -> list[Any]:
        """Do all of `works`; `order` says whose turn it is, statement for statement, and then they take turns.

        One that waits for a lock is passed over. Returns what each returned; raises what one of them raised.
        """
        workers = [Worker(work) for work in works]
        for turn in itertools.chain(order, itertools.cycle(range(len(workers)))):
            for worker in workers:
                worker.settle(self._waits_for_a_lock)
            if all(worker.ended for worker in workers):
                break
            able = [worker for worker in workers if worker.halted]
            chosen = workers[turn]
            if able:
                (chosen if chosen in able else able[0]).go()
        for worker in workers:
            if worker.error is not None:
                raise worker.error
        return [worker.result for worker in workers]

    def _waits_for_a_lock(self, backend: int) -> bool:
        with self._observer.cursor() as cursor:
            cursor.execute("SELECT pg_blocking_pids(%s) <> '{}'", (backend,))
            [(waits,)] = cursor.fetchall()
        return bool(waits)
