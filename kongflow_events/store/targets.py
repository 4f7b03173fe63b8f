"""How the receivers of posts are doing. Letting a call in is `posts.claim`; here is what its end changes."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

import msgspec

from kongflow_events import circuits
from kongflow_events.store import db

# Of a target that calls have to wait for, whether there is a row of it or not: it rests, or somebody has paused it.
WAITS: Final = "(targets.paused_at IS NOT NULL OR targets.rests_until > now()) IS TRUE"

# The house's lock order: dispatcher, then target. The clock is read behind the locks: what others have written before
# must not lie in its future.
_LOCK = """
WITH dispatcher AS MATERIALIZED (SELECT id FROM event_dispatchers WHERE id = %(dispatcher)s FOR NO KEY UPDATE)
SELECT failures, failing_since, opened_at, pauses, rests_until, disabled_at, disabled_reason,
       COALESCE(probe = %(token)s, FALSE) AS probe, clock_timestamp() AS now
  FROM targets JOIN dispatcher ON dispatcher.id = targets.dispatcher_id FOR NO KEY UPDATE OF targets
"""

# Once the probe is over, the relay need not wait for the end of its lease; and a target that is well again has all of its
# places, which nobody else would fill.
_SAVE = """
UPDATE targets
   SET failures = %(failures)s, failing_since = %(failing_since)s, opened_at = %(opened_at)s, pauses = %(pauses)s,
       rests_until = %(rests_until)s, disabled_at = %(disabled_at)s, disabled_reason = %(disabled_reason)s,
       probe = CASE WHEN probe = %(token)s THEN NULL ELSE probe END,
       held_until = CASE WHEN probe = %(token)s OR %(failures)s = 0 THEN NULL ELSE held_until END
 WHERE dispatcher_id = %(dispatcher)s
"""

# A target that was never called has no row yet.
_PAUSE = """
INSERT INTO targets (dispatcher_id, paused_at) VALUES (%s, now())
ON CONFLICT (dispatcher_id) DO UPDATE SET paused_at = COALESCE(targets.paused_at, EXCLUDED.paused_at)
"""

# Calls under way and the pace stay: they are the receiver's limits, and no history; a pause is its operator's.
_FORGET = """
UPDATE targets
   SET failures = 0, failing_since = NULL, opened_at = NULL, pauses = 0, probe = NULL, rests_until = NULL,
       held_until = NULL, disabled_at = NULL, disabled_reason = NULL
 WHERE dispatcher_id = %s
"""


class Locked(msgspec.Struct, frozen=True):
    """A target under this transaction's lock; `probe` says whether the call in question decides about its circuit."""

    standing: circuits.Standing
    probe: bool
    now: datetime


def lock(dispatcher_id: uuid.UUID, token: uuid.UUID) -> Locked | None:
    """Lock the target and its dispatcher until the transaction ends, for the call of this token; None when there is none."""
    found = db.rows(_LOCK, {"dispatcher": dispatcher_id, "token": token})
    if not found:
        return None
    probe, now = found[0].pop("probe"), found[0].pop("now")
    return Locked(circuits.Standing(**found[0]), probe, now)


def save(dispatcher_id: uuid.UUID, token: uuid.UUID, standing: circuits.Standing) -> None:
    """Write how a locked target stands after the call of this token."""
    db.run(_SAVE, {"dispatcher": dispatcher_id, "token": token, **msgspec.structs.asdict(standing)})


def disable(dispatcher_id: uuid.UUID) -> bool:
    """Disable the dispatcher of a locked target; False when it is disabled already."""
    return bool(db.run("UPDATE event_dispatchers SET enabled = FALSE WHERE id = %s AND enabled", (dispatcher_id,)))


def forget(dispatcher_id: uuid.UUID) -> None:
    """Let a target stand as if it had never been called."""
    db.run(_FORGET, (dispatcher_id,))


def pause(dispatcher_id: uuid.UUID) -> None:
    """Let no call of a dispatcher that stays in until it is resumed; those under way go on."""
    db.run(_PAUSE, (dispatcher_id,))


def resume(dispatcher_id: uuid.UUID) -> None:
    """Let its calls in again."""
    db.run("UPDATE targets SET paused_at = NULL WHERE dispatcher_id = %s", (dispatcher_id,))
