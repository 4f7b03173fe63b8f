"""The ledger: what must happen or happened for each pair of event and dispatcher, and every attempt at it."""

from __future__ import annotations

import uuid

from kongflow_events import errors, models, words
from kongflow_events.store import ledger


def get_invocation(
    environment: words.Environment, invocation_id: str
) -> tuple[ledger.Listed, list[models.InvocationAttempt]]:
    """The environment's invocation of this id, with its attempts in order; raises NotFound."""
    found = ledger.get(environment.id, words.as_id(invocation_id))
    if found is None:
        raise errors.NotFound("Invocation not found")
    return found, ledger.attempts(found.id)


def list_invocations(
    environment: words.Environment, wanted: ledger.Wanted, *, cursor: uuid.UUID | None = None, limit: int = 50
) -> words.Page[ledger.Listed]:
    """The environment's invocations, newest first, going on where a page ended (its `next` is the `cursor`)."""
    return ledger.newest(environment.id, wanted, cursor, limit)
