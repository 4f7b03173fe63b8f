"""Invocations that are carried out over HTTP: claimed with a lease and a token, finished by whoever holds the token.

The call itself happens outside any transaction. A worker that outlived its lease holds a token nobody knows: its finish
changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from kongflow_events.store import db

# The attempt is counted before the call: a worker that dies in it has used one up. Its row is hinted when the lease is
# over, and not only when the pause after its last hint is, which may be a minute; hint_at is mostly less, and stays.
_CLAIM = """
WITH claimed AS (
    UPDATE outbox SET lease_until = now() + %(lease)s * interval '1 second', token = %(token)s, attempts = attempts + 1,
           hint_at = LEAST(hint_at, now() + %(lease)s * interval '1 second')
     WHERE subject_id = %(id)s AND kind = 'post' AND due_at <= now()
       AND (lease_until IS NULL OR lease_until < now())
    RETURNING subject_id, token, attempts
)
SELECT invocations.id, claimed.token, claimed.attempts, invocations.dispatcher_id,
       COALESCE(dispatchers.dispatchable, invocations.dispatchable) AS dispatchable,
       array(SELECT sealed FROM webhook_secrets AS secrets
              WHERE secrets.dispatcher_id = dispatchers.id AND (secrets.expires_at IS NULL OR secrets.expires_at > now())
              ORDER BY secrets.created_at DESC, secrets.id DESC) AS sealed_secrets,
       dispatchers.enabled, dispatchers.expires_at <= now() AS expired, records.cancelled_at IS NOT NULL AS cancelled,
       records.event_id, records.source, records.name, records.payload_raw, records.context::text AS context,
       records.timestamp, accounts.identifier AS account
  FROM claimed
  JOIN invocations ON invocations.id = claimed.subject_id
  JOIN event_records AS records ON records.id = invocations.event_record_id
  LEFT JOIN event_dispatchers AS dispatchers ON dispatchers.id = invocations.dispatcher_id
  LEFT JOIN external_accounts AS accounts ON accounts.id = records.external_account_id
"""

# A one-shot dispatcher goes with its first success.
_FINISH = """
WITH gone AS (
    DELETE FROM outbox WHERE subject_id = %(id)s AND token = %(token)s RETURNING subject_id, attempts
), ended AS (
    UPDATE invocations
       SET status = %(status)s, reason = %(reason)s, attempts = gone.attempts, completed_at = now(),
           last_error = COALESCE(%(error)s, last_error), last_outcome = COALESCE(%(outcome)s, last_outcome),
           pending_one_shot = NULL,
           died_at = CASE WHEN %(status)s = 'DEAD' THEN now() END
      FROM gone WHERE invocations.id = gone.subject_id
    RETURNING dispatcher_id
), spent AS (
    DELETE FROM event_dispatchers USING ended
     WHERE event_dispatchers.id = ended.dispatcher_id AND one_shot AND %(status)s = 'SUCCEEDED'
)
SELECT attempts FROM gone
"""

_POSTPONE = """
WITH back AS (
    UPDATE outbox SET due_at = now() + %(delay)s * interval '1 second', lease_until = NULL, token = NULL,
           hint_at = now() + %(delay)s * interval '1 second', hints = 0, last_error = %(error)s
     WHERE subject_id = %(id)s AND token = %(token)s
    RETURNING subject_id, attempts
)
UPDATE invocations SET attempts = back.attempts, last_error = %(error)s, last_outcome = %(outcome)s
  FROM back WHERE invocations.id = back.subject_id
"""

_ATTEMPT = """
INSERT INTO invocation_attempts (invocation_id, round, number, started_at, duration_ms, outcome, status_code, error,
                                 answer, request_headers)
SELECT id, redrives, %(number)s, now() - %(duration_ms)s * interval '1 millisecond', %(duration_ms)s, %(outcome)s,
       %(status_code)s, %(error)s, %(answer)s, %(request_headers)s::jsonb
  FROM invocations WHERE id = %(id)s
ON CONFLICT DO NOTHING
"""


class Claimed(msgspec.Struct, frozen=True):
    """A call to be made, leased to `token`. `enabled` is None when the dispatcher is gone; JSON as text.

    `dispatchable` is the dispatcher's own, as it is now; `sealed_secrets` are a webhook's that sign now, newest first.
    """

    id: uuid.UUID
    token: uuid.UUID
    attempts: int
    dispatcher_id: uuid.UUID
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


class Attempt(msgspec.Struct, frozen=True):
    """What one call came to; `error` and `answer` are clean and cut already, `request_headers` masked."""

    number: int
    outcome: str
    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    answer: str | None = None
    request_headers: Mapping[str, str] | None = None


def claim(invocation_id: uuid.UUID, lease: float) -> Claimed | None:
    """Lease one due call for `lease` seconds and count its attempt; None when it is done, not due, or leased."""
    found = db.rows(_CLAIM, {"id": invocation_id, "lease": lease, "token": uuid.uuid4()})
    if not found:
        return None
    sealed = [bytes(each) for each in found[0].pop("sealed_secrets")]
    return Claimed(**found[0], sealed_secrets=sealed)


def finish(claimed: Claimed, status: str, reason: str | None, attempt: Attempt | None) -> bool:
    """End a claimed invocation as `status`; False, and nothing changed, when the lease was lost to somebody else."""
    parameters = {
        "id": claimed.id,
        "token": claimed.token,
        "status": status,
        "reason": reason,
        "error": attempt.error if attempt else None,
        "outcome": attempt.outcome if attempt and attempt.error else None,
    }
    with db.atomic():
        ended = bool(db.rows(_FINISH, parameters))
        if ended and attempt:
            _write(claimed, attempt)
    return ended


def postpone(claimed: Claimed, delay: float, attempt: Attempt) -> None:
    """Give a claimed call back, due in `delay` seconds; changes nothing when the lease was lost."""
    parameters = {
        "id": claimed.id,
        "token": claimed.token,
        "delay": delay,
        "error": attempt.error,
        "outcome": attempt.outcome,
    }
    with db.atomic():
        if db.run(_POSTPONE, parameters):
            _write(claimed, attempt)


def _write(claimed: Claimed, attempt: Attempt) -> None:
    headers = None if attempt.request_headers is None else msgspec.json.encode(attempt.request_headers).decode()
    db.run(_ATTEMPT, {"id": claimed.id, **msgspec.structs.asdict(attempt), "request_headers": headers})
