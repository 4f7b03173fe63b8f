"""Cancel: an event before it is delivered, or the runs of one that was."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from kongflow_events import errors, models, words
from kongflow_events.store import events, runs


class CancelledRuns(NamedTuple):
    """The ids of the runs that were cancelled, and of those that could not be."""

    cancelled: list[uuid.UUID]
    failed: list[uuid.UUID]


def cancel_event(environment: words.Environment, event_id: str) -> models.EventRecord:
    """Cancel an event; returns it. One that is cancelled already stays as it is; a delivered one is only marked.

    Raises NotFound. An event that was not yet delivered never will be: delivery and cancelling lock the same row.
    """
    record = events.cancel(environment.id, event_id) or events.get(environment.id, event_id)
    if record is None:
        raise errors.NotFound("Event not found")
    return record


def cancel_runs_for_event(environment: words.Environment, event_id: str) -> CancelledRuns:
    """Cancel every run of the event that has not ended, whatever it is doing; raises NotFound."""
    record = events.get(environment.id, event_id)
    if record is None:
        raise errors.NotFound("Event not found")
    # One statement decides for all of them, so there is none left that could fail by itself.
    return CancelledRuns(runs.cancel_for_event(environment.id, record.id), [])
