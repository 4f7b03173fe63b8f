"""When the relay looks: at every tick, and under load after a moment."""

from __future__ import annotations

from collections.abc import Iterator

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


def test_under_load_it_lets_two_or_three_ticks_go_by() -> None:
    seen = looks(Pace(), iter([1000] * 100))[40:]
    assert 15 <= sum(seen) <= 20


def test_a_single_burst_is_no_load() -> None:
    assert all(looks(Pace(), iter([0] * 50 + [1000] + [0] * 50)))


def test_after_a_load_it_looks_at_every_tick_again() -> None:
    assert all(looks(Pace(), iter([2000] * 100 + [0] * 100))[-50:])
