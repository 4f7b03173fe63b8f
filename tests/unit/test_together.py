"""The same work for many threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from kongflow_events.together import Together


class Rounds:
    """Work that waits for a word from the test in its first rounds, and remembers what came in each."""

    def __init__(self, work: Callable[[int], int] = lambda item: 10 * item) -> None:
        self.seen: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self._work = work

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.seen.append(list(items))
        self.begun.release()
        assert self.go.wait(10)
        return [self._work(item) for item in items]


def together(work: Any, most: int = 10, at_once: int = 1, patience: float = 60) -> Together[int, int]:
    return Together(
        work,
        most=most,
        at_once=at_once,
        patience=patience,
        of_all=lambda failure: isinstance(failure, ConnectionError),
    )


def in_line(group: Together[int, int], pool: ThreadPoolExecutor, items: Sequence[int]) -> list[Future[int]]:
    """Callers in this order, behind a round that is under way."""
    futures = []
    for item in items:
        waiting = len(group._lines["a"].waiting)
        futures.append(pool.submit(group.do, "a", item))
        while len(group._lines["a"].waiting) == waiting:
            threading.Event().wait(0.001)
    return futures


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def test_a_lone_caller_is_served_at_once() -> None:
    work = Rounds()
    work.go.set()
    group = together(work)
    assert [group.do("a", item) for item in (1, 2)] == [10, 20]
    assert work.seen == [[1], [2]]


def test_who_comes_while_a_round_is_under_way_is_served_by_the_next(pool: ThreadPoolExecutor) -> None:
    work = Rounds()
    group = together(work)
    first = pool.submit(group.do, "a", 1)
    work.begun.acquire()
    others = in_line(group, pool, [2, 3, 4])
    work.go.set()
    assert [future.result(10) for future in (first, *others)] == [10, 20, 30, 40]
    assert work.seen == [[1], [2, 3, 4]]


def test_a_round_has_only_so_many_and_the_rest_waits_for_another(pool: ThreadPoolExecutor) -> None:
    work = Rounds()
    group = together(work, most=2)
    first = pool.submit(group.do, "a", 1)
    work.begun.acquire()
    others = in_line(group, pool, [2, 3, 4])
    work.go.set()
    assert [future.result(10) for future in (first, *others)] == [10, 20, 30, 40]
    assert work.seen == [[1], [2, 3], [4]]


def test_lines_do_not_wait_for_one_another(pool: ThreadPoolExecutor) -> None:
    work = Rounds()
    group = together(work)
    first = pool.submit(group.do, "a", 1)
    work.begun.acquire()
    second = pool.submit(group.do, "b", 2)
    assert work.begun.acquire(timeout=10)
    work.go.set()
    assert (first.result(10), second.result(10)) == (10, 20)


def test_beside_a_round_that_takes_too_long_another_begins_and_takes_along_who_waits(pool: ThreadPoolExecutor) -> None:
    work = Rounds()
    group = together(work, at_once=2)
    futures = [pool.submit(group.do, "a", 1)]
    work.begun.acquire()
    futures += in_line(group, pool, [2])
    group._patience = 0
    futures.append(pool.submit(group.do, "a", 3))
    assert work.begun.acquire(timeout=10)
    futures += in_line(group, pool, [4])
    assert work.seen == [[1], [3, 2]]
    work.go.set()
    assert [future.result(10) for future in futures] == [10, 20, 30, 40]


def test_a_bad_item_harms_only_itself(pool: ThreadPoolExecutor) -> None:
    work = Rounds(lambda item: 10 // (item - 3))
    group = together(work)
    first = pool.submit(group.do, "a", 1)
    work.begun.acquire()
    good, bad, other = in_line(group, pool, [2, 3, 4])
    work.go.set()
    assert (first.result(10), good.result(10), other.result(10)) == (-5, -10, 10)
    with pytest.raises(ZeroDivisionError):
        bad.result(10)
    assert work.seen[:2] == [[1], [2, 3, 4]]
    assert sorted(work.seen[2:]) == [[2], [3], [4]]


def test_a_failure_that_is_everybodys_is_not_waited_for_again(pool: ThreadPoolExecutor) -> None:
    def away(item: int) -> int:
        if item > 1:
            raise ConnectionError
        return item

    work = Rounds(away)
    group = together(work)
    first = pool.submit(group.do, "a", 1)
    work.begun.acquire()
    others = in_line(group, pool, [2, 3])
    work.go.set()
    assert first.result(10) == 1
    for future in others:
        with pytest.raises(ConnectionError):
            future.result(10)
    assert work.seen == [[1], [2, 3]]


def test_who_waits_meanwhile_learns_of_it_too(pool: ThreadPoolExecutor) -> None:
    def away(_item: int) -> int:
        raise ConnectionError

    work = Rounds(away)
    group = together(work)
    callers = [pool.submit(group.do, "a", 1)]
    work.begun.acquire()
    callers += in_line(group, pool, [2, 3])
    work.go.set()
    for caller in callers:
        with pytest.raises(ConnectionError):
            caller.result(10)
    assert work.seen == [[1]]
    assert group._lines == {}


def test_the_failure_of_a_lone_caller_is_raised_at_once() -> None:
    work = Rounds(lambda item: item // 0)
    work.go.set()
    with pytest.raises(ZeroDivisionError):
        together(work).do("a", 1)
    assert work.seen == [[1]]


def test_nothing_is_kept_of_a_line_that_is_empty(pool: ThreadPoolExecutor) -> None:
    group = together(lambda items: items, most=3, at_once=2, patience=0)
    asked = [(item % 5, item) for item in range(500)]
    assert list(pool.map(lambda one: group.do(*one), asked)) == list(range(500))
    assert group._lines == {}
