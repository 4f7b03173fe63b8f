"""One service under test: servers, proxies, processes, a sink, and the looks that are taken at all of them."""

from __future__ import annotations

import base64
import contextlib
import copy
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3

from faults.machines import Every, Gauge, Postgres, Rabbit, threads_and_files
from faults.processes import Journal, Supervised
from faults.proxy import Proxy
from kongflow_events import signing, words
from kongflow_events.processes import die_with_parent
from kongflow_events.store import db, schema
from tests.processes import ROOT, query
from tests.servers import free_port, open_to_others

# Shrunk, so that a fault shows in seconds what it would show in a minute.
SETTINGS = {
    "WEB_CONCURRENCY": "1",
    "KONGFLOW_STOP_GRACE": "0",
    "KONGFLOW_ALLOWED_NETWORKS": "127.0.0.0/8",
    "KONGFLOW_TICK_MS": "50",
    "KONGFLOW_POST_TIMEOUT": "2",
    "KONGFLOW_LEASE": "3",
    "KONGFLOW_SNAPSHOT_ALARM": "5",
    # What an open circuit holds back would hide whether each call keeps its schedule.
    "KONGFLOW_CIRCUIT_FAILURES": "1000000",
}
HIGH_WATER = 500
POST_TIMEOUT = 2.0
# Seconds that a call's row stays with a worker that died: the call's own, and ten to finish.
POST_LEASE = POST_TIMEOUT + 10.0
# Two groups of two workers, and one poster.
CONSUMERS = {"deliver": 4, "invoke": 4, "post": 1}
_READY_SECONDS = 60.0
_LOOK = 0.25


class Late(AssertionError):
    """Something that was waited for did not come within its bound; the message says what, and the bound."""


class Servers:
    """The servers of a whole run: they outlive the worlds that stand on them."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="kf-faults-"))
        open_to_others(self.home)
        self.home.chmod(0o755)
        self.node = Rabbit()
        self.node.start()
        self.postgres = Postgres(self.home / "postgres")
        self.postgres.start()
        self.node.wait()

    def with_postgres(self, postgres: Postgres) -> Servers:
        """The same, with another PostgreSQL."""
        other = copy.copy(self)
        other.postgres = postgres
        return other

    def close(self) -> None:
        """Leave nothing running and no files."""
        self.postgres.stop()
        self.node.stop()
        shutil.rmtree(self.home, ignore_errors=True)


class World:
    """Processes on a database of their own; use as a context manager. `environ` goes to every process."""

    def __init__(self, servers: Servers, environ: Mapping[str, str] | None = None) -> None:
        self.postgres, self.node = servers.postgres, servers.node
        self.database = f"kf_{uuid.uuid4().hex[:8]}"
        self.home = servers.home / self.database
        self.home.mkdir()
        self.journal = Journal()
        self.to_database, self.to_broker = Proxy(self.postgres.port), Proxy(self.node.port)
        self.web_port = free_port()
        # What every webhook signs with, and what its secret is encrypted with.
        self.webhook_secret = signing.new_secret("hmac")
        self._secret_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._make_database()
        self.processes = Supervised({**self._variables(), **(environ or {})}, self.home, self.journal)
        self.sink_log = self.home / "sink.jsonl"
        self.depths: list[tuple[float, str, int]] = []
        self._gauge = Gauge(self.node)
        self._asking = Gauge(self.node)
        self._http = urllib3.PoolManager(retries=False, timeout=5)
        self._watching = Every(_LOOK, self._watch)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._sink, self.sink_url = self._start_sink()

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.web_port}"

    def __enter__(self) -> World:
        self.processes.start()
        self.wait_until_up()
        self._watching.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watching.__exit__()
        self.processes.stop()
        for process in (self._sink,):
            process.kill()
            process.wait()
        self.to_database.close()
        self.to_broker.close()
        db.close()
        with contextlib.suppress(Exception):
            self.postgres.execute(f"DROP DATABASE {self.database} WITH (FORCE)")

    def wait_until_up(self) -> None:
        """Until the API is ready and every queue has its consumers."""
        self.within(_READY_SECONDS, "the service is up", lambda: self.answers("/readyz") and self.consuming())

    def heal(self) -> None:
        """End every fault: servers run, bytes flow, stopped processes go on, and each runs as the Procfile says."""
        for pid in self.processes.all():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.to_database.set("pass")
        self.to_broker.set("pass")
        if not self.postgres.alive:
            self.postgres.start()
        self.processes.heal()

    def within(self, seconds: float, what: str, holds: Callable[[], object]) -> float:
        """Wait until `holds()` is true; returns the seconds that it took. Raises Late."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                raise Late(f"{what}: not within {seconds:g} s")
            time.sleep(0.05)
        return time.monotonic() - began

    def answers(self, path: str = "/healthz") -> bool:
        """Whether the API says 200."""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return self._http.request("GET", self.url + path).status == 200
        return False

    def write(self, path: str, key: str, body: Any) -> Any:
        """POST a body to the API as whoever has this key; what it answers. Raises RuntimeError when that is no 200."""
        answer = self._http.request("POST", self.url + path, json=body, headers={"Authorization": f"Bearer {key}"})
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"POST {path} was answered with {answer.status}: {answer.data.decode()}")
        return answer.json()

    def consuming(self) -> bool:
        """Whether every queue has all of its consumers."""
        return all(self._asking.look(kind)[1] == CONSUMERS[kind] for kind in words.KINDS)

    def look(self, queue: str) -> tuple[int, int]:
        """How many messages wait in a queue, and how many consumers it has."""
        return self._asking.look(queue)

    def deepest(self, since: float) -> int:
        """The most messages that any queue was seen to hold since then."""
        return max((depth for at, _, depth in self.depths if at >= since), default=0)

    def owed(self) -> int:
        """Rows in the outbox, dead deliveries left out."""
        return int(self.rows("SELECT count(*) FROM outbox WHERE died_at IS NULL")[0][0])

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, past the proxy."""
        return query(self.postgres.url(self.database), statement)

    def number(self, statement: str) -> float:
        """The one number that a statement asks for."""
        return float(self.rows(statement)[0][0])

    def silence(self) -> float:
        """Seconds since the schedulers that run now have said that they live; the longest."""
        lives = " OR ".join(f"instance LIKE '%:{self.processes.pid(name)}'" for name in ("scheduler-1", "scheduler-2"))
        return self.number(f"SELECT extract(epoch FROM now() - min(beat_at)) FROM process_heartbeats WHERE {lives}")

    def switch_sink(self, mode: str) -> None:
        """What `/switched` answers from now on."""
        self._http.request("PUT", f"{self.sink_url}/mode/{mode}")

    def empty_queues(self) -> None:
        """Throw away the messages that an earlier fault has left: the next one counts those of its own."""
        connection = self.node.connect()
        for kind in words.KINDS:
            connection.channel().queue_purge(kind)
        connection.close()

    def measure_sizes(self) -> None:
        """Remember how many threads and files each process has now."""
        self._sizes = {pid: threads_and_files(pid) for pid in self.processes.all()}

    def growth(self) -> list[tuple[int, int, int]]:
        """Each process that has lived since `measure_sizes`: its id, and how many threads and files were added."""
        now = {pid: threads_and_files(pid) for pid in self.processes.all()}
        return [
            (pid, size[0] - self._sizes[pid][0], size[1] - self._sizes[pid][1])
            for pid, size in now.items()
            if pid in self._sizes
        ]

    def _watch(self) -> None:
        at = time.time()
        self.depths += [(at, kind, self._gauge.look(kind)[0]) for kind in words.KINDS]

    def _make_database(self) -> None:
        self.postgres.execute(f"CREATE DATABASE {self.database}")
        url = self.postgres.url(self.database)
        schema.migrate(url)
        db.connect(url, pool_size=4)
        # What an earlier world left in the queues means nothing to this one.
        for queue in (name for kind in words.KINDS for name in (kind, f"{kind}.DQ", f"{kind}.XQ")):
            connection = self.node.connect()
            with contextlib.suppress(Exception):
                connection.channel().queue_purge(queue)
            connection.close()

    def _variables(self) -> dict[str, str]:
        return {
            **SETTINGS,
            "DATABASE_URL": self.postgres.url_through(self.to_database.port, self.database),
            "RABBITMQ_URL": self.node.url_through(self.to_broker.port),
            "PORT": str(self.web_port),
            "KONGFLOW_SECRET_KEY": self._secret_key,
        }

    def _start_sink(self) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "faults.sink", str(self.sink_log), self.webhook_secret]
        process = start(command, self.home / "sink.log")
        assert process.stdout is not None
        return process, f"http://127.0.0.1:{process.stdout.readline().strip()}"


def start(command: list[str], log: Path) -> subprocess.Popen[str]:
    """One of the harness's own processes, ended with it; what it says on stdout can be read."""
    assert threading.current_thread() is threading.main_thread(), (
        "the kernel takes a thread's end for its parent's death"
    )
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
