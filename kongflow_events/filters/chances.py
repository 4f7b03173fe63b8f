"""Whether operators can hold together at all, so that the writer of a rule hears of one that never will.

Not every contradiction is found (a regular expression is not looked into), but what is found is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, Final

from kongflow_events.filters.operators import OPERATORS, choices, instant
from kongflow_events.filters.values import KINDS, double

Item = tuple[str, Any]

# Pairs of texts, and looks at listed values, after which a contradiction is not looked for any more.
_MOST_TRIED: Final = 2500


def can_never_hold(items: Sequence[Item]) -> bool:
    """Whether no value at all passes these operators (name and operand, both good) together."""
    return (
        not reduce(frozenset.intersection, (OPERATORS[name].holds_for(operand) for name, operand in items), KINDS)
        or _excluded(_number_bounds(items))
        or _excluded(_time_bounds(items))
        or _excluded(_size_bounds(items))
        or _apart([operand for name, operand in items if name == "$startsWith"], str.startswith)
        or _apart([operand for name, operand in items if name == "$endsWith"], str.endswith)
        or _none_listed_passes(items)
    )


# Bounds of a kind that is ordered: (what, whether itself is left out) from below and from above.
_Bounds = tuple[list[tuple[Any, bool]], list[tuple[Any, bool]]]


def _number_bounds(items: Iterable[Item]) -> _Bounds:
    lows, highs = [], []
    for name, operand in items:
        if name in ("$gt", "$gte"):
            lows.append((double(operand), name == "$gt"))
        elif name in ("$lt", "$lte"):
            highs.append((double(operand), name == "$lt"))
        elif name == "$between":
            lows.append((double(operand[0]), False))
            highs.append((double(operand[1]), False))
    return lows, highs


def _time_bounds(items: Iterable[Item]) -> _Bounds:
    return (
        [(instant(operand), True) for name, operand in items if name == "$after"],
        [(instant(operand), True) for name, operand in items if name == "$before"],
    )


def _size_bounds(items: Iterable[Item]) -> _Bounds:
    """Bounds of a length, which is whole: above 0 and below 1 lies none."""
    lows: list[tuple[Any, bool]] = [(0, False)]
    highs: list[tuple[Any, bool]] = []
    for operand in [operand for name, operand in items if name == "$size"]:
        asked = operand.items() if isinstance(operand, dict) else (("$gte", operand), ("$lte", operand))
        below, above = _number_bounds(asked)
        lows += [(math.floor(bound) + 1 if out else math.ceil(bound), False) for bound, out in below]
        highs += [(math.ceil(bound) - 1 if out else math.floor(bound), False) for bound, out in above]
    return lows, highs


def _excluded(bounds: _Bounds) -> bool:
    """Whether nothing lies between the bounds: the tightest decide; of two equal ones that which leaves itself out."""
    lows, highs = bounds
    if not lows or not highs:
        return False
    (low, above), (high, not_below) = max(lows), min((high, not below) for high, below in highs)
    return bool(low > high or (low == high and (above or not not_below)))


def _apart(operands: Sequence[Any], begins: Callable[[str, str], bool]) -> bool:
    """Whether no text begins (or ends) with one of each list: of two that can stand together one is the other's part."""
    if not operands:
        return False
    together = set(choices(operands[0]))
    for texts in map(choices, operands[1:]):
        if len(together) * len(texts) > _MOST_TRIED:
            return False
        together = {max(one, two, key=len) for one in together for two in texts if begins(one, two) or begins(two, one)}
    return not together


def _none_listed_passes(items: Sequence[Item]) -> bool:
    """Where a list names every value that can pass, they are tried."""
    lists = [operand for name, operand in items if name == "$in"]
    others = [(name, operand) for name, operand in items if name != "$regex"]
    looks = sum(len(operand) if isinstance(operand, list) else 1 for _, operand in others)
    if not lists or looks * len(min(lists, key=len)) > _MOST_TRIED:
        return False
    tests = [OPERATORS[name].test(operand) for name, operand in others]
    return not any(all(test(value) for test in tests) for value in min(lists, key=len))
