"""Invocations that are carried out over HTTP: claimed with a lease and a token, finished by whoever holds the token.

The call itself happens outside any transaction. A worker that outlived its lease holds a token nobody knows: its finish
changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from kongflow_events.store import db

# Seconds that the relay leaves a target's lane alone for which there was no place; whoever ends a call hints the next.
HELD = 1.0
# Seconds that a worker waits for a call's turn under a rate limit, rather than give it back.
PATIENCE = 0.25

# Two statements, one transaction, one way to the server. The first takes the row's lock and then its target's, which it
# makes at the first call; the second sees, behind these locks, all that other workers have decided about the target.
#
# The attempt is counted before the call: a worker that dies in it has used one up. Its row is hinted when the lease is
# over, and not only when the pause after its last hint is, which may be a minute; hint_at is mostly less, and stays.
# A call that is not let in uses up nothing: its row goes back to its place in the lane, which the relay leaves alone for
# as long as the target rests or has no place. Of a dispatcher that is disabled nothing is called, so nothing need wait,
# unless somebody has paused it: what waits then is for him to decide. Places shrink with the failures in a row, before there
# are enough of them for the circuit: targets that hang would take all that their environment may have under way.
_LOCK = db.Prepared(
    "lock_post",
    """
WITH asked AS MATERIALIZED (
    SELECT lane FROM outbox
     WHERE subject_id = %(id)s AND kind = 'post' AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
       FOR UPDATE
), stays AS MATERIALIZED (
    SELECT id FROM event_dispatchers JOIN asked ON id = lane
     WHERE NOT one_shot AND NOT EXISTS (SELECT FROM targets WHERE dispatcher_id = id) FOR KEY SHARE OF event_dispatchers
), made AS (
    INSERT INTO targets (dispatcher_id) SELECT id FROM stays
    ON CONFLICT (dispatcher_id) DO UPDATE SET held_until = targets.held_until
)
SELECT FROM targets JOIN asked ON dispatcher_id = lane FOR NO KEY UPDATE OF targets
""",
)

_CLAIM = db.Prepared(
    "claim_post",
    """
WITH asked AS (
    SELECT subject_id, lane, at.now, targets.dispatcher_id IS NOT NULL AS limited, under_way.calls,
           COALESCE(environment_id = ANY(%(full)s::uuid[]), FALSE) AS crowded,
           opened_at IS NOT NULL AND enabled AS probes, (rests_until > at.now AND enabled) OR paused_at IS NOT NULL AS rests,
           CASE WHEN enabled IS NOT TRUE THEN %(concurrency)s
                WHEN opened_at IS NOT NULL THEN 1
                ELSE GREATEST(1, LEAST((dispatchable->>'maxConcurrency')::integer, %(concurrency)s) / (1 + failures))
            END AS most,
           CASE WHEN enabled THEN interval '1 second' / (dispatchable->>'rateLimit')::float8 END AS pace,
           GREATEST(paced_until, at.now) AS turn
      FROM outbox
      LEFT JOIN targets ON targets.dispatcher_id = lane
      LEFT JOIN event_dispatchers ON event_dispatchers.id = lane
     CROSS JOIN (SELECT clock_timestamp() AS now) AS at
     CROSS JOIN LATERAL (
        SELECT array(SELECT leased.subject_id FROM outbox AS leased
                      WHERE leased.subject_id = ANY(targets.calls) AND leased.lease_until > at.now) AS calls) AS under_way
     WHERE subject_id = %(id)s AND kind = 'post' AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
), decided AS (
    SELECT *, CASE WHEN rests THEN NULL
                   WHEN crowded THEN now + %(held)s * interval '1 second'
                   WHEN NOT limited THEN NULL
                   WHEN cardinality(calls) >= most THEN now + %(held)s * interval '1 second'
                   WHEN pace IS NOT NULL AND turn > now + %(patience)s * interval '1 second'
                   THEN turn - %(patience)s * interval '1 second' END AS held_until
      FROM asked
), judged AS (
    SELECT *, NOT COALESCE(rests, FALSE) AND held_until IS NULL AS let_in FROM decided
), moved AS (
    UPDATE outbox
       SET lease_until = CASE WHEN let_in THEN judged.now + %(lease)s * interval '1 second' ELSE lease_until END,
           token = CASE WHEN let_in THEN %(token)s::uuid ELSE token END, attempts = attempts + let_in::integer,
           hint_at = CASE WHEN let_in THEN LEAST(hint_at, judged.now + %(lease)s * interval '1 second')
                          WHEN limited THEN due_at ELSE judged.held_until END,
           hints = CASE WHEN let_in THEN hints ELSE 0 END
      FROM judged WHERE outbox.subject_id = judged.subject_id
    RETURNING outbox.subject_id, outbox.lane, token, attempts, lease_until, limited, let_in,
              CASE WHEN pace IS NULL THEN 0 ELSE extract(epoch FROM turn - judged.now)::float8 END AS wait
), counted AS (
    UPDATE targets
       SET calls = CASE WHEN let_in THEN judged.calls || moved.subject_id ELSE targets.calls END,
           paced_until = CASE WHEN let_in THEN turn + pace ELSE paced_until END,
           probe = CASE WHEN let_in AND probes THEN moved.token ELSE probe END,
           held_until = CASE WHEN let_in AND probes THEN moved.lease_until
                             ELSE GREATEST(targets.held_until, judged.held_until) END
      FROM moved JOIN judged USING (subject_id, let_in)
     WHERE targets.dispatcher_id = moved.lane AND (let_in OR judged.held_until IS NOT NULL)
)
SELECT invocations.id, moved.token, moved.attempts, moved.lane AS dispatcher_id, moved.limited, moved.wait,
       extract(epoch FROM clock_timestamp())::float8 + moved.wait AS calls_at, records.environment_id,
       COALESCE(dispatchers.dispatchable, invocations.dispatchable) AS dispatchable,
       array(SELECT sealed FROM webhook_secrets AS secrets
              WHERE secrets.dispatcher_id = dispatchers.id AND (secrets.expires_at IS NULL OR secrets.expires_at > now())
              ORDER BY secrets.created_at DESC, secrets.id DESC) AS sealed_secrets,
       dispatchers.enabled, dispatchers.expires_at <= now() AS expired, records.cancelled_at IS NOT NULL AS cancelled,
       records.event_id, records.source, records.name, records.payload_raw, records.context::text AS context,
       records.timestamp, accounts.identifier AS account, records.id AS event_record_id, records.traceparent,
       CASE WHEN replay = 0 AND redrives = 0 AND moved.attempts = 1
            THEN extract(epoch FROM clock_timestamp() - GREATEST(records.deliver_at, records.created_at))::float8
        END AS waited
  FROM moved
  JOIN invocations ON invocations.id = moved.subject_id
  JOIN event_records AS records ON records.id = invocations.event_record_id
  LEFT JOIN event_dispatchers AS dispatchers ON dispatchers.id = invocations.dispatcher_id
  LEFT JOIN external_accounts AS accounts ON accounts.id = records.external_account_id
 WHERE moved.let_in
""",
)

# What came of a call, in the statement that ends or postpones it; nothing when there was no call.
_NOTED = """noted AS (
    INSERT INTO invocation_attempts (invocation_id, round, number, started_at, duration_ms, outcome, status_code, error,
                                     answer, request_headers)
    SELECT id, redrives, %(number)s::integer, now() - %(duration_ms)s::integer * interval '1 millisecond',
           %(duration_ms)s::integer, %(outcome)s::text, %(status_code)s::integer, %(error)s::text, %(answer)s::text,
           %(request_headers)s::jsonb
      FROM ended WHERE %(number)s::integer IS NOT NULL
    ON CONFLICT DO NOTHING
)"""

# A one-shot dispatcher goes with its first success.
_FINISH = db.Prepared(
    "finish_post",
    f"""
WITH gone AS (
    DELETE FROM outbox WHERE subject_id = %(id)s AND token = %(token)s RETURNING subject_id, lane, attempts
), ended AS (
    UPDATE invocations
       SET status = %(status)s::text, reason = %(reason)s, attempts = gone.attempts, completed_at = now(),
           last_error = COALESCE(%(error)s::text, last_error), last_outcome = COALESCE(%(failure)s, last_outcome),
           pending_one_shot = NULL,
           died_at = CASE WHEN %(status)s::text = 'DEAD' THEN now() END
      FROM gone WHERE invocations.id = gone.subject_id
    RETURNING id, dispatcher_id, redrives
), spent AS (
    DELETE FROM event_dispatchers USING ended
     WHERE event_dispatchers.id = ended.dispatcher_id AND one_shot AND %(status)s::text = 'SUCCEEDED'
), {_NOTED}
SELECT EXISTS (SELECT FROM targets WHERE dispatcher_id = lane AND failures > 0) AS failing FROM gone
""",
)

_POSTPONE = db.Prepared(
    "postpone_post",
    f"""
WITH back AS (
    UPDATE outbox SET due_at = now() + %(delay)s * interval '1 second', lease_until = NULL, token = NULL,
           hint_at = now() + %(delay)s * interval '1 second', hints = 0, last_error = %(error)s::text
     WHERE subject_id = %(id)s AND token = %(token)s
    RETURNING subject_id, attempts
), ended AS (
    UPDATE invocations SET attempts = back.attempts, last_error = %(error)s::text, last_outcome = %(failure)s
      FROM back WHERE invocations.id = back.subject_id
    RETURNING id, redrives
), {_NOTED}
SELECT FROM ended
""",
)


class Claimed(msgspec.Struct, frozen=True):
    """A call to be made in `wait` seconds, leased to `token`. `enabled` is None when the dispatcher is gone; JSON as text.

    `calls_at` is when that will be, in seconds since 1970 by the database's clock.
    `waited` are the seconds since its event was due, at the first call of all; None later. `limited` says that the
    dispatcher is one that stays, whose target has a standing and limits. `dispatchable` is the dispatcher's own, as it is
    now; `sealed_secrets` are a webhook's that sign now, newest first.
    """

    id: uuid.UUID
    token: uuid.UUID
    attempts: int
    dispatcher_id: uuid.UUID
    environment_id: uuid.UUID
    limited: bool
    wait: float
    calls_at: float
    dispatchable: dict[str, Any]
    sealed_secrets: list[bytes]
    enabled: bool | None
    expired: bool | None
    cancelled: bool
    event_id: str
    source: str
    name: str
    payload_raw: str
    context: str | None
    timestamp: datetime
    account: str | None
    event_record_id: uuid.UUID
    traceparent: str | None
    waited: float | None


class Attempt(msgspec.Struct, frozen=True):
    """What one call came to; `error` and `answer` are clean, cut and masked already, `request_headers` masked."""

    number: int
    outcome: str
    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    answer: str | None = None
    request_headers: Mapping[str, str] | None = None


class Finished(msgspec.Struct, frozen=True):
    """An invocation has ended; `failing` says that calls to its target have failed since the last success."""

    failing: bool


def claim(invocation_id: uuid.UUID, lease: float, concurrency: int, full: Sequence[uuid.UUID] = ()) -> Claimed | None:
    """Lease one due call for `lease` seconds and count its attempt; None when it is done, not due, or leased.

    None too when its target lets no call in: it is paused, rests, has as many calls under way as it takes (`concurrency`,
    or fewer if it says so), or is called as often as it may be; and when its environment is one of those that are `full`.
    A wait of up to PATIENCE for its turn is the caller's.
    """
    parameters = {
        "id": invocation_id,
        "lease": lease,
        "token": uuid.uuid4(),
        "concurrency": concurrency,
        "held": HELD,
        "patience": PATIENCE,
        "full": list(full),
    }
    found = db.rows_in_turn((_LOCK, _CLAIM), parameters)
    if not found:
        return None
    sealed = [bytes(each) for each in found[0].pop("sealed_secrets")]
    return Claimed(**found[0], sealed_secrets=sealed)


def finish(claimed: Claimed, status: str, reason: str | None, attempt: Attempt | None) -> Finished | None:
    """End a claimed invocation as `status`; None, and nothing changed, when the lease was lost to somebody else."""
    found = _FINISH.rows({**_held(claimed), **_said(attempt), "status": status, "reason": reason})
    return Finished(**found[0]) if found else None


def postpone(claimed: Claimed, delay: float, attempt: Attempt) -> bool:
    """Give a claimed call back, due in `delay` seconds; False, and nothing changed, when the lease was lost."""
    return bool(_POSTPONE.run({**_held(claimed), **_said(attempt), "delay": delay}))


def _held(claimed: Claimed) -> dict[str, Any]:
    return {"id": claimed.id, "token": claimed.token}


def _said(attempt: Attempt | None) -> dict[str, Any]:
    """An attempt's values; its outcome is a `failure` too when there was an error."""
    if attempt is None:
        return dict.fromkeys((*Attempt.__struct_fields__, "failure"))
    headers = None if attempt.request_headers is None else msgspec.json.encode(attempt.request_headers).decode()
    failure = attempt.outcome if attempt.error else None
    return {**msgspec.structs.asdict(attempt), "request_headers": headers, "failure": failure}
