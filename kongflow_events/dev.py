"""`kongflow-events dev`: the whole service on one machine, with nothing to install and nothing to configure.

A supervisor, and below it an embedded PostgreSQL, the web server, and one process with the scheduler, dramatiq's in-process
broker and its worker threads. The same services, schema and guarantees as on servers: only the broker differs.
"""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from kongflow_events import embedded, settings
from kongflow_events.interrupts import Stopping, until_interrupted
from kongflow_events.processes import die_with_parent
from kongflow_events.services import environments, keys, sign_in
from kongflow_events.store import db, schema

ORGANIZATION: Final = "dev"
PROJECT: Final = "dev"
OPERATOR: Final = "dev"
# What is printed of `dev.env`; the rest is for commands beside it.
_GREETING: Final = ("KONGFLOW_URL", "KONGFLOW_KEY", "KONGFLOW_PUBLIC_KEY")
# Seconds between a child's death and its next start, and that a child gets to stop.
_RESTART = 1.0
_GRACE = 20.0
# How often, and with which pauses, the port is tried before the web process counts as one that does not come up.
_TRIES = 600
_BETWEEN_TRIES = 0.1


def run(data: Path, port: int) -> None:
    """Run everything until SIGINT or SIGTERM, keeping data in `data` and answering on loopback at `port`.

    Raises OSError when the port is taken, EmbeddedPostgresError when there is no PostgreSQL to be had. Killed with -9 it
    leaves no orphan: each child asks the kernel for a signal at its parent's death.
    """
    _check_free(port)
    data.mkdir(parents=True, exist_ok=True)
    with until_interrupted() as stopping, embedded.EmbeddedPostgres(data / "postgres") as postgres:
        schema.migrate(postgres.url)
        environ = _environ(data, postgres.url, port, _secret_key(data / "secret.key"))
        # A half-valid variable must stop the start here, with one message, and not in every child.
        settings.load(environ)
        variables = _prepare(data / "dev.env", environ)
        children = [
            Child([sys.executable, "-m", "kongflow_events.web.server", "--port", str(port)], environ),
            Child([sys.executable, "-m", "kongflow_events.inprocess"], environ),
        ]
        for child in children:
            child.start()
        if _listens(port, stopping):
            _greet(variables, _link(postgres.url, port))
        _supervise(children, postgres, stopping)
    click.echo("Stopped.")


def _check_free(port: int) -> None:
    """Fail here and now: a web process that cannot listen would be started again for ever."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise OSError(
                f"port {port} on 127.0.0.1 is taken ({error.strerror}); choose another with --port or PORT"
            ) from None


def _listens(port: int, stopping: Stopping) -> bool:
    """Wait until somebody answers at the port, so that what is said to run does; False when it is to stop, or does not."""
    for _ in range(_TRIES):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        if stopping.wait(_BETWEEN_TRIES):
            break
    return False


class Child:
    """One process below the supervisor."""

    def __init__(self, command: list[str], environ: Mapping[str, str]) -> None:
        self._command = command
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a process group of its own so that a terminal's Ctrl-C reaches the supervisor alone."""
        self._process = subprocess.Popen(
            self._command, env=dict(self._environ), preexec_fn=die_with_parent(signal.SIGTERM), process_group=0
        )

    def revive(self) -> None:
        """Start it again if it has died."""
        if self._process is not None and self._process.poll() is not None:
            click.echo(f"{self._command[2]} ended with {self._process.returncode}; starting it again", err=True)
            self.start()

    def stop(self) -> None:
        """Ask it to stop, and end its whole group when it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _supervise(children: list[Child], postgres: embedded.EmbeddedPostgres, stopping: Stopping) -> None:
    while not stopping.wait(_RESTART):
        if not postgres.alive:
            click.echo("PostgreSQL ended; starting it again", err=True)
            postgres.start()
        for child in children:
            child.revive()
    for child in children:
        child.stop()


def _environ(data: Path, database_url: str, port: int, secret_key: str) -> dict[str, str]:
    """This process's variables with `dev`'s own values, which somebody may have decided otherwise.

    Loopback targets are allowed, no proxy has to be told that it stops, webhooks' secrets are encrypted with `secret_key`,
    and metrics are gathered in `data` as well.
    """
    return {
        "KONGFLOW_STOP_GRACE": "0",
        "KONGFLOW_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
        "KONGFLOW_SECRET_KEY": secret_key,
        "KONGFLOW_METRICS_DIR": str(data.absolute() / "metrics"),
        # The other half of its threads is for the work inside.
        "KONGFLOW_ENVIRONMENT_CONCURRENCY": "4",
        **{name: value for name, value in os.environ.items() if name != "RABBITMQ_URL"},
        "DATABASE_URL": database_url,
        "PORT": str(port),
    }


def _prepare(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `dev.env`, made with an environment and its keys at the first start and kept after.

    With the database and the secrets' key, so that commands for servers work beside it as well.
    """
    variables = {
        **_read(path),
        "KONGFLOW_URL": f"http://127.0.0.1:{environ['PORT']}",
        "DATABASE_URL": environ["DATABASE_URL"],
        # Without what a shell that reads the file would stumble over.
        "KONGFLOW_SECRET_KEY": environ["KONGFLOW_SECRET_KEY"].replace(" ", ""),
    }
    if "KONGFLOW_KEY" not in variables:
        db.connect(environ["DATABASE_URL"])
        with db.unit():
            environment = environments.ensure_environment(ORGANIZATION, PROJECT, "DEVELOPMENT")
            variables["KONGFLOW_KEY"] = keys.create_key(environment, keys.PRIVATE).key
            variables["KONGFLOW_PUBLIC_KEY"] = keys.create_key(environment, keys.PUBLIC).key
        db.close()
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in variables.items()), encoding="utf-8")
    return variables


def _link(database_url: str, port: int) -> str:
    """Where a browser is signed in to the console, once, within the hour."""
    db.connect(database_url)
    with db.unit():
        token = sign_in.make_link(OPERATOR)
    db.close()
    return f"http://127.0.0.1:{port}/console/link/{token}"


def _secret_key(path: Path) -> str:
    """The key that encrypts webhooks' secrets, made at the first start and kept after.

    It is the shell's, if that has one: another `dev.env` was read there, say, and the next shell has not.
    """
    if not path.exists() or not path.read_text(encoding="ascii"):
        made = base64.b64encode(secrets.token_bytes(settings.SECRET_KEY_BYTES)).decode()
        key = os.environ.get("KONGFLOW_SECRET_KEY") or made
        settings.load({"KONGFLOW_SECRET_KEY": key})
        path.touch(mode=0o600)
        path.write_text(key, encoding="ascii")
    return path.read_text(encoding="ascii")


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _greet(variables: Mapping[str, str], link: str) -> None:
    click.echo(f"KongFlow Events is running at {variables['KONGFLOW_URL']}\n")
    click.echo(f"  The console, once within the hour: {link}\n")
    for name in _GREETING:
        if name in variables:
            click.echo(f"  export {name}={variables[name]}")
    click.echo("\nStop it with Ctrl-C; the data stays.")
