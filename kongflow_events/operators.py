"""The operators of the filter language: what each accepts, what it tests, and which kinds of value it can hold for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kongflow_events import collation

Test = Callable[[Any], bool]


class _Missing:
    """The value of a key that is not there; null is a value."""


MISSING: Final = _Missing()

# The kinds of JSON value, as filters tell them apart.
STRING, NUMBER, BOOLEAN, ARRAY, OBJECT, NULL, ABSENT = range(7)
_ALL: Final = frozenset((STRING, NUMBER, BOOLEAN, ARRAY, OBJECT, NULL, ABSENT))


class Operator(NamedTuple):
    """One operator: `accepts` an operand or not (`wants` says what), and makes of it a test and the kinds it can hold for."""

    wants: str
    accepts: Callable[[Any], bool]
    test: Callable[[Any], Test]
    holds_for: Callable[[Any], frozenset[int]]


def is_number(value: Any) -> bool:
    """Whether it is a JSON number; true and false are none, as in JavaScript."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_scalar(value: Any) -> bool:
    """Whether it is a string, a number or a boolean."""
    return isinstance(value, (str, int, float))


def same(left: Any, right: Any) -> bool:
    """JavaScript's strict equality of JSON scalars: 1 is 1.0, but true is not 1."""
    return isinstance(left, bool) is isinstance(right, bool) and is_scalar(left) and bool(left == right)


def is_one_type(values: list[Any]) -> bool:
    """Whether all are strings, or all numbers, or all booleans."""
    for check in (lambda one: isinstance(one, str), is_number, lambda one: isinstance(one, bool)):
        if all(map(check, values)):
            return True
    return False


def one_of(values: list[Any]) -> Test:
    """A test for strict equality with one of these scalars of one type."""
    wanted = frozenset(values)
    if isinstance(values[0], bool):
        return lambda value: isinstance(value, bool) and value in wanted
    if isinstance(values[0], str):
        return lambda value: isinstance(value, str) and value in wanted
    return lambda value: is_number(value) and value in wanted


def _text(test: Callable[[str, str], bool]) -> Operator:
    return Operator(
        "a string",
        lambda operand: isinstance(operand, str),
        lambda operand: lambda value: isinstance(value, str) and test(value, operand),
        lambda _: frozenset((STRING,)),
    )


def _ordered(test: Callable[[Any, Any], bool]) -> Operator:
    return Operator(
        "a number",
        is_number,
        lambda operand: lambda value: is_number(value) and test(value, operand),
        lambda _: frozenset((NUMBER,)),
    )


def _flag(test: Callable[[Any], bool], kind: int) -> Operator:
    """True asks that `test` holds, false that it does not; `kind` is the only kind it ever holds for."""
    return Operator(
        "true or false",
        lambda operand: isinstance(operand, bool),
        lambda operand: lambda value: test(value) is operand,
        lambda operand: frozenset((kind,)) if operand else _ALL - {kind},
    )


def _ignore_case(operand: str) -> Test:
    folded = collation.fold(operand)
    return lambda value: isinstance(value, str) and collation.fold(value) == folded


def _anything_but(operand: Any) -> Test:
    if not isinstance(operand, list):
        return lambda value: not same(value, operand)
    if not operand:
        return lambda _: True
    unwanted = one_of(operand)
    return lambda value: not unwanted(value)


def _between(operand: list[Any]) -> Test:
    low, high = operand
    return lambda value: is_number(value) and low <= value <= high


def _includes(operand: Any) -> Test:
    return lambda value: isinstance(value, list) and any(same(item, operand) for item in value)


def _not(operand: Any) -> Test:
    includes = _includes(operand)
    return lambda value: (
        not includes(value) if isinstance(value, list) else is_scalar(value) and not same(value, operand)
    )


_PAIR: Final = 2

OPERATORS: Final[dict[str, Operator]] = {
    "$startsWith": _text(str.startswith),
    "$endsWith": _text(str.endswith),
    "$ignoreCaseEquals": _text(str.__eq__)._replace(test=_ignore_case),
    # A null is there; upstream says so too.
    "$exists": _flag(lambda value: value is not MISSING, ABSENT)._replace(
        holds_for=lambda operand: _ALL - {ABSENT} if operand else frozenset((ABSENT,))
    ),
    "$isNull": _flag(lambda value: value is None, NULL),
    "$anythingBut": Operator(
        "a string, number or boolean, or a list of one of these types",
        lambda operand: is_one_type(operand) if isinstance(operand, list) else is_scalar(operand),
        _anything_but,
        lambda _: _ALL,
    ),
    "$gt": _ordered(lambda value, operand: bool(value > operand)),
    "$lt": _ordered(lambda value, operand: bool(value < operand)),
    "$gte": _ordered(lambda value, operand: bool(value >= operand)),
    "$lte": _ordered(lambda value, operand: bool(value <= operand)),
    "$between": Operator(
        "a list of two numbers",
        lambda operand: isinstance(operand, list) and len(operand) == _PAIR and all(map(is_number, operand)),
        _between,
        lambda _: frozenset((NUMBER,)),
    ),
    "$includes": Operator("a string, number or boolean", is_scalar, _includes, lambda _: frozenset((ARRAY,))),
    # Unlike $anythingBut, it holds for nothing that is missing, null or an object.
    "$not": Operator(
        "a string, number or boolean", is_scalar, _not, lambda _: frozenset((STRING, NUMBER, BOOLEAN, ARRAY))
    ),
}


def can_never_hold(items: list[tuple[str, Any]]) -> bool:
    """Whether no value at all passes these operators together: no kind is left, or no number between the bounds."""
    kinds = _ALL
    for name, operand in items:
        kinds &= OPERATORS[name].holds_for(operand)
    return not kinds or _no_number_left(items)


def _no_number_left(items: list[tuple[str, Any]]) -> bool:
    lows, highs = [], []
    for name, operand in items:
        if name in ("$gt", "$gte"):
            lows.append((operand, name == "$gt"))
        elif name in ("$lt", "$lte"):
            highs.append((operand, name == "$lt"))
        elif name == "$between":
            lows.append((operand[0], False))
            highs.append((operand[1], False))
    if not lows or not highs:
        return False
    # The tightest bounds decide; of two equal ones that which leaves its number out.
    (low, above), (high, not_below) = max(lows), min((high, not below) for high, below in highs)
    return bool(low > high or (low == high and (above or not not_below)))
