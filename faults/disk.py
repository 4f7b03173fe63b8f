"""A small disk for a PostgreSQL: a file system in memory, which a file fills to the last byte."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from faults.machines import Postgres
from faults.world import Servers

_SIZE = "192m"


@contextmanager
def small_disk(servers: Servers) -> Iterator[Servers]:
    """The same servers, but for a PostgreSQL on a disk of 192 MB; raises CalledProcessError when it cannot be mounted."""
    place = servers.home / "small"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0755", "tmpfs", place], check=True)
    postgres = Postgres(place / "data", min_wal_size="32MB", max_wal_size="48MB", shared_buffers="64MB")
    try:
        postgres.start()
        yield servers.with_postgres(postgres)
        postgres.stop()
    finally:
        subprocess.run(["umount", "--lazy", place], check=False)
