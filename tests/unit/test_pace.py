"""When the relay looks: at every tick, and under load after a moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kongflow_events.services.relay import Pace

TICK = 0.01


def looks(pace: Pace, rates: Iterator[int]) -> list[bool]:
    """Whether each tick looks, and takes what has come since the last look, while so many rows a second come."""
    waiting = 0.0
    looked = []
    for tick, rate in enumerate(rates):
        now = tick * TICK
        waiting += rate * TICK
        looked.append(pace.is_time(now))
        if looked[-1]:
            pace.note(round(waiting), now)
            waiting = 0.0
    return looked


def test_a_quiet_service_looks_at_every_tick() -> None:
    assert all(looks(Pace(), iter([100] * 100)))


@pytest.mark.parametrize(("rate", "ticks"), [(500, 4), (1000, 8), (2000, 10), (20_000, 10)])
def test_under_load_it_lingers_the_longer_the_more_comes_but_for_a_tenth_of_a_second(rate: int, ticks: int) -> None:
    seen = looks(Pace(), iter([rate] * 200))[80:]
    assert 120 // ticks - 2 <= sum(seen) <= 120 // ticks + 2


def test_a_single_burst_is_no_load() -> None:
    assert all(looks(Pace(), iter([0] * 50 + [1000] + [0] * 50)))


def test_after_a_load_it_looks_at_every_tick_again() -> None:
    assert all(looks(Pace(), iter([2000] * 100 + [0] * 100))[-50:])
