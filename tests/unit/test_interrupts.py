"""A process that runs until it is told to stop hears of it, whatever its main thread is at."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

from kongflow_events.interrupts import Stopping, until_interrupted


def test_whoever_waits_is_told_whenever_the_signal_comes() -> None:
    luck = random.Random(7)
    for _ in range(200):
        with until_interrupted() as stopping:
            killer = threading.Timer(luck.uniform(0, 0.002), lambda: os.kill(os.getpid(), signal.SIGTERM))
            killer.start()
            # The lock of what is waited for is taken and let go all the time, as by whoever offers at a rate.
            while not stopping.wait(0.00001):
                pass
            killer.join()


def test_whoever_waits_without_end_is_told_by_whichever_thread_gets_the_signals() -> None:
    def kill() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)

    for _ in range(100):
        with until_interrupted() as stopping:
            killer = threading.Timer(0.002, kill)
            killer.start()
            assert stopping.wait(20)
            killer.join()


def test_another_signal_ends_no_wait() -> None:
    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: handled.append(number))
    try:
        with until_interrupted() as stopping:
            threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
            assert not stopping.wait(0.1)
            assert handled == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_second_signal_changes_nothing_and_who_waits_later_is_told_too() -> None:
    with until_interrupted() as stopping:
        assert not stopping.wait(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stopping.wait()
        assert stopping.wait()


def test_a_wait_that_is_over_already_returns_at_once() -> None:
    began = time.monotonic()
    assert not Stopping().wait(-1)
    assert time.monotonic() - began < 1


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with until_interrupted():
        pass
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
