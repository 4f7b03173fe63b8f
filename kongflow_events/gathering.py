"""Where the processes of one machine gather what they count: a private folder, with files of each process.

Prometheus' library asks for the folder when it is first loaded, so a process says `gather` before it counts anything.
Counters must never go back while somebody watches their sum: a dead process's numbers stay, and only the first process
that comes when no other is there begins anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kongflow_events import metrics, settings

# The library's own name for the folder.
_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
# In memory where there is such a place: a full disk ends a process that writes to a mapped file on it.
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder in it is private, and checked
_SHARED: Final = ("counter", "histogram")
# The files of those that are dead, folded into one, carry the id that no process has.
_NOBODY: Final = 0


def gather(current: settings.Settings) -> None:
    """Count into the machine's folder from now on. Raises BadSettings when it cannot be had, or is not this user's own."""
    folder = Path(current.metrics_dir) if current.metrics_dir else _default(current.database_url)
    try:
        _make_private(folder)
        _join(folder)
    except OSError as error:
        raise settings.BadSettings(f"KONGFLOW_METRICS_DIR: {folder} cannot be used ({error.strerror})") from None
    os.environ[_VARIABLE] = str(folder)
    with _alone(folder, fcntl.LOCK_EX):
        _fold(folder)
    metrics.begin()


def folder() -> Path | None:
    """Where this process gathers; None when it counts for itself alone."""
    named = os.environ.get(_VARIABLE)
    return Path(named) if named else None


@contextmanager
def reading() -> Iterator[None]:
    """While the files are read: nobody folds any, and the levels of dead processes are gone."""
    where = folder()
    if where is None:
        yield
        return
    with _alone(where, fcntl.LOCK_EX):
        _forget_levels(where)
    with _alone(where, fcntl.LOCK_SH):
        yield


def _default(database_url: str) -> Path:
    """One for each user and service: processes of one machine find each other, and those of two services do not mix."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    service = hashlib.sha256(database_url.encode()).hexdigest()[:12]
    return place / f"kongflow-events-{os.geteuid()}-{service}"


def _make_private(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise settings.BadSettings(f"KONGFLOW_METRICS_DIR: {folder} must be this user's own, with mode 0700")


def _join(folder: Path) -> None:
    """Hold the folder for as long as this process and its children live; clear it if nobody else does."""
    # Never closed: the lock is the sign of life.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        for file in folder.glob("*.db"):
            file.unlink(missing_ok=True)
    fcntl.flock(lock, fcntl.LOCK_SH)


@contextmanager
def _alone(folder: Path, how: int) -> Iterator[None]:
    with (folder / "files").open("a") as file:
        fcntl.flock(file, how)
        yield


def _fold(folder: Path) -> None:
    """Put what dead processes have counted into one file, or restarts would leave more and more of them to read."""
    from prometheus_client.mmap_dict import MmapedDict

    _forget_levels(folder)
    for kind in _SHARED:
        dead = [file for file in folder.glob(f"{kind}_*.db") if _owner(file) != _NOBODY and not _lives(_owner(file))]
        if not dead:
            continue
        sums = MmapedDict(str(folder / f"{kind}_{_NOBODY}.db"))
        for file in dead:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):
                sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
            file.unlink()
        sums.close()


def _forget_levels(folder: Path) -> None:
    for file in folder.glob("gauge_*.db"):
        if not _lives(_owner(file)):
            file.unlink(missing_ok=True)


def _owner(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
