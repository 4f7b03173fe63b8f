"""Named points at which a process ends at once when it is told to: a kill between two steps, without luck.

`KONGFLOW_CRASH_AT=deliver.before_commit:2` ends each process that passes that point for the second time, as kill -9
would: nothing is flushed, rolled back or said good-bye to. For the fault harness; unset, a point costs one comparison.
"""

from __future__ import annotations

import itertools
import os
from typing import Final

from kongflow_events import settings

# What a process's end says, on stderr and as its exit code.
EXIT: Final = 9
_SAID: Final = "crashed as told at "

_passed = itertools.count(1)


def point(name: str) -> None:
    """Pass the point `name`; ends this process when the setting names this passing of it."""
    told = settings.current().crash_at
    if told:
        _end_if_told(told, name)


def said(name: str) -> str:
    """What a process that ends at the point `name` leaves on stderr."""
    return f"{_SAID}{name}\n"


def _end_if_told(told: str, name: str) -> None:
    where, _, number = told.partition(":")
    if where == name and next(_passed) == int(number):
        os.write(2, said(name).encode())
        os._exit(EXIT)
