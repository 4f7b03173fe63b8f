"""What people did in the console, read: newest first, a bounded stretch for each page."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import msgspec

from kongflow_events import words
from kongflow_events.store import db, stretches

# Entries that one page looks at, wanted or not.
_LOOK = 2000

_NEWEST = """
WITH looked AS MATERIALIZED (
    SELECT * FROM audit_entries
     WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
       AND (%(environment)s::uuid IS NULL OR environment_id = %(environment)s)
     ORDER BY id DESC LIMIT %(look)s
), wanted AS (
    SELECT * FROM looked
     WHERE (%(operator)s::text IS NULL OR operator = %(operator)s)
       AND (%(action)s::text IS NULL OR action = %(action)s)
       AND (%(subject)s::text IS NULL OR strpos(lower(subject), lower(%(subject)s)) > 0)
       AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
     ORDER BY id DESC LIMIT %(limit)s
), seen AS (
    SELECT count(*) AS number, (SELECT id FROM looked ORDER BY id LIMIT 1) AS last FROM looked
)
SELECT seen.number AS looked, seen.last, wanted.id, wanted.at, wanted.operator, wanted.address, wanted.action,
       wanted.subject, wanted.details, projects.slug || '/' || environments.slug AS environment
  FROM seen LEFT JOIN wanted ON TRUE
  LEFT JOIN runtime_environments AS environments ON environments.id = wanted.environment_id
  LEFT JOIN projects ON projects.id = environments.project_id
 ORDER BY wanted.id DESC
"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries a list is about; None asks nothing. `subject` is a part of one, in any case of its letters."""

    environment: uuid.UUID | None = None
    operator: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did; `environment` is `project/environment`, None when it is about none, or one that is gone."""

    id: uuid.UUID
    at: datetime
    operator: str
    address: str
    action: str
    subject: str
    details: Any
    environment: str | None


def newest(wanted: Wanted, before: uuid.UUID | None, limit: int) -> words.Page[Entry]:
    """The entries that are wanted, newest first, from just before `before`."""
    found = db.rows(_NEWEST, {"before": before, "limit": limit + 1, "look": _LOOK, **msgspec.structs.asdict(wanted)})
    return stretches.page(found, Entry, _LOOK, limit)
