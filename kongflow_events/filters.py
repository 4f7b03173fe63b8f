"""The filter language: JSON patterns over JSON values (upstream's EventFilter), compiled once and matched often.

A filter is an object; every key must hold. A list of literals means any of them; a list of operators means all of them;
an object is a filter for what lies below. An array in the value matches a nested filter when one of its elements does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kongflow_events import errors, operators
from kongflow_events.operators import MISSING, OPERATORS, Test
from kongflow_events.paths import join, type_name

# Filters inside one another; a body of a request cannot hold deeper ones either.
DEEPEST: Final = 64
# Each item of a list costs a look at the value; no rule that a person writes has as many.
_MOST_OPERATORS: Final = 100
# An answer names the first mistakes, so that it is not larger than the filter.
_MOST_ISSUES: Final = 100

_ALLOWED: Final = "a list of strings, of numbers or of booleans, a list of operators, or a nested filter"


class InvalidFilter(errors.Invalid):
    """A filter breaks the language; `issues` has one entry, with its path, for every mistake."""


class EventFilter:
    """A parsed filter. `raw` is the JSON it was parsed from, `warnings` says what in it can never match."""

    __slots__ = ("_asks", "_holds", "raw", "warnings")

    def __init__(self, raw: Mapping[str, Any], holds: Test, warnings: tuple[str, ...]) -> None:
        self.raw = raw
        self.warnings = warnings
        self._holds = holds
        self._asks = bool(raw)

    def matches(self, value: Any) -> bool:
        """Whether `value`, decoded JSON, passes as a payload or context. A filter without keys asks nothing."""
        if not self._asks:
            return True
        return any(map(self._holds, value)) if isinstance(value, list) else self._holds(value)


def parse(raw: Any, path: str = "") -> EventFilter:
    """Compile a filter from decoded JSON; `path` says where it stands. Raises InvalidFilter with every mistake."""
    parser = _Parser()
    holds = parser.filter(raw, path, 1)
    if parser.issues:
        raise InvalidFilter(*parser.issues)
    return EventFilter(raw, holds, tuple(parser.warnings))


def check(given: Mapping[str, Any]) -> list[str]:
    """Parse filters by where they stand (None asks nothing); returns their warnings.

    Raises Invalid with the mistakes of all of them.
    """
    warnings: list[str] = []
    issues: list[errors.Issue] = []
    for path, raw in given.items():
        try:
            warnings += parse(raw, path).warnings if raw is not None else ()
        except errors.Invalid as error:
            issues += error.issues
    if issues:
        raise errors.Invalid(*issues)
    return warnings


def _never(_: Any) -> bool:
    return False


class _Parser:
    """One pass over a filter: tests come back, mistakes and warnings are collected on the way."""

    def __init__(self) -> None:
        self.issues: list[errors.Issue] = []
        self.warnings: list[str] = []

    def filter(self, raw: Any, path: str, depth: int) -> Test:
        """The test of a whole filter: an object whose keys must all hold."""
        if not isinstance(raw, dict):
            return self._refuse(
                "invalid_type", path, f"Expected a filter, which is an object, received {type_name(raw)}"
            )
        if depth > DEEPEST:
            return self._refuse("too_big", path, f"Filters must not nest deeper than {DEEPEST} levels")
        return _every({key: self._value(below, join(path, key), depth) for key, below in raw.items()})

    def _value(self, raw: Any, path: str, depth: int) -> Test:
        if isinstance(raw, dict):
            return _nested(self.filter(raw, path, depth + 1))
        if isinstance(raw, list):
            return self._list(raw, path)
        return self._refuse("invalid_union", path, f"Expected {_ALLOWED}, received {type_name(raw)}")

    def _list(self, raw: list[Any], path: str) -> Test:
        if not raw:
            return lambda _: True
        if operators.is_one_type(raw):
            return operators.one_of(raw)
        if all(isinstance(item, dict) for item in raw):
            return self._operators(raw, path)
        return self._refuse("invalid_union", path, f"Expected {_ALLOWED}; this list mixes them or holds something else")

    def _operators(self, raw: list[dict[str, Any]], path: str) -> Test:
        if len(raw) > _MOST_OPERATORS:
            return self._refuse("too_big", path, f"A list must not hold more than {_MOST_OPERATORS} operators")
        before = len(self.issues)
        items: list[tuple[str, Any]] = []
        for index, item in enumerate(raw):
            at = f"{path}[{index}]"
            if not item:
                self._refuse("invalid_union", at, f"Expected at least one of {', '.join(OPERATORS)}")
            items += [(name, operand) for name, operand in item.items() if self._fits(name, operand, at)]
        if len(self.issues) > before:
            return _never
        if len(self.warnings) < _MOST_ISSUES and operators.can_never_hold(items):
            self.warnings.append(f"{path}: no value can pass all of these operators")
        return _conjunction([OPERATORS[name].test(operand) for name, operand in items])

    def _fits(self, name: str, operand: Any, path: str) -> bool:
        operator = OPERATORS.get(name)
        if operator is None:
            self._refuse("unrecognized_keys", join(path, name), f"Unknown operator; known are {', '.join(OPERATORS)}")
        elif not operator.accepts(operand):
            self._refuse("invalid_type", join(path, name), f"Expected {operator.wants}, received {type_name(operand)}")
        else:
            return True
        return False

    def _refuse(self, code: str, path: str, message: str) -> Test:
        if len(self.issues) < _MOST_ISSUES:
            self.issues.append(errors.Issue(code, path, message))
        return _never


def _every(tests: Mapping[str, Test]) -> Test:
    """All keys hold. Nothing has no keys; only objects have any."""
    pairs = tuple(tests.items())

    def holds(value: Any) -> bool:
        if value is None or value is MISSING:
            return not pairs
        if not isinstance(value, dict):
            return all(test(MISSING) for _, test in pairs)
        for key, test in pairs:  # noqa: SIM110 - the loop is what delivery spends its time in; a generator costs a third more
            if not test(value.get(key, MISSING)):
                return False
        return True

    return holds


def _nested(holds: Test) -> Test:
    """An array passes when one of its elements does; arrays inside it are not looked into."""
    return lambda value: any(map(holds, value)) if isinstance(value, list) else holds(value)


def _conjunction(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)
