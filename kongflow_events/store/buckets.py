"""Buckets of tokens: taken from and refilled in one statement, by the database's clock."""

from __future__ import annotations

import uuid

import msgspec

from kongflow_events.store import db

# The clock is read once, behind the row's lock: a statement that waited must not refill a stretch of time again that the
# one before it has refilled. Nothing here is written to the log, so the commit waits for no disk.
_TAKE = """
INSERT INTO token_buckets AS bucket (owner_id, burst, rate, tokens, let_in, refilled_at)
VALUES (%(owner)s, %(burst)s, %(rate)s, %(burst)s - %(tokens)s, TRUE, clock_timestamp())
ON CONFLICT (owner_id) DO UPDATE
   SET (burst, rate, tokens, let_in, refilled_at) = (
           SELECT EXCLUDED.burst, EXCLUDED.rate, CASE WHEN enough THEN there - %(tokens)s ELSE there END, enough, clock.now
             FROM (SELECT clock_timestamp() AS now) AS clock,
                  LATERAL (SELECT GREATEST(extract(epoch FROM clock.now - bucket.refilled_at), 0)::float8) AS time(passed),
                  LATERAL (SELECT LEAST(bucket.tokens + EXCLUDED.rate * passed, EXCLUDED.burst)) AS refilled(there),
                  LATERAL (SELECT there >= LEAST(%(tokens)s, EXCLUDED.burst)) AS decided(enough))
RETURNING let_in, tokens, extract(epoch FROM refilled_at)::float8 AS at
"""


class Taken(msgspec.Struct, frozen=True):
    """Whether tokens were taken, and how many are left at the time `at`: seconds since 1970, by the database's clock."""

    let_in: bool
    tokens: float
    at: float


def take(owner: uuid.UUID, rate: float, burst: int, tokens: int) -> Taken:
    """Refill the owner's bucket (`rate` tokens a second, `burst` at most) and take `tokens`, or none when it has too few.

    More than the burst are taken when it is full, and leave it in debt.
    """
    [row] = db.rows(_TAKE, {"owner": owner, "rate": rate, "burst": burst, "tokens": tokens})
    return Taken(**row)


def delete_full() -> int:
    """Delete the buckets that are full by now; returns how many."""
    return db.run(
        "DELETE FROM token_buckets WHERE tokens + rate * extract(epoch FROM now() - refilled_at)::float8 >= burst"
    )
