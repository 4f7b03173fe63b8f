"""What the benchmarks of a backlog stand on: servers of their own, the Procfile's processes, and a look at the machine."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from faults.machines import Every, Gauge, Postgres, Rabbit
from faults.world import start
from kongflow_events import signing, words
from kongflow_events.store import db, schema
from tests.processes import Http, procfile, query, running
from tests.servers import free_port, open_to_others

# Seconds between two looks at the queues.
_LOOK = 0.1


class Stage:
    """A PostgreSQL that keeps the time of each commit, a RabbitMQ, and a database; use as a context manager.

    `environ` goes to every process.
    """

    def __init__(self, **environ: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="kf-bench-"))
        open_to_others(self.home)
        self.home.chmod(0o755)
        # The time of a commit is when others see the row; the column's own default is when its transaction began.
        self._postgres = Postgres(self.home / "postgres", track_commit_timestamp="on")
        self._node = Rabbit()
        self._port = free_port()
        self._own = environ
        self.deepest = dict.fromkeys(words.KINDS, 0)

    def __enter__(self) -> Stage:
        self._node.start()
        self._postgres.start()
        self._node.wait()
        self.database = self._postgres.url()
        schema.migrate(self.database)
        db.connect(self.database, pool_size=4, statement_seconds=600)
        return self

    def __exit__(self, *_: object) -> None:
        db.close()
        self._postgres.stop()
        self._node.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def processes(self, *names: str) -> Iterator[list[int]]:
        """Run these types of the Procfile until the end, and look at the queues meanwhile; gives the leaders' ids."""
        environ = {
            "DATABASE_URL": self.database,
            "RABBITMQ_URL": self._node.url,
            "PORT": str(self._port),
            "WEB_CONCURRENCY": "1",
            "KONGFLOW_ALLOWED_NETWORKS": "127.0.0.0/8",
            **self._own,
        }
        gauge = Gauge(self._node)
        with running([procfile()[name] for name in names], environ, self.home / "processes.log") as started:
            if "web" in names:
                self.http("").wait()
            with Every(_LOOK, lambda: self._look(gauge)):
                yield [process.pid for process in started]

    def http(self, key: str) -> Http:
        """The API, asked with this key."""
        return Http(f"http://127.0.0.1:{self._port}", key)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return query(self.database, statement)

    def number(self, statement: str) -> float:
        """The one number that a statement asks for."""
        return float(self.rows(statement)[0][0])

    def execute(self, statement: str, **values: Any) -> None:
        """Run one statement outside any transaction."""
        connection = psycopg2.connect(self.database)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
        finally:
            connection.close()

    def restart_database(self) -> None:
        """Have PostgreSQL begin with nothing in its own memory."""
        self._postgres.stop()
        self._postgres.start()

    def owed(self) -> bool:
        """Whether anything is left to be done."""
        return bool(self.rows("SELECT EXISTS (SELECT FROM outbox WHERE died_at IS NULL)")[0][0])

    def _look(self, gauge: Gauge) -> None:
        for kind in words.KINDS:
            self.deepest[kind] = max(self.deepest[kind], gauge.look(kind)[0])


@contextmanager
def sink(home: Path) -> Iterator[tuple[str, Path]]:
    """A receiver of calls in a process of its own: its URL, and the file in which it writes them down."""
    log = home / "sink.jsonl"
    process = start([sys.executable, "-m", "faults.sink", str(log), signing.new_secret("hmac")], home / "sink.log")
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}", log
    finally:
        process.kill()
        process.wait()


def load() -> str:
    """How busy the machine is, in words: run before and after, because others may be working on it too."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def row(*cells: object) -> None:
    """Print one line of a table in markdown; a float with one decimal."""
    print(
        "| " + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def heading(*cells: str) -> None:
    """Print the head of a table."""
    row(*cells)
    row(*("---" for _ in cells))
