"""The two servers, private to a run: a PostgreSQL that can crash, and a RabbitMQ node that takes commands."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import psycopg2

from kongflow_events.embedded import DATABASE, USER, EmbeddedPostgres
from tests.conftest import url_of
from tests.servers import RabbitMQNode, free_port

_CTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
# Connections that the server allows; the service's pools together may hold fewer.
MOST_CONNECTIONS = 300


class Postgres:
    """A server with fsync on, at a loopback port and a socket."""

    def __init__(self, data: Path, **options: str) -> None:
        self.port = free_port()
        self._data = data
        settings = {"max_connections": str(MOST_CONNECTIONS), "shared_buffers": "256MB", **options}
        self._server = EmbeddedPostgres(data, port=self.port, options=settings)

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self._data

    @property
    def password(self) -> str:
        """What its clients say."""
        return (self._data.parent / f"{self._data.name}.password").read_text(encoding="ascii")

    def start(self) -> None:
        """Start it, again after a crash, and wait until it answers; raises EmbeddedPostgresError."""
        self._server.start()

    def crash(self) -> None:
        """End it at once: no checkpoint, nothing written back, every session broken."""
        process = self._server._process
        assert process is not None
        process.send_signal(signal.SIGQUIT)
        process.wait()

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self._server.alive

    def stop(self) -> None:
        """Shut it down."""
        self._server.stop()

    def url(self, database: str = DATABASE) -> str:
        """Where the harness itself connects: past the proxy."""
        return url_of(self._server.url, database)

    def url_through(self, port: int, database: str) -> str:
        """Where the service connects: through the proxy at `port`."""
        return f"postgresql://{USER}:{quote(self.password)}@127.0.0.1:{port}/{database}"

    def execute(self, statement: str, database: str = DATABASE) -> None:
        """Run one statement outside any transaction."""
        connection = psycopg2.connect(self.url(database))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


class Rabbit(RabbitMQNode):
    """A node of the harness's own."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def url_through(self, port: int) -> str:
        """Where the service connects: through the proxy at `port`."""
        return f"amqp://guest:guest@127.0.0.1:{port}/%2F"

    def command(self, *words: str) -> None:
        """Run `rabbitmqctl` on this node; raises CalledProcessError with its words."""
        subprocess.run([_CTL, *words], env=self._environ, check=True, capture_output=True, timeout=60)

    def publish(self, queue: str, bodies: list[bytes]) -> None:
        """Put raw messages into a queue."""
        connection = self.connect()
        channel = connection.channel()
        for body in bodies:
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent))
        connection.close()


class Gauge:
    """Looks at queues over a connection of its own, for one thread; knows nothing while the broker is away."""

    def __init__(self, node: Rabbit) -> None:
        self._node = node
        self._channel: Any = None

    def look(self, queue: str) -> tuple[int, int]:
        """How many messages wait in a queue, and how many consumers it has; (0, 0) while nobody can be asked."""
        try:
            if self._channel is None or not self._channel.is_open:
                parameters = pika.URLParameters(self._node.url + "?socket_timeout=1&stack_timeout=2")
                self._channel = pika.BlockingConnection(parameters).channel()
            found = self._channel.queue_declare(queue, passive=True).method
        except Exception:  # noqa: BLE001 - a broker that is killed while it is asked fails in many ways
            self._channel = None
            return (0, 0)
        return (found.message_count, found.consumer_count)


class Every:
    """Does something again and again in a thread of its own, until the end of `with`."""

    def __init__(self, seconds: float, work: Any) -> None:
        self._seconds = seconds
        self._work = work
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Every:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self._work()


def members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[2]) == group:
            found.append(int(entry.name))
    return sorted(found)


def bearing(mark: str) -> list[tuple[int, int]]:
    """The living processes that bear `mark` (a variable and its value) in their environment, each with its group.

    Numbers of processes and groups are given again: what is ended by its number must be known to be ours.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environ = (entry / "environ").read_bytes().split(b"\0")
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if mark.encode() in environ and fields[0] != "Z":
            found.append((int(entry.name), int(fields[2])))
    return found


def threads_and_files(pid: int) -> tuple[int, int]:
    """How many threads and open files a process has; zeros for one that is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return (0, 0)


def resident_memory(pid: int) -> float:
    """What a process has in memory now, in MB; zero for one that is gone."""
    return _memory(pid, "VmRSS")


def peak_memory(pid: int) -> float:
    """The most memory that a process has had, in MB; zero for one that is gone."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, which: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(which)), 0.0)
