"""The servers of a run, private and on loopback: PostgreSQL as it is installed, fsync on, and a RabbitMQ node."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pika
import psycopg2

from kongflow_events.embedded import DATABASE, EmbeddedPostgres
from tests.conftest import url_of
from tests.servers import RabbitMQNode, free_port, open_to_others

# The defaults of a server that is meant to lose nothing, said aloud, and room for every pool.
OPTIONS = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "128MB", "max_connections": "200"}


class Postgres:
    """A server with `options` of its own; `stamping` lets it remember when each transaction was committed.

    Its databases are dropped after use unless they are to be kept.
    """

    def __init__(
        self, data: Path, *, stamping: bool = False, keep: bool = False, options: Mapping[str, str] | None = None
    ) -> None:
        self._keep = keep
        stamps = {"track_commit_timestamp": "on"} if stamping else {}
        self.port = free_port()
        self.binaries = system_binaries()
        self._server = EmbeddedPostgres(
            data, binaries=self.binaries, port=self.port, options={**OPTIONS, **stamps, **(options or {})}
        )

    def start(self) -> None:
        """Start it."""
        self._server.start()

    def stop(self) -> None:
        """Stop it."""
        self._server.stop()

    @property
    def pid(self) -> int:
        """Its leader's process id."""
        assert self._server._process is not None
        return self._server._process.pid

    def url(self, database: str = DATABASE) -> str:
        """Where clients connect."""
        return url_of(self._server.url, database)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a database of its own."""
        name = f"bench_{uuid.uuid4().hex[:8]}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            if not self._keep:
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run one statement outside any transaction."""
        connection = psycopg2.connect(self.url())
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


class Rabbit(RabbitMQNode):
    """A node whose processor time can be asked."""

    @property
    def pid(self) -> int:
        """Its leader's process id."""
        assert self._node is not None
        return self._node.pid

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def empty(self, *queues: str) -> None:
        """Throw away what an earlier run left in them: it means nothing to the next."""
        for queue in queues:
            connection = self.connect()
            # A queue that nobody has declared yet is empty, and closes the channel.
            with suppress(pika.exceptions.AMQPError):
                connection.channel().queue_purge(queue)
            connection.close()


class Servers:
    """Everything that systems stand on; use as a context manager."""

    def __init__(self, home: Path | None = None, options: Mapping[str, str] | None = None) -> None:
        """`home` keeps the data of the servers; without it they are gone at the end. `options` go to PostgreSQL."""
        self._kept = home is not None
        self.home = home or Path(tempfile.mkdtemp(prefix="kf-bench-"))
        self.home.mkdir(parents=True, exist_ok=True)
        open_to_others(self.home)
        self.node = Rabbit()
        self.postgres = Postgres(self.home / "postgres", keep=self._kept, options=options)
        self.stamping = Postgres(self.home / "stamping", keep=self._kept, options=options, stamping=True)

    def __enter__(self) -> Servers:
        self.node.start()
        self.postgres.start()
        self.stamping.start()
        self.node.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.postgres.stop()
        self.stamping.stop()
        self.node.stop()
        if not self._kept:
            shutil.rmtree(self.home, ignore_errors=True)


def system_binaries() -> Path | None:
    """Where the newest PostgreSQL of the system is; None when there is only the embedded one."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max((one.parent for one in found), key=lambda one: int(one.parent.name), default=None)
