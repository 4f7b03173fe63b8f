"""Delivery: events locked, candidates looked up, and their invocations written together with what is owed for them.

One transaction: `lock`, then `candidates` and `filters_of`, then `take` and `invoke`. The lock order is the house's: event
records by id, then outbox rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec

from kongflow_events import words
from kongflow_events.store import db, outbox

# The dispatcher that a notice of the service is about; only the service can write one.
ABOUT = "CASE WHEN internal AND source = 'kongflow' THEN (payload->>'dispatcherId')::uuid END"

# Somebody else's event is skipped, not waited for: whoever holds it is delivering, changing or cancelling it.
_LOCK = db.Prepared(
    "lock_events",
    f"""
SELECT id, environment_id, name, source, external_account_id, payload_raw, payload_type, context::text AS context,
       {ABOUT} AS about, traceparent, delivered_at IS NULL AND cancelled_at IS NULL AS wanted,
       extract(epoch FROM clock_timestamp() - GREATEST(deliver_at, created_at))::float8 AS waited
  FROM event_records WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
""",
)

# Reads what listens to these names in these environments, whatever else is stored; filters come only when asked for.
CANDIDATES = db.Prepared(
    "find_candidates",
    """
SELECT names.environment_id, names.source, names.name, dispatchers.id, dispatchers.created_at,
       dispatchers.updated_at, dispatchers.external_account_id, dispatchers.one_shot
  FROM unnest(%(environments)s::uuid[], %(sources)s::text[], %(names)s::text[]) AS asked(environment_id, source, name)
  JOIN event_dispatcher_names AS names USING (environment_id, source, name)
  JOIN event_dispatchers AS dispatchers ON dispatchers.id = names.dispatcher_id
 WHERE dispatchers.enabled AND NOT dispatchers.manual
   AND (dispatchers.expires_at IS NULL OR dispatchers.expires_at > now())
 ORDER BY dispatchers.created_at, dispatchers.id
""",
)

_FILTERS = "SELECT id, updated_at, payload_filter, context_filter FROM event_dispatchers WHERE id = ANY(%s)"

# By their ids, and in no case by their kind, as a planner would who takes the table for empty: hence the IS TRUE.
_TAKE = db.Prepared(
    "take_deliveries",
    """
DELETE FROM outbox
 WHERE subject_id = ANY(%(ids)s::uuid[]) AND (kind = 'deliver') IS TRUE AND due_at <= now() AND died_at IS NULL
   AND (lease_until IS NULL OR lease_until < now() OR token = %(token)s::uuid)
RETURNING subject_id
""",
)

# The version of a job that starts at once, with no step between: nothing is owed then, and nothing is left to fail. Whatever
# is not plainly startable is owed, and `invoke` says what is wrong with it.
_AT_ONCE = """
    CASE WHEN %(at_once)s::boolean AND NOT one_shot AND enabled AND (expires_at IS NULL OR expires_at > now())
          AND dispatchable->>'type' = 'JOB_VERSION'
          AND dispatchable->>'id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
         THEN (dispatchable->>'id')::uuid END"""

# Whoever inserts in the order of dispatchers waits for nobody who waits for it: two deliveries may meet at a one-shot
# dispatcher. A dispatcher that was deleted since it matched gets nothing, and makes no event delivered. The run that an
# invocation starts at once is its only one, and has its id: no list of ids has to be joined to what was made.
_INVOKE = db.Prepared(
    "make_invocations",
    f"""
WITH matched AS (
    SELECT matched.id, event_record_id, dispatcher_id, dispatchers.environment_id, event, dispatchable, one_shot,
           versions.id IS NOT NULL AS starts
      FROM unnest(%(ids)s::uuid[], %(records)s::uuid[], %(dispatchers)s::uuid[])
        AS matched(id, event_record_id, dispatcher_id)
      JOIN event_dispatchers AS dispatchers ON dispatchers.id = dispatcher_id
      LEFT JOIN job_versions AS versions ON versions.id = {_AT_ONCE}
), made AS (
    INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable,
                             replay, pending_one_shot, status, attempts, completed_at)
    SELECT id, environment_id, event_record_id, dispatcher_id, event, dispatchable - 'headers', %(replay)s::bigint,
           CASE WHEN one_shot THEN dispatcher_id END,
           CASE WHEN starts THEN 'SUCCEEDED' ELSE 'PENDING' END, starts::integer, CASE WHEN starts THEN now() END
      FROM matched ORDER BY dispatcher_id, event_record_id
    ON CONFLICT DO NOTHING
    RETURNING id, environment_id, event_record_id, dispatcher_id, dispatchable, status = 'SUCCEEDED' AS started,
              dispatchable->>'type' = ANY(%(url_types)s::text[]) AS url
), started AS (
    INSERT INTO job_runs (id, environment_id, job_id, version_id, event_record_id, external_account_id, invocation_id,
                          is_test, internal)
    SELECT made.id, made.environment_id, versions.job_id, versions.id, made.event_record_id,
           records.external_account_id, made.id, records.is_test, jobs.internal
      FROM made
      JOIN job_versions AS versions ON versions.id = CASE WHEN started THEN (dispatchable->>'id')::uuid END
      JOIN event_records AS records ON records.id = made.event_record_id
      JOIN jobs ON jobs.id = versions.job_id
), owed AS ({outbox.OWE_MADE} WHERE NOT started), stamped AS (
    UPDATE event_records SET delivered_at = now()
     WHERE id IN (SELECT event_record_id FROM matched) AND %(replay)s = 0
)
SELECT made.id, url, started, COALESCE(rests_until > now(), FALSE) AS rests
  FROM made LEFT JOIN targets ON url AND targets.dispatcher_id = made.dispatcher_id
""",
)

# What a one-shot dispatcher matched while an earlier event is pending for it: visible in the ledger, never carried out.
_SUPERSEDE = """
INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable, status,
                         reason, completed_at)
SELECT matched.id, dispatchers.environment_id, event_record_id, dispatcher_id, event, dispatchable - 'headers', 'SKIPPED',
       'superseded: an earlier event is pending for this one-shot dispatcher', now()
  FROM unnest(%(ids)s::uuid[], %(records)s::uuid[], %(dispatchers)s::uuid[])
    AS matched(id, event_record_id, dispatcher_id)
  JOIN event_dispatchers AS dispatchers ON dispatchers.id = dispatcher_id
ON CONFLICT (event_record_id, dispatcher_id, replay) DO NOTHING
"""


# Environment, source and name (or a pattern of names): where a dispatcher listens.
Address = tuple[uuid.UUID, str, str]


class Event(msgspec.Struct, frozen=True):
    """An event to be matched; JSON as text. A notice of the service is `about` a dispatcher, which must not get it."""

    id: uuid.UUID
    environment_id: uuid.UUID
    name: str
    source: str
    external_account_id: uuid.UUID | None
    payload_raw: str
    payload_type: str
    context: str | None
    about: uuid.UUID | None


class Locked(Event, frozen=True):
    """An event under this transaction's lock. `wanted` says that it was neither delivered nor cancelled.

    `waited` are the seconds since it was due.
    """

    wanted: bool
    traceparent: str | None
    waited: float


class Candidate(msgspec.Struct, frozen=True):
    """A dispatcher that listens to an address; `updated_at` changes with every change of its filters."""

    environment_id: uuid.UUID
    source: str
    name: str
    id: uuid.UUID
    created_at: datetime
    updated_at: datetime
    external_account_id: uuid.UUID | None
    one_shot: bool

    @property
    def address(self) -> Address:
        """Where it listens."""
        return (self.environment_id, self.source, self.name)


class Filters(msgspec.Struct, frozen=True):
    """A dispatcher's two filters as stored JSON, as they were since `updated_at`."""

    id: uuid.UUID
    updated_at: datetime
    payload_filter: Any
    context_filter: Any


class Match(msgspec.Struct, frozen=True):
    """One dispatcher that wants one event."""

    record_id: uuid.UUID
    dispatcher_id: uuid.UUID
    one_shot: bool


class Made(msgspec.Struct, frozen=True):
    """The invocations that came to be, by the work that carries them out; a post may have to `wait` for its target.

    The runs of those that `started` came to be with them; each with the match that it is for.
    """

    started: dict[uuid.UUID, Match]
    invoke: list[uuid.UUID]
    post: list[uuid.UUID]
    wait: list[uuid.UUID]

    def __len__(self) -> int:
        return len(self.started) + len(self.invoke) + len(self.post) + len(self.wait)


def lock(ids: Collection[uuid.UUID]) -> list[Locked]:
    """Lock the events `ids` that nobody else holds until the transaction ends, by id."""
    return [Locked(**row) for row in _LOCK.rows({"ids": sorted(ids)})]


def candidates(addresses: Collection[Address]) -> list[Candidate]:
    """Every dispatcher that listens to one of `addresses` now, oldest first."""
    environments, sources, names = zip(*addresses, strict=True)
    parameters = {"environments": list(environments), "sources": list(sources), "names": list(names)}
    return [Candidate(**row) for row in CANDIDATES.rows(parameters)]


def filters_of(dispatcher_ids: Collection[uuid.UUID]) -> list[Filters]:
    """The filters of these dispatchers."""
    return [Filters(**row) for row in db.rows(_FILTERS, (list(dispatcher_ids),))]


def take(ids: Collection[uuid.UUID], token: uuid.UUID | None) -> set[uuid.UUID]:
    """Delete the outbox rows of these events that are due and free (or leased to `token`); returns whose those were."""
    return {row["subject_id"] for row in _TAKE.rows({"ids": list(ids), "token": token})}


def invoke(matches: Sequence[Match], replay: int = 0, *, at_once: bool) -> Made:
    """Write one invocation for each match, and, unless it is a replay, stamp the events as delivered.

    A version of a job starts its run with that; the work of the others, or of all unless `at_once`, is owed. A pair that
    has its invocation already gets no second; a one-shot dispatcher that waits for another event gets a skipped one.
    """
    asked = _columns(matches)
    made = _INVOKE.rows({**asked, "url_types": list(words.URL_TYPES), "replay": replay, "at_once": at_once})
    match_of = dict(zip(asked["ids"], matches, strict=True))
    if len(made) < len(matches) and (superseded := [match for match in matches if match.one_shot]):
        db.run(_SUPERSEDE, _columns(superseded))
    return Made(
        started={row["id"]: match_of[row["id"]] for row in made if row["started"]},
        invoke=[row["id"] for row in made if not row["url"] and not row["started"]],
        post=[row["id"] for row in made if row["url"] and not row["rests"]],
        wait=[row["id"] for row in made if row["rests"]],
    )


def _columns(matches: Sequence[Match]) -> dict[str, Any]:
    return {
        "ids": [words.new_id() for _ in matches],
        "records": [match.record_id for match in matches],
        "dispatchers": [match.dispatcher_id for match in matches],
    }
