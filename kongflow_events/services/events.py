"""Events as their senders look back at them: one with its runs, or a list, newest first."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from kongflow_events import errors, models, words
from kongflow_events.store import events, runs


def get_event_record(environment: words.Environment, event_id: str) -> models.EventRecord:
    """The event that its sender called `event_id`; raises NotFound."""
    record = events.get(environment.id, event_id)
    if record is None:
        raise errors.NotFound("Event not found")
    return record


def list_event_records(
    environment: words.Environment,
    *,
    cursor: uuid.UUID | None = None,
    limit: int = 50,
    name: str | None = None,
    source: str | None = None,
    account: str | None = None,
    state: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> words.Page[models.EventRecord]:
    """The environment's events, newest first, going on where a page ended (its `next` is the `cursor`).

    None asks nothing: `account` is an identifier, `state` one of `store.events.STATES`, times bound `created_at` from
    `since` to just before `until`.
    """
    wanted = events.Wanted(name=name, source=source, account=account, state=state, since=since, until=until)
    return events.newest(environment.id, wanted, cursor, limit)


def list_standings(records: Sequence[models.EventRecord]) -> dict[uuid.UUID, words.Standing]:
    """How records that were listed stand, by their ids."""
    return events.standings(records)


def list_event_runs(environment: words.Environment, event_id: str) -> tuple[models.EventRecord, list[models.JobRun]]:
    """An event and the runs it started, in the order they were made; raises NotFound."""
    record = get_event_record(environment, event_id)
    return record, runs.for_event(record.id)
