"""Work that waits: in threads, and as tasks of an event loop."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kongflow_events import waiting
from kongflow_events.together import Together


def test_a_task_gives_what_its_work_gives() -> None:
    assert asyncio.run(waiting.carry_out(divmod, 7, 2)) == (3, 1)


def test_a_task_raises_what_its_work_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(waiting.carry_out(divmod, 7, 0))


def test_the_loop_goes_on_while_a_task_waits_for_its_turn() -> None:
    seen: list[str] = []

    async def both() -> None:
        turns: list[waiting.Turn] = []

        def wait() -> None:
            turns.append(waiting.turn())
            turns[0].wait()
            seen.append("it came")

        task = asyncio.ensure_future(waiting.carry_out(wait))
        await asyncio.sleep(0)
        seen.append("meanwhile")
        threading.Thread(target=turns[0].come).start()
        await asyncio.wait_for(task, 10)

    asyncio.run(both())
    assert seen == ["meanwhile", "it came"]


@pytest.mark.parametrize("by_task", [True, False])
def test_a_descriptor_is_ready_once_there_is_something_to_read(by_task: bool) -> None:
    reads, writes = os.pipe()

    def look() -> list[bool]:
        before = waiting.ready(reads, 0.01)
        os.write(writes, b"x")
        return [before, waiting.ready(reads, 10), waiting.ready(writes, 10, select.POLLOUT)]

    try:
        assert (asyncio.run(waiting.carry_out(look)) if by_task else look()) == [False, True, True]
    finally:
        os.close(reads)
        os.close(writes)


def test_each_task_and_each_thread_has_its_own() -> None:
    own: waiting.Own[list[str]] = waiting.Own(list)

    def note(name: str) -> list[str]:
        own.get().append(name)
        waiting.let_others_come()
        return own.get()

    async def two() -> list[list[str]]:
        return await asyncio.gather(*(waiting.carry_out(note, name) for name in ("one", "other")))

    assert asyncio.run(two()) == [["one"], ["other"]]
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(note, "thread").result() == ["thread"]
    assert own.get() == []


def test_only_so_many_tasks_have_a_place_and_the_others_wait_no_longer_than_they_want_to() -> None:
    async def three() -> tuple[list[bool], bool]:
        places = waiting.Places(2)
        first = [await waiting.carry_out(places.take, 0.01) for _ in range(3)]
        await waiting.carry_out(places.give)
        return first, await waiting.carry_out(places.take, 0.01)

    assert asyncio.run(three()) == ([True, True, False], True)


def test_threads_need_no_place() -> None:
    places = waiting.Places(1)
    assert places.take(0)
    assert places.take(0)


def test_tasks_that_come_in_the_same_turn_of_the_loop_are_served_together() -> None:
    rounds: list[list[int]] = []

    def work(items: Any) -> list[int]:
        rounds.append(list(items))
        return [10 * item for item in items]

    together: Together[int, int] = Together(work, most=10, at_once=1, patience=60, of_all=lambda _: False)

    async def five() -> list[int]:
        return await asyncio.gather(*(waiting.carry_out(together.do, "a", item) for item in range(5)))

    assert asyncio.run(five()) == [0, 10, 20, 30, 40]
    assert rounds == [[0, 1, 2, 3, 4]]


def test_a_task_whose_item_is_bad_fails_alone() -> None:
    def work(items: Any) -> list[int]:
        return [10 // item for item in items]

    together: Together[int, int] = Together(work, most=10, at_once=1, patience=60, of_all=lambda _: False)

    async def three() -> list[Any]:
        callers = (waiting.carry_out(together.do, "a", item) for item in (1, 0, 2))
        return await asyncio.gather(*callers, return_exceptions=True)

    one, bad, other = asyncio.run(three())
    assert (one, other) == (10, 5)
    assert isinstance(bad, ZeroDivisionError)
