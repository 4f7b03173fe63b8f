"""Together: the same work for many callers at once. Who comes while a round is under way is served by the next one.

Nobody lingers for company, so a lone caller waits for nobody; the busier it is, the more callers share one statement and
one commit.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from kongflow_events import waiting

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Caller(Generic[Item, Result]):
    """A thread or a task that wants its item done: its round may be led by another one, or by itself."""

    __slots__ = ("alone", "failure", "item", "leads", "result", "turn")

    result: Result

    def __init__(self, item: Item) -> None:
        self.item = item
        self.leads = False
        self.alone = True
        self.failure: BaseException | None = None
        # Its round is over, or it is to lead one.
        self.turn = waiting.turn()


class _Line(Generic[Item, Result]):
    """Who waits, how many rounds are under way or about to be, and when the last of them began."""

    __slots__ = ("began", "rounds", "waiting")

    def __init__(self) -> None:
        self.rounds = 0
        self.began = 0.0
        self.waiting: deque[_Caller[Item, Result]] = deque()


class Together(Generic[Item, Result]):
    """`work` takes items and returns their results in the same order, or raises for all of them.

    A round has `most` items at the most, all of one line. One that takes longer than `patience` seconds is waited for no
    more: another begins beside it, up to `at_once` of them. When a round of several fails, each of its callers does its
    own item alone, so that a bad one harms only itself; unless `of_all` says that the failure is everybody's, and would
    only be waited for again.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        most: int,
        at_once: int,
        patience: float,
        of_all: Callable[[BaseException], bool],
    ) -> None:
        self._work = work
        self._most = most
        self._at_once = at_once
        self._patience = patience
        self._of_all = of_all
        self._lines: dict[Hashable, _Line[Item, Result]] = {}
        self._lock = threading.Lock()

    def do(self, name: Hashable, item: Item) -> Result:
        """The result for `item`, from a round of the line of this `name`; raises what the work raises."""
        mine: _Caller[Item, Result] = _Caller(item)
        line = self._join(name, mine)
        if not mine.leads:
            mine.turn.wait()
        if mine.leads:
            self._lead(name, line, mine)
        if mine.failure is None:
            return mine.result
        if mine.alone or self._of_all(mine.failure):
            raise mine.failure
        return self._work([item])[0]

    def _join(self, name: Hashable, mine: _Caller[Item, Result]) -> _Line[Item, Result]:
        """Begin a round, or wait in line."""
        with self._lock:
            line = self._lines.setdefault(name, _Line())
            mine.leads = self._is_free(line)
            if mine.leads:
                line.rounds += 1
                line.began = time.monotonic()
            else:
                line.waiting.append(mine)
        return line

    def _is_free(self, line: _Line[Item, Result]) -> bool:
        if not line.rounds:
            return True
        return line.rounds < self._at_once and time.monotonic() - line.began > self._patience

    def _lead(self, name: Hashable, line: _Line[Item, Result], mine: _Caller[Item, Result]) -> None:
        # Tasks that become ready in the same turn of their loop come along.
        waiting.let_others_come()
        with self._lock:
            others = [line.waiting.popleft() for _ in range(min(len(line.waiting), self._most - 1))]
        callers = [mine, *others]
        try:
            for caller, result in zip(callers, self._work([caller.item for caller in callers]), strict=True):
                caller.result = result
        except BaseException as error:  # noqa: BLE001 - raised by each of its callers; none may wait for ever
            if self._of_all(error):
                others += self._leave(line)
            for caller in (mine, *others):
                caller.failure, caller.alone = error, not others
        self._hand_over(name, line)
        for caller in others:
            caller.turn.come()

    def _leave(self, line: _Line[Item, Result]) -> list[_Caller[Item, Result]]:
        """Everybody who waits: theirs would be the same failure, after as long again."""
        with self._lock:
            waiting = list(line.waiting)
            line.waiting.clear()
        return waiting

    def _hand_over(self, name: Hashable, line: _Line[Item, Result]) -> None:
        """Let the first of those who wait lead the next round; an empty line is forgotten."""
        with self._lock:
            if line.waiting:
                following = line.waiting.popleft()
                following.leads = True
                line.began = time.monotonic()
                following.turn.come()
                return
            line.rounds -= 1
            if not line.rounds:
                del self._lines[name]
