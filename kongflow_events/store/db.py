"""The process's one pool of connections, and what a unit of work with it looks like.

Open a unit with `unit()` around each request and each actor call: it takes a connection from the pool, and whatever
happens gives it back clean. Inside it, a single statement commits by itself; `atomic()` makes several commit together.
"""

from __future__ import annotations

import heapq
import os
import re
import select
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import peewee
import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
from playhouse.pool import MaxConnectionsExceeded, PooledDatabase, PooledPostgresqlDatabase

from kongflow_events import metrics, models, waiting


class ReadOnly(peewee.OperationalError):
    """The server takes no writes, as after a failover. The driver files it under mistakes of the program."""


# What the driver and Peewee raise when the server is away, ends the session, or has no connection left for us.
AWAY = (
    peewee.OperationalError,
    peewee.InterfaceError,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    MaxConnectionsExceeded,
)

Row = dict[str, Any]
Result = TypeVar("Result")


# Seconds that a server gets to end a statement by itself, before the client gives it up.
_GRACE = 1.0
# Seconds that a server gets to take a connection.
_DIAL = 2.0
_patience: float | None = None


class _Pool(PooledPostgresqlDatabase):  # type: ignore[misc]  # playhouse ships no types
    """The pool without a question to the server at each check-out: a connection that it ended has something to read.

    It dials ahead of its lock: while a server takes no connections, nobody waits for the dials of others.

    A thread has a connection of its own, and so has a task, of which half as many as there are connections have one.
    """

    _dialling = 0

    def __init__(self, url: str, max_connections: int, **options: Any) -> None:
        super().__init__(url, max_connections=max_connections, **options)
        # Each state is its owner's alone, and the pool has its own lock: this one would be held while a task waits.
        self._lock = nullcontext()
        self._places = waiting.Places(max(max_connections // 2, 1))

    @property
    def _state(self) -> Any:
        return self._states.get()

    @_state.setter
    def _state(self, _threads_own: object) -> None:
        self._states = waiting.Own(peewee._ConnectionState)  # noqa: SLF001 - what the constructor has for threads alone

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection from the pool, into which a fresh one is put first when it has none to give."""
        try:
            return self._connect_in_place(reuse_if_open)
        except MaxConnectionsExceeded:
            metrics.POOL_EXHAUSTED.add()
            raise

    def close(self) -> bool:
        """Give the connection back; returns whether there was one."""
        had_one: bool = super().close()
        if had_one:
            self._places.give()
        return had_one

    def _connect_in_place(self, reuse_if_open: bool) -> bool:
        if not self._places.take(self._wait_timeout):
            raise MaxConnectionsExceeded
        try:
            return self._take(reuse_if_open)
        except BaseException:
            self._places.give()
            raise

    def _take(self, reuse_if_open: bool) -> bool:
        if self._has_to_dial():
            try:
                # The pool's own comes with the lock.
                fresh = super(PooledDatabase, self)._connect()
            finally:
                with self._pool_lock:
                    self._dialling -= 1
            with self._pool_lock:
                self._heap_counter += 1
                heapq.heappush(self._connections, (time.time(), self._heap_counter, fresh))
        taken: bool = super().connect(reuse_if_open)
        return taken

    def _has_to_dial(self) -> bool:
        with self._pool_lock:
            while self._connections and self._is_closed(self._connections[0][2]):
                heapq.heappop(self._connections)
            if self._connections or len(self._in_use) + self._dialling >= self._max_connections:
                return False
            self._dialling += 1
            return True

    def _is_closed(self, conn: Any) -> bool:
        return bool(conn.closed) or waiting.ready(conn.fileno(), 0)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(sql, params)
        except peewee.InternalError as error:
            if isinstance(error.__context__, psycopg2.errors.ReadOnlySqlTransaction):
                raise ReadOnly(*error.args) from error
            raise


class _Door(peewee.DatabaseProxy):
    """The process's pool, or the one that `through` names for what happens inside it."""

    def __getattr__(self, name: str) -> Any:
        other = _other.get()
        return super().__getattr__(name) if other is None else getattr(other, name)


_other: ContextVar[_Pool | None] = ContextVar("other", default=None)
_database = _Door()
for _table in models.TABLES:
    _table.bind(_database, bind_refs=False, bind_backrefs=False)


def _wait(connection: Any) -> None:
    """Wait for the server's part of a statement, but not for ever: one that is frozen answers no time-out of its own.

    The driver closes the connection when this raises.
    """
    patience = _DIAL if connection.status == psycopg2.extensions.STATUS_SETUP else _patience
    deadline = None if _patience is None or patience is None else time.monotonic() + patience
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        events = select.POLLIN if state == psycopg2.extensions.POLL_READ else select.POLLOUT
        left = 3600.0 if deadline is None else deadline - time.monotonic()
        if left <= 0 or not waiting.ready(connection.fileno(), left, events):
            raise psycopg2.OperationalError("the database does not answer")


psycopg2.extensions.set_wait_callback(_wait)


def connect(url: str, pool_size: int = 8, *, statement_seconds: float = 10, wait_seconds: float = 1) -> None:
    """Point this process's store at `url`. Opens nothing yet.

    `statement_seconds` bounds every statement, also against a server that has stopped to answer at all; locks get a
    third of it. `wait_seconds` is how
    long a unit of work waits for a free connection of the pool before it fails as AWAY.
    """
    global _patience  # noqa: PLW0603 - the driver's callback knows no connection's own limits
    _patience = statement_seconds + _GRACE
    _database.initialize(pool(url, pool_size, statement_seconds, wait_seconds))


def pool(url: str, size: int, statement_seconds: float, wait_seconds: float, options: str = "") -> _Pool:
    """A pool of connections to `url` whose statements are bounded; `options` are the server's own, added to ours."""
    milliseconds = int(statement_seconds * 1000)
    return _Pool(
        url,
        max_connections=size,
        timeout=wait_seconds,
        autoconnect=False,
        # A server that takes no answer within these bounds must not hold a thread: see AWAY.
        connect_timeout=2,
        tcp_user_timeout=3000,
        keepalives_idle=10,
        application_name="kongflow-events",
        options=(
            f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds // 3}"
            f" -c idle_in_transaction_session_timeout={milliseconds + 5000} -c timezone=UTC -c jit=off"
            # A plan may be made while a table is all but empty, and is kept: it must not be to read the whole of it.
            f" -c enable_seqscan=off {options}"
        ),
    )


def close() -> None:
    """Close every connection of the pool that is not in use, and those in use when they come back."""
    global _patience  # noqa: PLW0603 - as above
    _patience = None
    if _database.obj is not None:
        _database.close_all()


def _forget_after_fork() -> None:
    """A forked child must not speak on its parent's connections."""
    if _database.obj is not None:
        _database.dispose()


os.register_at_fork(after_in_child=_forget_after_fork)
psycopg2.extras.register_default_jsonb(globally=True, loads=msgspec.json.decode)
psycopg2.extras.register_uuid()


@contextmanager
def through(other: _Pool) -> Iterator[None]:
    """A unit of work on a connection of another pool: every statement inside, whoever makes it, goes there."""
    before = _other.set(other)
    try:
        with other.connection_context():
            yield
    finally:
        _other.reset(before)


@contextmanager
def unit() -> Iterator[None]:
    """A unit of work on one connection; nested units share the outermost one's."""
    if not _database.is_closed():
        yield
        return
    with _database.connection_context():
        yield


@contextmanager
def atomic() -> Iterator[None]:
    """Everything inside commits together or not at all. Joins a transaction that is already open."""
    if _database.in_transaction():
        yield
        return
    with _database.transaction():
        yield


def in_transaction() -> bool:
    """Whether this thread is inside `atomic()`."""
    inside: bool = _database.in_transaction()
    return inside


@contextmanager
def savepoint() -> Iterator[None]:
    """Everything inside is undone when it raises; the transaction around it, which there must be, can go on."""
    with _database.savepoint():
        yield


def rows(sql: str, parameters: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[Row]:
    """Run one statement and return its rows as dictionaries, in order."""
    cursor = _database.execute_sql(sql, parameters)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def run(sql: str, parameters: Mapping[str, Any] | tuple[Any, ...] = ()) -> int:
    """Run one statement that returns no rows; returns how many it changed."""
    count: int = _database.execute_sql(sql, parameters).rowcount
    return count


class Prepared:
    """A statement that each connection plans once: for what runs so often that planning it costs as much as running it.

    Written like any other, with `%(name)s` for a parameter, and a cast behind each whose type its place does not tell.
    The plan knows no values, so it has to be the right one for all of them. After a change of the schema it is made anew.
    """

    def __init__(self, name: str, sql: str) -> None:
        self.sql = sql
        self._name = name
        casts: dict[str, str] = {}
        for parameter, cast in _PARAMETER.findall(sql):
            casts[parameter] = casts.get(parameter) or cast
        numbers = {parameter: number for number, parameter in enumerate(casts, 1)}
        self._prepare = f"PREPARE {name} AS {_PARAMETER.sub(lambda found: f'${numbers[found[1]]}{found[2]}', sql)}"
        self._execute = f"EXECUTE {name} ({', '.join(f'%({parameter})s{cast}' for parameter, cast in casts.items())})"

    def rows(self, parameters: Mapping[str, Any]) -> list[Row]:
        """Run it and return its rows as dictionaries, in order."""
        return rows(self.planned(), _with_arrays(parameters))

    def run(self, parameters: Mapping[str, Any]) -> int:
        """Run it; returns how many rows it changed."""
        return run(self.planned(), _with_arrays(parameters))

    def planned(self) -> str:
        """The statement that runs it on this unit's connection, which has planned it by then."""
        known = _prepared.setdefault(_database.connection(), set())
        if self._name not in known:
            run(self._prepare)
            known.add(self._name)
        return self._execute


def rows_in_turn(statements: Sequence[Prepared], parameters: Mapping[str, Any]) -> list[Row]:
    """Run several with the same parameters, on one way to the server and in one transaction; the rows of the last.

    Each sees what others have committed before it begins, and so behind the locks that those before it have taken.
    """
    return rows("; ".join([statement.planned() for statement in statements]), _with_arrays(parameters))


def _with_arrays(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with each list as one literal: as the driver writes them, the server parses element by element."""
    return {name: _array(value) if isinstance(value, list) else value for name, value in parameters.items()}


def _array(values: list[Any]) -> str:
    if values.count(None) == len(values):
        return f"{{{','.join(['NULL'] * len(values))}}}"
    return f"{{{','.join([_WRITERS[type(value)](value) for value in values])}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class _Writers(dict[type, Callable[[Any], str]]):
    """How the elements of an array literal are written, by their type; a subclass goes as what it is."""

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        found = next(write for known, write in self.items() if issubclass(kind, known))
        self[kind] = found
        return found


_WRITERS: Final = _Writers(
    {
        str: _quoted,
        datetime: lambda at: _quoted(at.isoformat()),
        type(None): lambda _: "NULL",
        # PostgreSQL takes an id without its hyphens, and these digits are made in a third of the time.
        uuid.UUID: lambda one: f"{one.int:032x}",
        int: str,
    }
)
_PARAMETER: Final = re.compile(r"%\((\w+)\)s((?:::\w+(?:\[\])?)?)")
_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def now() -> datetime:
    """The database's clock: when a transaction is open, the time at which it began."""
    at: datetime = rows("SELECT now() AS now")[0]["now"]
    return at


def is_locked_out(error: BaseException) -> bool:
    """Whether it is another transaction's lock that a statement failed for, and not the server."""
    return isinstance(_cause(error), (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected))


def retrying_deadlocks(work: Callable[[], Result]) -> Result:
    """Run `work`, a whole transaction, again when the database chose it as a deadlock's victim; three times at most."""
    for _ in range(2):
        try:
            return work()
        except peewee.OperationalError as error:
            if not isinstance(_cause(error), psycopg2.errors.DeadlockDetected):
                raise
    return work()


def is_too_slow(error: BaseException) -> bool:
    """Whether the server ended the statement because it took longer than it may."""
    return isinstance(_cause(error), psycopg2.errors.QueryCanceled)


def _cause(error: BaseException) -> BaseException:
    """What the driver raised: Peewee wraps it in a class that tells less."""
    cause: BaseException = getattr(error, "orig", error)
    return cause
