"""Garbage: how often a process looks for cycles of it."""

from __future__ import annotations

import gc
from typing import Final

# Objects that have to be left over from the work before a look. A batch makes thousands that die by themselves with it:
# at Python's own 700, a worker looks through them over and over, for a twentieth of its time.
_LEFT_OVER: Final = 20_000


def settle() -> None:
    """Leave what there is by now out of every later look, and look more seldom; for when a process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_LEFT_OVER, *gc.get_threshold()[1:])
