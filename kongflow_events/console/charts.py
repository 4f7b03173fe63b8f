"""Charts as SVG, drawn here: they need no script, print well, and say their figures to whoever cannot see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

WIDTH: Final = 960
HEIGHT: Final = 220
# What the labels need.
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 26
_STEPS: Final = 4


class Line(NamedTuple):
    """One series as an SVG path; `area` is what lies below it."""

    name: str
    path: str
    area: str


class Mark(NamedTuple):
    """A label at its place."""

    at: float
    text: str


class Chart(NamedTuple):
    """Lines over time, with the labels of both axes."""

    width: int
    height: int
    left: int
    right: int
    bottom: int
    lines: list[Line]
    rows: list[Mark]
    columns: list[Mark]


def lines(series: Sequence[tuple[str, Sequence[int]]], labels: Sequence[str]) -> Chart:
    """A chart of series of the same length; `labels` stand below its points, "" for none."""
    top = _nice(max((max(values, default=0) for _, values in series), default=0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(labels) - 1, 1)
    height = HEIGHT - _TOP - _BOTTOM

    def y(value: float) -> float:
        return round(_TOP + height * (1 - value / top), 1)

    def x(index: int) -> float:
        return round(_LEFT + step * index, 1)

    drawn = []
    for name, values in series:
        path = "L".join(f"{x(index)} {y(value)}" for index, value in enumerate(values))
        drawn.append(Line(name, f"M{path}", f"M{x(0)} {y(0)}L{path}L{x(len(values) - 1)} {y(0)}Z"))
    return Chart(
        WIDTH,
        HEIGHT,
        _LEFT,
        WIDTH - _RIGHT,
        HEIGHT - _BOTTOM,
        drawn,
        [Mark(y(top * part / _STEPS), _short(top * part / _STEPS)) for part in range(_STEPS + 1)],
        [Mark(x(index), text) for index, text in enumerate(labels) if text],
    )


def _nice(most: int) -> int:
    """The end of an axis: four whole steps of 1, 2, 2.5 or 5 times a power of ten reach it."""
    step = max(most / _STEPS, 1)
    power: int = 10 ** math.floor(math.log10(step))
    sizes = (size * power for size in (1, 2, 2.5, 5, 10))
    return next(int(_STEPS * size) for size in sizes if size >= step and size % 1 == 0)


def _short(value: float) -> str:
    """A figure of an axis: 1,500 is 1.5k."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
