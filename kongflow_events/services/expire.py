"""Expire: delete what has had its time: ephemeral dispatchers, webhooks' old secrets, and buckets that are full."""

from __future__ import annotations

from kongflow_events.store import buckets, dispatchers, webhook_secrets

# So many at a time, so that a wave of expiries holds its locks only shortly.
_BATCH = 500


def expire_dispatchers() -> int:
    """Delete every dispatcher whose time is over; returns how many. Safe to run anywhere at once."""
    total = 0
    while True:
        expired = dispatchers.delete_expired(_BATCH)
        total += expired
        if expired < _BATCH:
            return total


def expire_secrets() -> int:
    """Delete every webhook's secret that signs no more; returns how many. Safe to run anywhere at once."""
    return webhook_secrets.delete_expired()


def expire_buckets() -> int:
    """Delete every rate limit's bucket that is full again; returns how many. Safe to run anywhere at once."""
    return buckets.delete_full()
