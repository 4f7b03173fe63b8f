"""One step of an operation: its row locked, its work and its progress committed together, its failure noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from kongflow_events import models, retries
from kongflow_events.store import bulk_operations, db

log = structlog.get_logger(__name__)

# As often as a scheduler looks: many small steps, since what comes in one burst makes everybody else wait for it.
_A_SECOND: Final = 10


def size(rate: int, most: int) -> int:
    """How many rows one step takes of an operation that goes on with `rate` rows a second; at least one, at most `most`."""
    return max(1, min(most, rate // _A_SECOND))


def take(kind: str, work: Callable[[models.BulkOperation], bulk_operations.Step]) -> bool:
    """Take the next step of an operation of this kind that is due; False when there is none.

    Any number of processes may call it at once: they take different operations. A step that fails is undone, said in
    the operation's row, and taken again after a pause; a database that is away is raised.
    """
    with db.atomic():
        operation = bulk_operations.next_running(kind)
        if operation is None:
            return False
        try:
            with db.savepoint():
                bulk_operations.advance(operation.id, work(operation))
        except db.AWAY:
            raise
        except Exception as error:
            log.exception("a step of an operation failed", kind=kind, operation=operation.id)
            bulk_operations.failed(operation.id, retries.reason_of(error))
    return True
