"""The outbox: what is owed, when it is hinted, who works on it alone, and how it fails.

The statements that *do* the work delete its row in the transaction of the work; they live with the work, in
`deliveries`, `invocations` and `posts`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime

import msgspec

from kongflow_events import words
from kongflow_events.store import db

# A row that was hinted this often without progress has probably killed its workers: it is taken alone from then on.
SUSPECT_HINTS = 6
# Lanes that one round-robin pass looks at; the next pass goes on behind them.
_LANES = 100
# Rows of a lane that are no crowd.
FEW = 20
# Before all others: where a round begins.
FIRST_LANE = uuid.UUID(int=0)

# What invocations just made are owed: `made` has their id, environment_id, dispatcher_id, and whether they call a `url`.
# The first hint by the relay is a second away, because whoever makes them hints them itself.
OWE_MADE = """
    INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
    SELECT id, CASE WHEN url THEN 'post' ELSE 'invoke' END, CASE WHEN url THEN dispatcher_id ELSE environment_id END,
           now(), now() + interval '1 second'
      FROM made
"""

_FREE = "hint_at <= now() AND hint_at >= {since} AND (lease_until IS NULL OR lease_until < now())"
_FREE_SINCE = _FREE.format(since="%(since)s")
_FREE_EVER = _FREE.format(since="'-infinity'")

# The order asks for the index: the planner takes the rows for plenty, and would read the table until it met one.
_WAITING = db.Prepared(
    "find_waiting",
    f"""
SELECT now() AS now, array(
    SELECT kind FROM unnest(%(kinds)s::text[]) AS kinds(kind)
     WHERE (SELECT subject_id FROM outbox WHERE outbox.kind = kinds.kind AND {_FREE_SINCE}
             ORDER BY hint_at LIMIT 1) IS NOT NULL
 UNION ALL
    SELECT 'post' WHERE (SELECT subject_id FROM outbox WHERE kind = 'post' AND {_FREE_EVER}
                          ORDER BY hint_at LIMIT 1) IS NOT NULL) AS kinds
""",
)

# Each hint doubles the pause before the next, from 1 s to 60 s. The array asks for the primary key: for a join with as many
# rows as there may be, the planner would read the whole table.
_HINT = """
UPDATE outbox SET hint_at = now() + LEAST(60, power(2, LEAST(hints, 6))) * interval '1 second', hints = hints + 1
 WHERE subject_id = ANY(ARRAY(SELECT subject_id FROM due))
RETURNING subject_id, lane, hints
"""

_HINT_OLDEST = db.Prepared(
    "hint_oldest",
    f"""
WITH due AS (
    SELECT subject_id FROM outbox WHERE kind = %(kind)s AND {_FREE_SINCE}
     ORDER BY hint_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
{_HINT}
""",
)

# A loose index scan, from lane to lane: all rows of the lanes that have few, and of those that have more a bite each. Its
# cost depends on the lanes looked at, not on the rows: every order asks for the index, also where none is needed.
_HINT_LANES = f"""
WITH RECURSIVE lanes(lane) AS (
    (SELECT lane FROM outbox WHERE kind = %(kind)s AND lane > %(after)s ORDER BY lane LIMIT 1)
    UNION ALL
    (SELECT (SELECT lane FROM outbox WHERE kind = %(kind)s AND lane > lanes.lane ORDER BY lane LIMIT 1)
       FROM lanes WHERE lanes.lane IS NOT NULL)
), visited AS (
    SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT {_LANES}
), ready AS MATERIALIZED (
    SELECT lane, (SELECT count(*) FROM (
        SELECT FROM outbox WHERE kind = %(kind)s AND outbox.lane = visited.lane AND {_FREE_SINCE}
         ORDER BY hint_at LIMIT {FEW} + 1) AS due) > {FEW} AS many
      FROM visited
), shares AS (
    SELECT lane, many, CASE WHEN many THEN (%(bite)s + others - 1) / others ELSE {FEW} END AS share
      FROM (SELECT *, count(*) FILTER (WHERE many) OVER () AS others FROM ready) AS ready
), due AS (
    SELECT bite.subject_id FROM shares CROSS JOIN LATERAL (
        SELECT subject_id FROM outbox WHERE kind = %(kind)s AND lane = shares.lane AND {_FREE_SINCE}
         ORDER BY hint_at LIMIT shares.share FOR UPDATE SKIP LOCKED) AS bite
     LIMIT %(limit)s
), hinted AS ({_HINT})
SELECT hinted.*, array(SELECT lane FROM ready WHERE many) AS crowded,
       (SELECT lane FROM visited ORDER BY lane DESC LIMIT 1) AS last_lane, (SELECT count(*) FROM visited) AS lanes
  FROM (VALUES (1)) AS always LEFT JOIN hinted ON TRUE
"""

# The same from target to target, but what is looked at is only the lane's first row, unless that is due and the target
# does not rest: a lane costs as little with 50,000 rows that wait for its target as with one.
_HINT_TARGETS = f"""
WITH RECURSIVE lanes(lane, hint_at) AS (
    (SELECT lane, hint_at FROM outbox WHERE kind = 'post' AND lane > %(after)s ORDER BY lane, hint_at LIMIT 1)
    UNION ALL
    SELECT following.lane, following.hint_at
      FROM lanes CROSS JOIN LATERAL (
        SELECT lane, hint_at FROM outbox WHERE kind = 'post' AND lane > lanes.lane ORDER BY lane, hint_at LIMIT 1
      ) AS following
), visited AS (
    SELECT lane, hint_at FROM lanes LIMIT {_LANES}
), ready AS (
    SELECT lane FROM visited
     WHERE hint_at <= now() AND NOT EXISTS (
        SELECT FROM targets
         WHERE dispatcher_id = lane AND (GREATEST(rests_until, held_until) > now() OR paused_at IS NOT NULL))
), due AS (
    SELECT bite.subject_id FROM ready CROSS JOIN LATERAL (
        SELECT subject_id FROM outbox WHERE kind = 'post' AND lane = ready.lane AND {_FREE_EVER}
         ORDER BY hint_at LIMIT %(bite)s FOR UPDATE SKIP LOCKED) AS bite
     LIMIT %(limit)s
), hinted AS ({_HINT})
SELECT hinted.*, (SELECT lane FROM visited ORDER BY lane DESC LIMIT 1) AS last_lane, (SELECT count(*) FROM visited) AS lanes
  FROM (VALUES (1)) AS always LEFT JOIN hinted ON TRUE
"""

# Whoever ends a call has made a place for the next of its lane. The bounds ask for the lane's own stretch of the index: the
# plan is kept, and with an equality it may be one that walks all that waits, made while that was one lane's.
_HINT_NEXT = db.Prepared(
    "hint_next",
    f"""
WITH due AS (
    SELECT subject_id FROM outbox
     WHERE kind = 'post' AND lane BETWEEN %(lane)s AND %(lane)s AND {_FREE_EVER}
       AND NOT EXISTS (
        SELECT FROM targets WHERE dispatcher_id = %(lane)s AND (rests_until > now() OR paused_at IS NOT NULL))
     ORDER BY lane, hint_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
{_HINT}
""",
)


# A record's own, or that of the event which an invocation is for.
_TRACEPARENTS = {
    True: "SELECT id, traceparent FROM event_records WHERE id = ANY(%s) AND traceparent IS NOT NULL",
    False: """SELECT invocations.id, traceparent FROM invocations JOIN event_records ON event_records.id = event_record_id
               WHERE invocations.id = ANY(%s) AND traceparent IS NOT NULL""",
}


class Waiting(msgspec.Struct, frozen=True):
    """What has rows to hint, and the time of the database at which that was so."""

    now: datetime
    kinds: list[words.Kind]


class Hinted(msgspec.Struct, frozen=True):
    """A row to hint: its id, its lane, and how often that was tried without progress, this time included."""

    id: uuid.UUID
    lane: uuid.UUID
    hints: int

    @property
    def suspect(self) -> bool:
        """Whether it has to be taken alone."""
        return self.hints > SUSPECT_HINTS


class Lanes(msgspec.Struct, frozen=True):
    """One round-robin pass: the rows of lanes that have few, a bite of those that have many, and the lane to go on after.

    That is FIRST_LANE when it came round.
    """

    few: list[Hinted]
    many: list[Hinted]
    after: uuid.UUID


class Targets(msgspec.Struct, frozen=True):
    """A pass over the targets of posts: the rows it hinted, and the lane to go on after; FIRST_LANE when it came round."""

    rows: list[Hinted]
    after: uuid.UUID


def waiting(since: datetime) -> Waiting:
    """The kinds of work that have a row to hint, due since `since` or later (posts: since ever), by the database's clock."""
    kinds = [kind for kind in words.KINDS if kind != "post"]
    return Waiting(**_WAITING.rows({"kinds": kinds, "since": since})[0])


def hint_oldest(kind: words.Kind, since: datetime, limit: int) -> list[Hinted]:
    """Move up to `limit` due rows' next hint ahead, first in first out, and return them. Waits for no lock."""
    found = _HINT_OLDEST.rows({"kind": kind, "since": since, "limit": limit})
    # Ids grow with time.
    return sorted((_hinted(row) for row in found), key=lambda hinted: hinted.id)


def hint_lanes(kind: words.Kind, since: datetime, after: uuid.UUID, bite: int, limit: int) -> Lanes:
    """The same, but lane by lane, starting behind the lane `after`: those with many rows share `bite` rows among them."""
    found = db.rows(_HINT_LANES, {"kind": kind, "since": since, "after": after, "bite": bite, "limit": limit})
    hinted = [row for row in found if row["subject_id"]]
    few, many = (
        [_hinted(row) for row in hinted if (row["lane"] in row["crowded"]) is crowd] for crowd in (False, True)
    )
    return Lanes(few, many, _after(found, hinted, after, limit))


def hint_targets(after: uuid.UUID, bite: int, limit: int) -> Targets:
    """Up to `bite` rows of each post's target in turn, but of none that is paused, rests or has no place for a call."""
    found = db.rows(_HINT_TARGETS, {"after": after, "bite": bite, "limit": limit})
    hinted = [row for row in found if row["subject_id"]]
    return Targets([_hinted(row) for row in hinted], _after(found, hinted, after, limit))


def hint_next(lane: uuid.UUID) -> list[uuid.UUID]:
    """The post that has waited longest for this target, its next hint moved ahead; none while it rests or is paused."""
    return [row["subject_id"] for row in _HINT_NEXT.rows({"lane": lane})]


def _after(found: list[db.Row], hinted: list[db.Row], after: uuid.UUID, limit: int) -> uuid.UUID:
    """The lane after which the next pass goes on."""
    if len(hinted) == limit:
        # Lanes behind the last bite were not reached: the next pass begins with them.
        return max((row["lane"] for row in hinted), default=after)
    last: uuid.UUID = found[0]["last_lane"] if found[0]["lanes"] == _LANES else FIRST_LANE
    return last


def still_owed(ids: Collection[uuid.UUID]) -> list[uuid.UUID]:
    """Those of these hinted rows that nobody has got to the end of: neither done, nor to be tried again."""
    owed = "SELECT subject_id FROM outbox WHERE subject_id = ANY(%s) AND hints > 0 AND died_at IS NULL"
    return [row["subject_id"] for row in db.rows(owed, (list(ids),))] if ids else []


def traceparents(kind: words.Kind, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The traces that these rows belong to, of those that belong to one; not asked for unless spans are recorded."""
    return {row["id"]: row["traceparent"] for row in db.rows(_TRACEPARENTS[kind == "deliver"], (list(ids),))}


def unhint(ids: Collection[uuid.UUID]) -> None:
    """Set rows back whose hints could not be published: due for a hint now, as if it had not been tried."""
    db.run(
        """WITH back AS (
               SELECT subject_id FROM outbox WHERE subject_id = ANY(%s) AND died_at IS NULL ORDER BY subject_id FOR UPDATE
           )
           UPDATE outbox SET hint_at = now(), hints = GREATEST(hints - 1, 0)
            WHERE subject_id = ANY(ARRAY(SELECT subject_id FROM back))""",
        (list(ids),),
    )


def claim(kind: words.Kind, subject_id: uuid.UUID, lease: float) -> tuple[uuid.UUID, int] | None:
    """Take one due row alone for `lease` seconds; returns the token and this attempt's number, None if there is none.

    The attempt is counted here, and committed by the caller before the work, so that a worker's death counts too; the
    row is then hinted as soon as the lease is over, whatever the pause after its last hint.
    """
    token = uuid.uuid4()
    found = db.rows(
        """UPDATE outbox SET lease_until = now() + %s * interval '1 second', token = %s, attempts = attempts + 1,
                  hint_at = LEAST(hint_at, now() + %s * interval '1 second')
            WHERE subject_id = %s AND kind = %s AND due_at <= now() AND died_at IS NULL
              AND (lease_until IS NULL OR lease_until < now())
           RETURNING attempts""",
        (lease, token, lease, subject_id, kind),
    )
    return (token, found[0]["attempts"]) if found else None


def release(subject_id: uuid.UUID, token: uuid.UUID) -> None:
    """Give a claimed row back as it was, its attempt not counted; nothing when it is done, or claimed by somebody else."""
    db.run(
        """UPDATE outbox SET lease_until = NULL, token = NULL, attempts = attempts - 1
            WHERE subject_id = %s AND token = %s""",
        (subject_id, token),
    )


def postpone(subject_id: uuid.UUID, token: uuid.UUID, delay: float, error: str) -> bool:
    """Give a claimed row back, due in `delay` seconds; False, and nothing changed, when the lease was lost."""
    changed = db.run(
        """UPDATE outbox SET due_at = now() + %(delay)s * interval '1 second', lease_until = NULL, token = NULL,
                  hint_at = now() + %(delay)s * interval '1 second', hints = 0, last_error = %(error)s
            WHERE subject_id = %(id)s AND token = %(token)s""",
        {"id": subject_id, "token": token, "delay": delay, "error": error},
    )
    return bool(changed)


def bury_delivery(subject_id: uuid.UUID, token: uuid.UUID, error: str) -> bool:
    """Make a claimed delivery a dead letter: its row stays, never hinted again. False when the lease was lost."""
    changed = db.run(
        """UPDATE outbox SET died_at = now(), hint_at = 'infinity', lease_until = NULL, token = NULL, last_error = %s
            WHERE subject_id = %s AND token = %s""",
        (error, subject_id, token),
    )
    return bool(changed)


def _hinted(row: db.Row) -> Hinted:
    return Hinted(row["subject_id"], row["lane"], row["hints"])
