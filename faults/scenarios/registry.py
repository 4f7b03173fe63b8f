"""Every fault by its name, in order; `quick` ones run on every merge."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from faults.run import Run


class Fault(NamedTuple):
    """A fault: its number, what is done, and whether the quick set has it."""

    name: str
    title: str
    body: Callable[[Run], None]
    quick: bool


FAULTS: dict[str, Fault] = {}


def fault(name: str, title: str, *, quick: bool = False) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Register a scenario under its number."""

    def register(body: Callable[[Run], None]) -> Callable[[Run], None]:
        FAULTS[name] = Fault(name, title, body, quick)
        return body

    return register
