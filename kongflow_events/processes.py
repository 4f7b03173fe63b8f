"""Children that do not outlive their parent, whatever kills it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

# Linux's prctl option for the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a child runs before its program: it asks for signal `number` at its parent's death.

    To be passed as `preexec_fn`, which runs after any change of user: changing it would clear the request. None where
    the system has no such thing; a child then outlives a parent that is killed with -9.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        # The parent may have died before the request.
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def stop_at_masters_death(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask for a signal at the death of the process that started this one by `multiprocessing`, as servers start workers.

    Ends this process at once if that one is dead already. Does nothing in a process that was started otherwise, or where
    the system has no such thing.
    """
    master = multiprocessing.parent_process()
    if sys.platform == "linux" and master is not None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
        # It may have died before the request.
        if os.getppid() != master.pid:
            os._exit(1)
