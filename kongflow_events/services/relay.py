"""The relay: hand what is due in the outbox to the broker, as hints.

It moves a row's next hint ahead, commits, and only then publishes: a hint that is lost after that is repeated when the
row's pause is over. No depth, no hints: while a queue cannot be asked how full it is, nothing moves.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from kongflow_events import crashes, errors, words
from kongflow_events.store import db, outbox
from kongflow_events.words import HintBatch

log = structlog.get_logger(__name__)

# Messages that one pass may publish before it commits; what one pass leaves, the next one takes.
_MESSAGES_A_PASS = 50
# A transaction may commit a row this long after it took its clock's time: the mark stays behind by that much.
_LATEST_COMMIT = timedelta(seconds=15)
# Rows that the mark has passed (somebody held them) are found by a full scan, this often.
_FULL_SCAN = 10.0
# Seconds between two rounds of the targets, and how many times as long as a round the pause is at least: with thousands of
# targets that wait for something, the relay is still mostly there for the others.
_ROUND = 0.1
_TIMES_AS_LONG = 10
# A broker that failed is left alone this long, so that a dead one is not dialled a hundred times a second.
_REST = 0.5
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class Hints(Protocol):
    """The broker as the relay needs it; both verbs raise Retryable when it cannot be reached."""

    def depth(self, queue_name: str) -> int:
        """How many messages wait in the queue."""

    def publish(self, queue_name: str, messages: Sequence[HintBatch]) -> None:
        """Hand one message for each batch over, confirmed."""


class _Order:
    """What the relay remembers of one kind of work from tick to tick."""

    def __init__(self) -> None:
        # Nothing that is due for a hint lies before this mark, but for rows that somebody held.
        self.since = _EVER
        # Whether the last pass left rows for want of room: then lanes take turns, so that none stands before the others.
        self.behind = False
        self.after = outbox.FIRST_LANE


class _Round:
    """Where the relay is among the targets of posts, and what this round has cost."""

    def __init__(self) -> None:
        self.after = outbox.FIRST_LANE
        self._spent = 0.0
        self._next = -math.inf

    def is_due(self) -> bool:
        """Whether there is a round to begin or to go on with."""
        return time.monotonic() >= self._next

    def go_on(self, after: uuid.UUID, spent: float) -> None:
        """Go on after this lane, `spent` seconds of looking later; after the last one there is a pause."""
        self.after = after
        self._spent += spent
        if after == outbox.FIRST_LANE:
            self._next = time.monotonic() + max(_ROUND, _TIMES_AS_LONG * self._spent)
            self._spent = 0.0


class Relay:
    """One relay; run `tick` from one thread. Any number of relays may share an outbox: they skip each other's rows.

    `places` is the number of calls that a target takes at once: more of its posts are not hinted in one round.
    """

    def __init__(self, hints: Hints, *, batch: int, high_water: int, places: int) -> None:
        self._hints = hints
        self._batch = batch
        self._high_water = high_water
        self._places = places
        self._round = _Round()
        self._orders: dict[words.Kind, _Order] = {"deliver": _Order(), "invoke": _Order()}
        self._scanned = -_FULL_SCAN
        self._resting_until = 0.0
        self._away = False

    def tick(self) -> int:
        """Hint everything that is due and for which there is room; returns how many rows that were."""
        if time.monotonic() < self._resting_until:
            return 0
        try:
            with db.unit():
                hinted = self._tick()
        except (errors.Retryable, *db.AWAY) as error:
            self._say_once_that_it_is_away(error)
            self._resting_until = time.monotonic() + _REST
            return 0
        if hinted and self._away:
            self._away = False
            log.info("the broker answers again", rows=hinted)
        return hinted

    def _say_once_that_it_is_away(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.warning("the broker or the database cannot be reached; nothing is hinted", reason=str(error).strip())

    def _tick(self) -> int:
        self._scan_fully_now_and_then()
        waiting = outbox.waiting(min(order.since for order in self._orders.values()))
        total = sum(self._call_on_targets() if kind == "post" else self._drain(kind) for kind in waiting.kinds)
        for order in self._orders.values():
            if not order.behind:
                order.since = waiting.now - _LATEST_COMMIT
        return total

    def _scan_fully_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._scanned >= _FULL_SCAN:
            self._scanned = now
            for order in self._orders.values():
                order.since = _EVER

    def _drain(self, kind: words.Kind) -> int:
        total = 0
        while True:
            room = self._room(kind)
            if room <= 0:
                self._orders[kind].behind = True
                return total
            with db.atomic():
                rows = self._move(kind, room * self._batch)
                if rows:
                    crashes.point("relay.before_commit")
            self._publish(kind, rows, self._batch)
            total += len(rows)
            if not self._orders[kind].behind:
                return total

    def _call_on_targets(self) -> int:
        """Hint posts, a few of each target in turn, one round at a time: the end of a call hints the next by itself."""
        total = 0
        while self._round.is_due():
            room = self._room("post")
            if room <= 0:
                break
            started = time.monotonic()
            with db.atomic():
                visited = outbox.hint_targets(self._round.after, self._places, room)
                if visited.rows:
                    crashes.point("relay.before_commit")
            self._round.go_on(visited.after, time.monotonic() - started)
            # A call to a URL may take seconds: its message carries one id, so that it holds up no other.
            self._publish("post", visited.rows, 1)
            total += len(visited.rows)
        return total

    def _room(self, kind: words.Kind) -> int:
        return min(self._high_water - self._hints.depth(kind), _MESSAGES_A_PASS)

    def _move(self, kind: words.Kind, limit: int) -> list[outbox.Hinted]:
        """Move rows' next hint ahead: the oldest first, or lane by lane once there is more than can be taken."""
        order = self._orders[kind]
        if not order.behind:
            rows = outbox.hint_oldest(kind, order.since, limit)
            order.behind = len(rows) == limit
            return rows
        visited = outbox.hint_lanes(kind, order.since, order.after, self._batch, limit)
        # Nothing is left once a whole round, from the first lane to the last, has found nothing.
        whole = order.after == visited.after == outbox.FIRST_LANE
        order.behind = bool(visited.rows) or not whole
        order.after = visited.after
        return visited.rows

    def _publish(self, kind: words.Kind, rows: Sequence[outbox.Hinted], size: int) -> None:
        if not rows:
            return
        crashes.point("relay.after_commit")
        try:
            self._hints.publish(kind, _batches(rows, size))
        except errors.Retryable:
            outbox.unhint([row.id for row in rows])
            raise
        crashes.point("relay.after_publish")


def _batches(rows: Sequence[outbox.Hinted], size: int) -> list[HintBatch]:
    """Rows as messages: many ids each, but a suspect travels alone."""
    ids = [str(row.id) for row in rows if not row.suspect]
    together = [HintBatch(tuple(ids[start : start + size])) for start in range(0, len(ids), size)]
    return together + [HintBatch((str(row.id),), alone=True) for row in rows if row.suspect]
