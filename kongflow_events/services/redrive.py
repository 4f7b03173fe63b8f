"""Redrive: give dead letters new attempts, one by one or many at a pace; or dismiss them."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any, Final

import msgspec

from kongflow_events import errors, models, steps, words
from kongflow_events.store import bulk_operations, events, ledger, redrives

KIND: Final = "redrive"
INVOCATIONS: Final = "invocations"
DELIVERIES: Final = "deliveries"
# Rows that one step redrives, whose locks it holds for some milliseconds, and dead ones that it looks at for them.
_STEP: Final = 200
_LOOK: Final = 2000


def redrive_invocation(environment: words.Environment, invocation_id: str) -> None:
    """Give a dead invocation new attempts, due now. Raises NotFound, or Conflict when it is not dead.

    It is a Conflict too when its dispatcher is disabled, expired or gone, which would only have it skipped, and when that
    is a one-shot one that waits for another event by now.
    """
    found = _invocation(environment, invocation_id)
    with suppress(redrives.AnotherPending):
        if redrives.revive(INVOCATIONS, [found]):
            return
    raise errors.Conflict(
        "Only a dead invocation can be redriven, whose dispatcher is enabled and waits for no other event"
    )


def dismiss_invocation(environment: words.Environment, invocation_id: str) -> None:
    """End a dead invocation for good: it is CANCELED then. Raises NotFound, or Conflict when it is not dead."""
    if not redrives.dismiss_invocation(environment.id, _invocation(environment, invocation_id)):
        raise errors.Conflict("Only a dead invocation can be dismissed")


def redrive_event(environment: words.Environment, event_id: str) -> None:
    """Give an event's dead delivery new attempts, due now. Raises NotFound, or Conflict when it is not dead."""
    if not redrives.revive(DELIVERIES, [_event(environment, event_id).id]):
        raise errors.Conflict("Only a dead delivery can be redriven")


def dismiss_event(environment: words.Environment, event_id: str) -> None:
    """Owe an event's dead delivery no longer. Raises NotFound, or Conflict when it is not dead."""
    if not redrives.dismiss_delivery(environment.id, _event(environment, event_id).id):
        raise errors.Conflict("Only a dead delivery can be dismissed")


def count_dead(environment: words.Environment, wanted: redrives.Wanted) -> int:
    """How many dead letters a redrive of these would be about."""
    return redrives.count(environment.id, wanted)


def start_redrive(environment: words.Environment, wanted: redrives.Wanted, rate: int) -> models.BulkOperation:
    """Begin to redrive the dead letters that are wanted, at most `rate` a second, in the background.

    Those that die again meanwhile are left dead.
    """
    total = redrives.count(environment.id, wanted)
    return bulk_operations.start(environment.id, KIND, msgspec.to_builtins(wanted), rate, total)


def advance_redrives() -> bool:
    """Take one step of one redrive that is due; False when there is none. Safe to run anywhere at once."""
    return steps.take(KIND, _step)


def _step(operation: models.BulkOperation) -> bulk_operations.Step:
    wanted = msgspec.convert(operation.criteria, redrives.Wanted)
    most = steps.size(operation.rate, _STEP)
    stretch = redrives.next_dead(operation.environment_id, wanted, operation.created_at, operation.passed, _LOOK, most)
    chosen = stretch.chosen
    revived = redrives.revive(wanted.of, chosen) if chosen else []
    full = len(chosen) == most
    return bulk_operations.Step(
        seen=len(chosen),
        done=len(revived),
        last=chosen[-1] if full else stretch.last,
        ended=not full and stretch.last is None,
    )


def _invocation(environment: words.Environment, invocation_id: str) -> uuid.UUID:
    found = ledger.get(environment.id, words.as_id(invocation_id))
    if found is None:
        raise errors.NotFound("Invocation not found")
    return found.id


def _event(environment: words.Environment, event_id: str) -> Any:
    record = events.get(environment.id, event_id)
    if record is None:
        raise errors.NotFound("Event not found")
    return record
