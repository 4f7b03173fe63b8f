"""The door of pages that are only looked at: connections of their own, which write nothing and wait for no long statement.

Whatever is read inside `reading`, by any room of the store, goes this way. A page can therefore neither change anything,
nor take a connection from those who send events.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kongflow_events.store import db

# Pages at once, and seconds that one more waits for its turn before it fails as AWAY.
_CONNECTIONS: Final = 4
_WAIT: Final = 1.0

_pool: Any = None


def connect(url: str, statement_seconds: float) -> None:
    """Point the pages of this process at `url`; none of their statements may take longer. Opens nothing yet."""
    global _pool  # noqa: PLW0603 - one door of a process
    _pool = db.pool(url, _CONNECTIONS, statement_seconds, _WAIT, "-c default_transaction_read_only=on")


def close() -> None:
    """Close every connection that is not in use, and those in use when they come back."""
    if _pool is not None:
        _pool.close_all()


@contextmanager
def reading() -> Iterator[None]:
    """A unit of work that only reads. A statement that takes too long fails, and `db.is_too_slow` says so."""
    with db.through(_pool):
        yield


def _forget_after_fork() -> None:
    if _pool is not None:
        _pool.dispose()


os.register_at_fork(after_in_child=_forget_after_fork)
