"""Retain: keep events for so long and no longer, with their invocations, attempts and runs.

Never what is still owed; dead letters have a time of their own. A batch at a time, so that no lock is held for long, and
each look goes on behind the one before, so that what has to stay is not looked at again and again.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from kongflow_events.store import db, retention

log = structlog.get_logger(__name__)

# Events that one transaction looks at, and deletes where it may.
_BATCH: Final = 500
_START: Final = (datetime.min.replace(tzinfo=UTC), uuid.UUID(int=0))
_FOR_EVER: Final = timedelta(days=365_000)
# Seconds until events that had to stay are looked at again.
_AGAIN: Final = 3600.0


class Retention:
    """One process's retention: events are kept for `keep`, dead letters for `dead`, zero is for ever.

    Call `advance` now and then.
    """

    def __init__(self, keep: timedelta, dead: timedelta) -> None:
        self._keep = keep
        self._dead = dead or _FOR_EVER
        self._after = _START
        self._began = time.monotonic()

    def advance(self, batches: int) -> int:
        """Delete what is over among the next `batches` of old events; returns how many events that were."""
        if not self._keep:
            return 0
        self._begin_again_now_and_then()
        deleted = 0
        for _ in range(batches):
            looked, gone = self._batch()
            deleted += gone
            if looked < _BATCH:
                break
        if deleted:
            log.info("retention", deleted=deleted)
        return deleted

    def _begin_again_now_and_then(self) -> None:
        if time.monotonic() - self._began >= _AGAIN:
            self._began, self._after = time.monotonic(), _START
            retention.delete_operations(self._dead)

    def _batch(self) -> tuple[int, int]:
        """How many old events were looked at, and how many deleted."""
        with db.atomic():
            if not retention.alone():
                return 0, 0
            old = retention.next_old(self._keep, self._dead, self._after, _BATCH)
            over = [event.id for event in old if event.over]
            gone = retention.delete(over, self._dead) if over else 0
        if old:
            self._after = (old[-1].created_at, old[-1].id)
        return len(old), gone
