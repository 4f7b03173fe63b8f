"""JSON values as filters see them: kinds, numbers as doubles, and strict equality, all as in JavaScript."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, Final, Literal

Test = Callable[[Any], bool]
Kind = Literal["string", "number", "boolean", "array", "object", "null", "missing"]
KINDS: Final[frozenset[Kind]] = frozenset(("string", "number", "boolean", "array", "object", "null", "missing"))


class _Missing:
    """The value of a key that is not there; null is a value."""


MISSING: Final = _Missing()

_NAMES: Final[dict[type, Kind]] = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    type(None): "null",
    _Missing: "missing",
}


def kind_of(value: Any) -> Kind:
    """The kind of a JSON value, or of MISSING."""
    return _NAMES[type(value)]


def is_number(value: Any) -> bool:
    """Whether it is a JSON number; true and false are none, as in JavaScript."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_scalar(value: Any) -> bool:
    """Whether it is a string, a number or a boolean."""
    return isinstance(value, (str, int, float))


def double(value: float) -> float:
    """A JSON number as every JavaScript sees it, an IEEE double: PostgreSQL writes 1e23 out as an integer."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def same(left: Any, right: Any) -> bool:
    """JavaScript's strict equality of JSON scalars: 1 is 1.0, but true is not 1."""
    if isinstance(left, (str, bool)) or isinstance(right, bool):
        return type(left) is type(right) and bool(left == right)
    return is_number(left) and is_number(right) and double(left) == double(right)


def is_one_type(values: Collection[Any]) -> bool:
    """Whether all are strings, or all numbers, or all booleans."""
    return len({kind_of(value) for value in values}) <= 1 and all(map(is_scalar, values))


def one_of(values: Collection[Any]) -> Test:
    """A test for strict equality with one of these scalars, or null."""
    texts = frozenset(value for value in values if isinstance(value, str))
    numbers = frozenset(double(value) for value in values if is_number(value))
    # Only true, false and null are left: there is one of each.
    others = tuple(value for value in values if isinstance(value, bool) or value is None)

    def holds(value: Any) -> bool:
        if isinstance(value, str):
            return value in texts
        if isinstance(value, bool) or value is None:
            return any(value is other for other in others)
        return isinstance(value, (int, float)) and double(value) in numbers

    return holds
