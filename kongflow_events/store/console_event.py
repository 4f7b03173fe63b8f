"""One event for the console's page: the record, what is owed for it, and all that came of it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from kongflow_events import models, words
from kongflow_events.store import db, ledger

# More than anybody reads on one page.
INVOCATIONS: Final = 100
_ATTEMPTS: Final = 500
_RUNS: Final = 200

_RECORD = """
SELECT e.id, e.event_id, e.name, e.source, e.timestamp, e.payload_type, e.is_test, e.internal, e.created_at, e.deliver_at,
       e.delivered_at, e.cancelled_at, e.context, left(e.payload_raw, %(most)s) AS payload,
       octet_length(e.payload_raw) AS payload_bytes, length(e.payload_raw) > %(most)s AS cut,
       accounts.identifier AS account, owed.due_at, owed.attempts, owed.last_error, owed.died_at
  FROM event_records e
  LEFT JOIN external_accounts AS accounts ON accounts.id = e.external_account_id
  LEFT JOIN outbox AS owed ON owed.subject_id = e.id AND owed.kind = 'deliver'
 WHERE e.id = %(id)s AND e.environment_id = %(environment)s
"""

_INVOCATIONS = f"""
SELECT invocations.id, invocations.dispatcher_id, invocations.dispatcher_event, invocations.dispatchable, invocations.replay,
       invocations.status, invocations.reason, GREATEST(invocations.attempts, outbox.attempts) AS attempts,
       invocations.redrives, invocations.last_error, invocations.created_at, invocations.completed_at,
       {ledger.NEXT_TRY} AS due_at,
       dispatchers.id IS NOT NULL AS there
  FROM invocations
  LEFT JOIN outbox ON outbox.subject_id = invocations.id
  LEFT JOIN targets ON targets.dispatcher_id = outbox.lane
  LEFT JOIN event_dispatchers AS dispatchers ON dispatchers.id = invocations.dispatcher_id
 WHERE invocations.event_record_id = %(record)s
 ORDER BY invocations.replay, invocations.id LIMIT %(limit)s
"""

_RUNS_OF = """
SELECT runs.id, runs.invocation_id, runs.status, runs.created_at, jobs.slug AS job, versions.version
  FROM job_runs AS runs JOIN jobs ON jobs.id = runs.job_id JOIN job_versions AS versions ON versions.id = runs.version_id
 WHERE runs.event_record_id = %s ORDER BY runs.id LIMIT %s
"""

# Who hears the event by its name and source, and has no invocation of it.
_LISTENERS = """
SELECT DISTINCT ON (dispatchers.id) dispatchers.id, dispatchers.event, dispatchers.dispatchable
  FROM event_dispatcher_names AS names JOIN event_dispatchers AS dispatchers ON dispatchers.id = names.dispatcher_id
 WHERE names.environment_id = %(environment)s AND names.source = %(source)s AND names.name = ANY(%(names)s)
   AND NOT EXISTS (SELECT FROM invocations
                    WHERE event_record_id = %(record)s AND invocations.dispatcher_id = dispatchers.id)
 ORDER BY dispatchers.id DESC LIMIT %(limit)s
"""

_NEWEST = """
SELECT id, event, dispatchable FROM event_dispatchers WHERE environment_id = %s ORDER BY id DESC LIMIT %s
"""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An event. `payload` is the beginning of the sender's own text; from `due_at` on it is what is owed, if anything is."""

    id: uuid.UUID
    event_id: str
    name: str
    source: str
    timestamp: datetime
    payload_type: str
    is_test: bool
    internal: bool
    created_at: datetime
    deliver_at: datetime
    delivered_at: datetime | None
    cancelled_at: datetime | None
    context: Any
    payload: str
    payload_bytes: int
    cut: bool
    account: str | None
    due_at: datetime | None
    attempts: int | None
    last_error: str | None
    died_at: datetime | None

    @property
    def state(self) -> str:
        """One of `store.events.STATES`."""
        return words.state_of(
            cancelled=self.cancelled_at is not None,
            delivered=self.delivered_at is not None,
            owed=self.due_at is not None,
            dead=self.died_at is not None,
        )


class Dispatcher(msgspec.Struct, frozen=True):
    """A dispatcher by its first name and its target."""

    id: uuid.UUID
    event: str
    dispatchable: Any


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """What must happen or happened at one dispatcher; `there` says whether that still exists."""

    id: uuid.UUID
    dispatcher_id: uuid.UUID
    dispatcher_event: str
    dispatchable: Any
    replay: int
    status: str
    reason: str | None
    attempts: int
    redrives: int
    last_error: str | None
    created_at: datetime
    completed_at: datetime | None
    due_at: datetime | None
    there: bool


class Run(msgspec.Struct, frozen=True):
    """A run that an invocation started."""

    id: uuid.UUID
    invocation_id: uuid.UUID | None
    status: str
    created_at: datetime
    job: str
    version: str


def get(environment_id: uuid.UUID, record_id: uuid.UUID, most: int) -> Record | None:
    """The environment's event of this record, with at most `most` characters of its payload."""
    found = db.rows(_RECORD, {"id": record_id, "environment": environment_id, "most": most})
    return Record(**found[0]) if found else None


def invocations(record_id: uuid.UUID) -> tuple[list[Invocation], bool]:
    """The event's invocations, the first delivery's first, and whether there are more than these."""
    found = db.rows(_INVOCATIONS, {"record": record_id, "limit": INVOCATIONS + 1})
    return [Invocation(**row) for row in found[:INVOCATIONS]], len(found) > INVOCATIONS


def attempts(invocation_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, list[models.InvocationAttempt]]:
    """The attempts of each invocation, in order."""
    table = models.InvocationAttempt
    ordered = table.select().where(table.invocation_id.in_(list(invocation_ids)))
    found: dict[uuid.UUID, list[models.InvocationAttempt]] = {}
    for one in ordered.order_by(table.invocation_id, table.round, table.number).limit(_ATTEMPTS):
        found.setdefault(one.invocation_id, []).append(one)
    return found


def runs(record_id: uuid.UUID) -> list[Run]:
    """The runs that the event started, the first ones first."""
    return [Run(**row) for row in db.rows(_RUNS_OF, (record_id, _RUNS))]


def listeners(environment_id: uuid.UUID, record: Record, names: Sequence[str], limit: int) -> list[Dispatcher]:
    """The newest dispatchers that hear the event under one of these names, and have no invocation of it."""
    parameters = {
        "environment": environment_id,
        "source": record.source,
        "names": list(names),
        "record": record.id,
        "limit": limit,
    }
    return [Dispatcher(**row) for row in db.rows(_LISTENERS, parameters)]


def newest_dispatchers(environment_id: uuid.UUID, limit: int) -> list[Dispatcher]:
    """The environment's newest dispatchers."""
    return [Dispatcher(**row) for row in db.rows(_NEWEST, (environment_id, limit))]


def sender_id(environment_id: uuid.UUID, record_id: str) -> tuple[str, datetime] | None:
    """What the sender called the event of this record, and when it was stored."""
    found = db.rows(
        "SELECT event_id, created_at FROM event_records WHERE id = %s AND environment_id = %s",
        (words.as_id(record_id), environment_id),
    )
    return (found[0]["event_id"], found[0]["created_at"]) if found else None
