"""The relay: hand what is due in the outbox to the broker, as hints.

It moves a row's next hint ahead, commits, and only then publishes: a hint that is lost after that is repeated when the
row's pause is over. No depth, no hints: while a queue cannot be asked how full it is, nothing moves.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from kongflow_events import crashes, errors, metrics, traces, words
from kongflow_events.store import db, outbox
from kongflow_events.words import HintBatch

log = structlog.get_logger(__name__)

# Messages that one pass may publish before it commits; what one pass leaves, the next one takes.
_MESSAGES_A_PASS = 50
# Messages of lanes with many rows that may be under way for each worker process: one at work and one that waits for it, while
# such lanes are among themselves; the eighth of one while others come as well, which then wait for no thread and no queue,
# and for a processor seldom: the next message goes with the next tick.
_MANY, _MANY_BESIDE_OTHERS = 2, 0.125
# Seconds until such a message is taken for lost.
_LOST = 2.0
# Seconds until lanes with many rows are among themselves again.
_AMONG_THEMSELVES = 1.0
# Messages in which everything that is due goes first in, first out.
_AT_ONCE = 2
# Seconds that a tick may last. While workers keep pace with a backlog it could go on until that is gone, and with it
# the other work of its thread: the process would be taken for dead.
_LONGEST_TICK = 0.5
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
# Rows a second that are a load, measured over so many seconds; how long to linger for each of them, and at the most.
_LOAD = 400.0
_RECENTLY = 0.25
_LINGER_A_ROW = 75e-6
_LONGEST_LINGER = 0.1
# Seconds between two looks, at the least, as far as their rate is concerned.
_SHORTEST = 0.001
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


# Rows to hint, in groups that share no message: who has few does not wait until the work of those with many is done.
Groups = list[list[outbox.Hinted]]


class Pace:
    """When the relay is to look: at every tick, but under load only after a moment in which more rows have come.

    A message of few ids costs its workers nearly as much as one of many, so that lingering is what carries a load, the
    longer the more there is; while there is none, it would only be late.
    """

    def __init__(self) -> None:
        self._rate = 0.0
        self._looked = -math.inf

    def is_time(self, now: float) -> bool:
        """Whether to look, at this time of the monotonic clock."""
        return self._rate < _LOAD or now - self._looked >= min(_LINGER_A_ROW * self._rate, _LONGEST_LINGER)

    def note(self, rows: int, now: float) -> None:
        """A look has hinted so many rows."""
        passed = max(now - self._looked, _SHORTEST)
        self._rate += (rows / passed - self._rate) * min(1.0, passed / _RECENTLY)
        self._looked = now


class Hints(Protocol):
    """The broker as the relay needs it; both verbs raise Retryable when it cannot be reached."""

    def depth(self, queue_name: str) -> int:
        """How many messages wait in the queue."""

    def consumers(self, queue_name: str) -> int:
        """How many worker processes take messages from the queue."""

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
        # Rows of lanes with many that were hinted and may not be done, and when they are given up as lost.
        self.under_way: dict[uuid.UUID, float] = {}


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

    `places` is the number of calls that a target takes at once, if it does not want fewer:
    more of its posts are not hinted in one round.
    """

    def __init__(self, hints: Hints, *, batch: int, high_water: int, places: int) -> None:
        self._hints = hints
        self._batch = batch
        self._high_water = high_water
        self._places = places
        self._round = _Round()
        self._orders: dict[words.Kind, _Order] = {"deliver": _Order(), "invoke": _Order()}
        # Lanes that had few rows, and until when those with many are not among themselves because of them.
        self._others: dict[uuid.UUID, float] = {}
        self._scanned = -_FULL_SCAN
        self._resting_until = 0.0
        self._away = False

    def tick(self) -> int:
        """Hint everything that is due and for which there is room; returns how many rows that were."""
        if time.monotonic() < self._resting_until:
            return 0
        metrics.TICKS.add()
        try:
            with db.unit():
                hinted = self._tick()
        except (errors.Retryable, *db.AWAY) as error:
            metrics.BROKER_AWAY.add()
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
        total = self._drain(waiting.kinds)
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

    def _drain(self, kinds: Sequence[words.Kind]) -> int:
        """Hint until nothing is left, or there is no room; kinds take turns, so that none stands before another."""
        total, left = 0, list(kinds)
        until = time.monotonic() + _LONGEST_TICK
        while left and time.monotonic() < until:
            for kind in tuple(left):
                hinted, more = self._pass(kind)
                total += hinted
                if not more:
                    left.remove(kind)
        return total

    def _pass(self, kind: words.Kind) -> tuple[int, bool]:
        """Hint some rows of one kind; returns how many, and whether another pass could hint more."""
        if kind == "post":
            return self._pass_targets()
        order = self._orders[kind]
        room = self._room(kind)
        if room <= 0:
            order.behind = True
            return 0, False
        began = order.after
        with db.atomic():
            limit = room * self._batch
            groups = self._move_lanes(kind, limit) if order.behind else self._move_oldest(kind, limit)
            if any(groups):
                crashes.point("relay.before_commit")
        self._publish(kind, groups, self._batch)
        hinted = sum(map(len, groups))
        # A pass that began in the middle of a round, and came to its end, has seen only what was left of it.
        return hinted, order.behind and (hinted > 0 or began != outbox.FIRST_LANE)

    def _pass_targets(self) -> tuple[int, bool]:
        """Hint posts, a few of each target in turn, one round at a time: the end of a call hints the next by itself."""
        # Targets that rest have due rows at every tick: the broker is asked only once there is a round.
        if not self._round.is_due() or (room := self._room("post")) <= 0:
            return 0, False
        started = time.monotonic()
        with db.atomic():
            visited = outbox.hint_targets(self._round.after, self._places, room)
            if visited.rows:
                crashes.point("relay.before_commit")
        self._round.go_on(visited.after, time.monotonic() - started)
        # A call to a URL may take seconds: its message carries one id, so that it holds up no other.
        self._publish("post", [visited.rows], 1)
        return len(visited.rows), True

    def _room(self, kind: words.Kind) -> int:
        return min(self._high_water - self._hints.depth(kind), _MESSAGES_A_PASS)

    def _move_oldest(self, kind: words.Kind, limit: int) -> Groups:
        """Move rows' next hint ahead, the oldest first."""
        order = self._orders[kind]
        limit = min(limit, _AT_ONCE * self._batch)
        rows = outbox.hint_oldest(kind, order.since, limit)
        order.behind = len(rows) == limit
        if not order.behind:
            lanes = Counter(row.lane for row in rows)
            self._note_others(lane for lane, number in lanes.items() if number <= outbox.FEW)
        return [rows]

    def _move_lanes(self, kind: words.Kind, limit: int) -> Groups:
        """Move rows' next hint ahead, lane by lane, because there is more than can be taken at once."""
        order = self._orders[kind]
        visited = outbox.hint_lanes(kind, order.since, order.after, self._bite(kind, limit), limit)
        # Nothing is left once a whole round, from the first lane to the last, has found nothing.
        whole = order.after == visited.after == outbox.FIRST_LANE
        order.behind = bool(visited.few or visited.many or order.under_way) or not whole
        order.after = visited.after
        order.under_way |= dict.fromkeys((row.id for row in visited.many), time.monotonic() + _LOST)
        self._note_others(row.lane for row in visited.few)
        # Nobody is held back for his own sake: a flood begins with few rows.
        for lane in {row.lane for row in visited.many}:
            self._others.pop(lane, None)
        return [visited.few, visited.many]

    def _note_others(self, lanes: Iterable[uuid.UUID]) -> None:
        """Somebody with few rows has come, of any kind but posts, which have workers of their own."""
        self._others |= dict.fromkeys(lanes, time.monotonic() + _AMONG_THEMSELVES)

    def _bite(self, kind: words.Kind, limit: int) -> int:
        """How many rows of lanes with many may be hinted now: a queue is first in, first out, so they must not fill it."""
        order = self._orders[kind]
        now = time.monotonic()
        owed = outbox.still_owed([row_id for row_id, lost in order.under_way.items() if now < lost])
        order.under_way = {row_id: order.under_way[row_id] for row_id in owed}
        self._others = {lane: until for lane, until in self._others.items() if now < until}
        messages = _MANY_BESIDE_OTHERS if self._others else _MANY
        most = math.ceil(messages * self._batch * self._hints.consumers(kind))
        return min(limit, max(0, most - len(order.under_way)))

    def _publish(self, kind: words.Kind, groups: Groups, size: int) -> None:
        if not any(groups):
            return
        crashes.point("relay.after_commit")
        began = time.time_ns()
        try:
            self._hints.publish(kind, [batch for rows in groups for batch in _batches(rows, size)])
        except errors.Retryable:
            outbox.unhint([row.id for rows in groups for row in rows])
            raise
        metrics.HINTS.add(kind, amount=sum(map(len, groups)))
        if traces.recording():
            _trace(kind, groups, began)
        crashes.point("relay.after_publish")


def _trace(kind: words.Kind, groups: Groups, began: int) -> None:
    """A span in the trace of each row, for the handing over that they shared."""
    hinted = {row.id: row.hints for rows in groups for row in rows}
    for subject, traceparent in outbox.traceparents(kind, hinted).items():
        traces.past("relay", traceparent, began, kind=kind, subject=subject, hints=hinted[subject])


def _batches(rows: Sequence[outbox.Hinted], size: int) -> list[HintBatch]:
    """Rows as messages: many ids each, but a suspect travels alone."""
    ids = [str(row.id) for row in rows if not row.suspect]
    together = [HintBatch(tuple(ids[start : start + size])) for start in range(0, len(ids), size)]
    return together + [HintBatch((str(row.id),), alone=True) for row in rows if row.suspect]
