"""Expire: delete ephemeral dispatchers whose time is over."""

from __future__ import annotations

from kongflow_events.store import dispatchers

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
