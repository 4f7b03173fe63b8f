"""Operations, whatever they do: looked at, listed, cancelled. Redrive and replay start them and carry them on."""

from __future__ import annotations

import uuid

from kongflow_events import errors, models, words
from kongflow_events.store import bulk_operations


def get_operation(environment: words.Environment, kind: str, operation_id: str) -> models.BulkOperation:
    """The environment's operation of this kind (`redrive`, `replay`); raises NotFound."""
    found = bulk_operations.get(environment.id, kind, _number(operation_id))
    if found is None:
        raise errors.NotFound(f"{kind.capitalize()} not found")
    return found


def list_operations(
    environment: words.Environment, kind: str, *, cursor: uuid.UUID | None = None, limit: int = 50
) -> words.Page[models.BulkOperation]:
    """The environment's operations of this kind, newest first, going on where a page ended (its `next` is the `cursor`)."""
    found, more = bulk_operations.newest(environment.id, kind, cursor.int if cursor else None, limit)
    return words.Page(found, uuid.UUID(int=found[-1].id) if more else None)


def cancel_operation(environment: words.Environment, kind: str, operation_id: str) -> models.BulkOperation:
    """End a running operation, after the step that is under way; what it did stays. Raises NotFound."""
    bulk_operations.cancel(environment.id, kind, _number(operation_id))
    return get_operation(environment, kind, operation_id)


def _number(text: str) -> int:
    """An operation's id; one that cannot exist becomes one that nothing has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004 - fits a bigint
