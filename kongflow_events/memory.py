"""Memory: how often a process looks for garbage, and from how many heaps its threads take what they need."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

# Objects that have to be left over from the work before a look. A batch makes thousands that die by themselves with it:
# at Python's own 700, a worker looks through them over and over, for a twentieth of its time.
_LEFT_OVER: Final = 20_000
# glibc's name for how many heaps (arenas) there may be at the most.
_M_ARENA_MAX: Final = -8


def settle() -> None:
    """Leave what there is by now out of every later look, and look more seldom; for when a process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_LEFT_OVER, *gc.get_threshold()[1:])


def share_one_heap() -> None:
    """Have all threads to come use one heap, where the C library is glibc.

    It would give each its own, and each of them keeps the largest body it has seen: a quarter of a web process after a few
    bulks. Python's lock lets one thread at a time ask for memory anyway.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, 1)
