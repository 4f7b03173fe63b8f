"""A running system as the measures see it, whoever wrote it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Postgres, Servers
from tests.processes import running


@dataclass(frozen=True)
class System:
    """Where it takes events, where its rows are, and its processes by type."""

    port: int
    key: str
    database: str
    leaders: Mapping[str, int]
    path: str = "/api/v1/events"
    # Where it takes many at a time; None for one that does not.
    bulk_path: str | None = None


# Starts a system on a database of its own on one of the servers.
Starter = Callable[[Servers, Postgres], AbstractContextManager[System]]


@contextmanager
def processes(commands: Mapping[str, str], environ: Mapping[str, str], log: Path) -> Iterator[dict[str, int]]:
    """Commands as processes by type; their process ids."""
    with ExitStack() as stack:
        started: list[subprocess.Popen[bytes]] = stack.enter_context(
            running(list(commands.values()), dict(environ), log)
        )
        yield {name: process.pid for name, process in zip(commands, started, strict=True)}
