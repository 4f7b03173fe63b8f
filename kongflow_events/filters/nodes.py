"""A compiled filter: nodes that hold or do not, as closures for delivery, and that can say why, for `explain`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from kongflow_events.filters import checks
from kongflow_events.filters.checks import Check
from kongflow_events.filters.values import MISSING, Test
from kongflow_events.paths import join


class Node(Protocol):
    """A part of a filter. `holds` is what delivery calls; it never raises for JSON values and MISSING."""

    @property
    def holds(self) -> Test:
        """Whether a value passes."""

    def explain(self, value: Any, at: str) -> Check:
        """Why `value`, which stands at the path `at` of the event, passes or does not."""


class Leaf(NamedTuple):
    """A condition on one value: an operator with its operand, or a list of literals."""

    path: str
    test: str
    expected: Any
    holds: Test

    def explain(self, value: Any, at: str) -> Check:
        """One line."""
        return checks.leaf(self.path, at, self.test, self.expected, value, holds=self.holds(value))


class Conjunction(NamedTuple):
    """Several conditions on one value."""

    path: str
    parts: tuple[Node, ...]
    holds: Test

    def explain(self, value: Any, at: str) -> Check:
        """Each of them."""
        below = [part.explain(value, at) for part in self.parts]
        return checks.group(self.path, at, "all of", value, below, holds=all(_held(below)))


class Every(NamedTuple):
    """A filter: an object whose keys all hold, and its combined sub-filters, which look at the same value."""

    path: str
    keys: Mapping[str, Node]
    combined: tuple[Node, ...]
    holds: Test

    def explain(self, value: Any, at: str) -> Check:
        """Each key and each combination."""
        found = value if isinstance(value, dict) else {}
        below = [node.explain(found.get(key, MISSING), join(at, key)) for key, node in self.keys.items()]
        below += [node.explain(value, at) for node in self.combined]
        refused = (value is None or value is MISSING) and bool(below)
        holds, note = (False, _NOTHING) if refused else (all(_held(below)), None)
        return checks.group(self.path, at, "all of", value, below, holds=holds, note=note)


_NOTHING: Final = "there is nothing here, and only a filter without keys takes that"


class Nested(NamedTuple):
    """A filter for what lies below a key; of an array, one element has to pass it."""

    inner: Every
    holds: Test

    def explain(self, value: Any, at: str) -> Check:
        """As the filter says; for an array, by the element that passes or comes nearest."""
        if not isinstance(value, list):
            return self.inner.explain(value, at)
        passing = next((index for index, one in enumerate(value) if self.inner.holds(one)), None)
        looked = range(min(len(value), checks.MOST_ELEMENTS)) if passing is None else [passing]
        below = [self.inner.explain(value[index], f"{at}[{index}]") for index in looked]
        shown = max(below, key=checks.score, default=None)
        return checks.group(
            self.inner.path,
            at,
            "any element",
            value,
            [shown] if shown else [],
            holds=passing is not None,
            note=_about(value, len(below), shown),
        )


def _about(value: Sequence[Any], looked: int, shown: Check | None) -> str:
    if shown is None:
        return "the list is empty"
    place = f"of {len(value)} elements, {shown.at}"
    if shown.holds:
        return f"{place} passes"
    return f"{place} comes nearest" + ("" if looked == len(value) else f" among the first {looked}")


def _held(below: Iterable[Check]) -> Iterator[bool]:
    return (check.holds for check in below)


class Combined(NamedTuple):
    """`$or`, `$and` or `$nor` over sub-filters of the value it stands in."""

    path: str
    name: str
    parts: tuple[Every, ...]
    holds: Test

    def explain(self, value: Any, at: str) -> Check:
        """Each sub-filter."""
        below = [part.explain(value, at) for part in self.parts]
        return checks.group(self.path, at, self.name, value, below, holds=_HOLD[self.name](_held(below)))


def conjunction(path: str, parts: Sequence[Node]) -> Node:
    """All of `parts` hold."""
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.holds for part in parts)
    return Conjunction(path, tuple(parts), lambda value: all(test(value) for test in tests))


def every(path: str, keys: Mapping[str, Node], combined: Sequence[Node] = ()) -> Every:
    """All keys and all combinations hold. Nothing has no keys; only objects have any."""
    pairs = tuple((key, node.holds) for key, node in keys.items())
    whole = tuple(node.holds for node in combined)

    def holds(value: Any) -> bool:
        if not isinstance(value, dict):
            if value is None or value is MISSING:
                return not pairs and not whole
            return all(test(MISSING) for _, test in pairs) and all(test(value) for test in whole)
        for key, test in pairs:
            if not test(value.get(key, MISSING)):
                return False
        for test in whole:  # noqa: SIM110 - delivery spends its time in these loops; a generator costs a third more
            if not test(value):
                return False
        return True

    return Every(path, keys, tuple(combined), holds)


def nested(inner: Every) -> Nested:
    """What lies below passes `inner`; an array when one of its elements does, arrays inside it are not looked into."""
    below = inner.holds
    return Nested(inner, lambda value: any(map(below, value)) if isinstance(value, list) else below(value))


def _none(results: Iterable[bool]) -> bool:
    return not any(results)


_HOLD: Final[dict[str, Callable[[Iterable[bool]], bool]]] = {"$or": any, "$and": all, "$nor": _none}
COMBINATIONS: Final = tuple(_HOLD)


def combined(path: str, name: str, parts: Sequence[Every]) -> Combined:
    """Any, all, or none of `parts` hold, as `name` says."""
    tests, hold = tuple(part.holds for part in parts), _HOLD[name]
    return Combined(path, name, tuple(parts), lambda value: hold(test(value) for test in tests))
