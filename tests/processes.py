"""The service's own processes, started as an operator would, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import urllib3

from kongflow_events.processes import die_with_parent
from tests.servers import eventually

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
# Seconds that a process gets to stop, and how to look whether it has without reaping it.
_TO_STOP = 30.0
_LOOK = os.WEXITED | os.WNOWAIT | os.WNOHANG


def procfile() -> dict[str, str]:
    """The commands of the Procfile, by process type."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    return dict(re.fullmatch(r"(\w+): (.*)", line).groups() for line in lines)  # type: ignore[union-attr, misc]


@contextmanager
def running(commands: list[str], environ: dict[str, str], log: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Shell commands as processes, each the leader of a group; ended, with their groups, at the end."""
    gathered = {"KONGFLOW_METRICS_DIR": str(log.parent / "metrics")}
    variables = {**os.environ, **gathered, **environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    started: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as output:
        try:
            started.extend(
                subprocess.Popen(
                    ["/bin/bash", "-c", f"exec {command}"],
                    env=variables,
                    stdout=output,
                    stderr=output,
                    process_group=0,
                    preexec_fn=die_with_parent(signal.SIGTERM),
                )
                for command in commands
            )
            yield started
        finally:
            for process in started:
                process.terminate()
            for process in started:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was asked to stop, and make sure that it and its group do.

    Its group is ended before it is reaped: from then on its number may be another's, such as that of a server that other
    tests stand on.
    """
    if process.returncode is not None:
        return
    until = time.monotonic() + _TO_STOP
    while time.monotonic() < until and os.waitid(os.P_PID, process.pid, _LOOK) is None:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Http:
    """The API over a real socket."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self._pool = urllib3.PoolManager(retries=False, maxsize=16, timeout=10)
        self._headers = {"Authorization": f"Bearer {key}"}

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer that has to be 200."""
        data = None if body is None else json.dumps(body).encode()
        answer = self._pool.request(method, self.url + path, body=data, headers=self._headers)
        assert answer.status == 200, answer.data
        return answer.json()

    def read(self, path: str) -> bytes:
        """The bytes of an answer that has to be 200."""
        answer = self._pool.request("GET", self.url + path)
        assert answer.status == 200, answer.data
        return bytes(answer.data)

    def wait(self, path: str = "/readyz") -> None:
        """Until the service is ready."""
        eventually(lambda: self.answers(path), 40, f"{self.url}{path} is ready")

    def answers(self, path: str) -> bool:
        """Whether it says 200."""
        try:
            return bool(self._pool.request("GET", self.url + path).status == 200)
        except urllib3.exceptions.HTTPError:
            return False


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of one statement on a connection of its own."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


def alive(text: str) -> list[str]:
    """The command lines of living processes that contain `text`, this one's children's included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if text in line and state != "Z" and entry.name != str(os.getpid()):
            found.append(line)
    return found
