"""Events for the console's list.

Every question is bounded: it looks at so many events, newest first, and says where it stopped, so that a page costs the same
however many events there are.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from kongflow_events import words
from kongflow_events.store import db
from kongflow_events.store.events import STATE, STATE_CONDITIONS

# Events that one page looks at, wanted or not; fewer when their payloads have to be read.
LOOKED: Final = 20_000
LOOKED_INSIDE: Final = 4_000
# Invocations of one event that its row in the list counts.
_COUNTED: Final = 100
# Ids are made by the clocks of web processes, times by the database's.
_CLOCKS: Final = timedelta(minutes=1)

# What is below the looked-at stretch is never read; what is shown of a payload is cut here.
_LIST = """
SELECT e.id, e.event_id, e.name, e.source, e.is_test, e.created_at, e.deliver_at, e.delivered_at, {state} AS state,
       left(e.payload_raw, 160) AS payload, counted.*
  FROM (SELECT e.* FROM event_records e WHERE {stretch} ORDER BY e.id DESC LIMIT {looked}) AS e
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 'SUCCEEDED') AS succeeded, count(*) FILTER (WHERE status = 'PENDING') AS pending,
           count(*) FILTER (WHERE status = 'DEAD') AS dead,
           count(*) FILTER (WHERE status IN ('SKIPPED', 'CANCELED')) AS others
      FROM (SELECT status FROM invocations WHERE event_record_id = e.id LIMIT {counted}) AS few) AS counted
 WHERE {conditions} ORDER BY e.id DESC LIMIT %(limit)s
"""
_BEHIND = "SELECT e.id FROM event_records e WHERE {stretch} ORDER BY e.id DESC OFFSET {skipped} LIMIT 1"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the list; the last four count its invocations by how they stand, up to a hundred together."""

    id: uuid.UUID
    event_id: str
    name: str
    source: str
    is_test: bool
    created_at: datetime
    deliver_at: datetime
    delivered_at: datetime | None
    state: str
    payload: str
    succeeded: int
    pending: int
    dead: int
    others: int


class Inside(msgspec.Struct, frozen=True):
    """One thing that is searched for: in `payload` or `context`, any of these JSON texts has to be contained."""

    column: str
    anyof: tuple[str, ...]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events; None asks nothing. `event_id` is a sender's, `state` one of `store.events.STATES`."""

    name: str | None = None
    source: str | None = None
    event_id: str | None = None
    state: str | None = None
    is_test: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    inside: Sequence[Inside] = ()


class Found(NamedTuple):
    """A page of events. `older` is the id to go on before, or None at the end.

    `stopped` says that not the page was full but enough was looked at: older ones may match, and none may.
    """

    events: list[Listed]
    older: uuid.UUID | None
    stopped: bool


def newest(environment_id: uuid.UUID, wanted: Wanted, before: uuid.UUID | None, limit: int) -> Found:
    """The environment's events, newest first, from just before the record `before`. Times bound `created_at`."""
    stretch, parameters = _stretch(environment_id, wanted, before)
    looked = LOOKED_INSIDE if wanted.inside else LOOKED
    conditions = _conditions(wanted, parameters)
    found = db.rows(
        _LIST.format(
            state=STATE, stretch=stretch, looked=looked, counted=_COUNTED, conditions=" AND ".join(conditions)
        ),
        {**parameters, "limit": limit + 1},
    )
    events = [Listed(**row) for row in found[:limit]]
    if len(found) > limit:
        return Found(events, events[-1].id, stopped=False)
    behind = db.rows(_BEHIND.format(stretch=stretch, skipped=looked - 1), parameters)
    return Found(events, behind[0]["id"] if behind else None, stopped=bool(behind))


def _stretch(environment_id: uuid.UUID, wanted: Wanted, before: uuid.UUID | None) -> tuple[str, dict[str, Any]]:
    """What the index alone narrows down: the environment, the sender's id, and by the ids of rows the times."""
    asked = {
        "before": before,
        "event_id": wanted.event_id,
        "first": _first_id(wanted.since, -_CLOCKS),
        "last": _first_id(wanted.until, _CLOCKS),
    }
    conditions = {
        "before": "e.id < %(before)s",
        "event_id": "e.event_id = %(event_id)s",
        "first": "e.id >= %(first)s",
        "last": "e.id < %(last)s",
    }
    used = [text for name, text in conditions.items() if asked[name] is not None]
    return " AND ".join(["e.environment_id = %(environment)s", *used]), {"environment": environment_id, **asked}


def _first_id(at: datetime | None, apart: timedelta) -> uuid.UUID | None:
    """The id that bounds a time, so far apart from it; None where nothing lies beyond."""
    try:
        return words.first_id_at(at + apart) if at else None
    except OverflowError:
        return None


def _conditions(wanted: Wanted, parameters: dict[str, Any]) -> list[str]:
    """What each looked-at event is asked; its values are put into the parameters."""
    texts = {
        "name": "e.name = %(name)s",
        "source": "e.source = %(source)s",
        "is_test": "e.is_test = %(is_test)s",
        "since": "e.created_at >= %(since)s",
        "until": "e.created_at < %(until)s",
    }
    parameters.update({name: getattr(wanted, name) for name in texts})
    asked = ["TRUE", *(text for name, text in texts.items() if getattr(wanted, name) is not None)]
    if wanted.state:
        asked.append(f"({STATE_CONDITIONS[wanted.state]})")
    for number, inside in enumerate(wanted.inside):
        parameters[f"inside{number}"] = list(inside.anyof)
        asked.append(f"e.{inside.column} @> ANY(%(inside{number})s::jsonb[])")
    return asked
