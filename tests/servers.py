"""Servers of the tests' own: a private RabbitMQ node, and free loopback ports."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pika

from kongflow_events.processes import die_with_parent

# Debian's wrapper on the PATH changes the user; the script behind it does not.
_SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server")
_CURE = "RabbitMQ is missing: apt-get install -y rabbitmq-server (or set KONGFLOW_TEST_RABBITMQ_URL)"


def free_port() -> int:
    """A loopback port that nobody listens on, and that the system gives to no client.

    A client that dials a dead server at a port of the system's own range may be given that very port, and then holds it.
    """
    while True:
        port = random.randint(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def open_to_others(folder: Path) -> None:
    """Let a server's own account reach a folder of the tests, which pytest keeps private."""
    base = Path(tempfile.gettempdir())
    for one in (folder, *folder.parents):
        if one == base or base not in one.parents:
            return
        one.chmod(one.stat().st_mode | 0o055)


def eventually(holds: Callable[[], object], seconds: float = 20.0, what: str = "") -> None:
    """Wait until `holds()` is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {seconds} s: {what or holds}")
        time.sleep(0.02)


class RabbitMQ:
    """A broker for the tests, found or started; `url` is where it answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def connect(self) -> pika.BlockingConnection:
        """A connection to it."""
        return pika.BlockingConnection(pika.URLParameters(self.url))

    def wait(self) -> None:
        """Until it answers."""


class RabbitMQNode(RabbitMQ):
    """A node of our own: its name, ports and folders are nobody else's, and it ends with us."""

    def __init__(self) -> None:
        self._port = free_port()
        super().__init__(f"amqp://guest:guest@127.0.0.1:{self._port}/%2F")
        self._home = Path(tempfile.mkdtemp(prefix="kf-rabbit-"))
        self._script = _find_script()
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._environ = self._variables()

    def start(self) -> None:
        """Start it; `wait` says when it answers."""
        if self._epmd is None:
            epmd = [shutil.which("epmd") or "epmd", "-address", "127.0.0.1", "-port", self._environ["ERL_EPMD_PORT"]]
            self._epmd = self._spawn(epmd)
        self._node = self._spawn([self._script])

    def wait(self) -> None:
        """Until the node takes connections."""

        def answers() -> bool:
            assert self._node is not None
            assert self._node.poll() is None, f"RabbitMQ ended: {self._log()}"
            try:
                self.connect().close()
            except (pika.exceptions.AMQPError, OSError):
                return False
            return True

        eventually(answers, 90, "RabbitMQ answers")

    def kill(self) -> None:
        """End the node at once, as a power failure would."""
        self._end(self._node, signal.SIGKILL)

    def stop(self) -> None:
        """End the node and everything that came with it."""
        self._end(self._node, signal.SIGTERM)
        self._end(self._epmd, signal.SIGTERM)
        shutil.rmtree(self._home, ignore_errors=True)

    def _end(self, process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._home / "output.log").open("ab") as output:
            return subprocess.Popen(
                command,
                env=self._environ,
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

    def _log(self) -> str:
        return (self._home / "output.log").read_text(errors="replace")[-2000:]

    def _variables(self) -> dict[str, str]:
        (self._home / "plugins").write_text("[].")
        (self._home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\ndisk_free_limit.absolute = 50MB\nloopback_users = none\n"
        )
        return {
            **os.environ,
            "HOME": str(self._home),
            "RABBITMQ_NODENAME": f"kf{os.getpid()}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self._home / "data"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        }


def _find_script() -> str:
    for candidate in (*_SCRIPTS, shutil.which("rabbitmq-server")):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    sys.exit(_CURE)
