"""From JSON to a compiled filter: every mistake with its path, every part that can never hold as a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kongflow_events import errors
from kongflow_events.filters import chances, nodes, operators
from kongflow_events.filters.checks import Check
from kongflow_events.filters.nodes import COMBINATIONS, Every, Leaf, Node
from kongflow_events.filters.operators import OPERATORS
from kongflow_events.filters.values import is_one_type, one_of
from kongflow_events.paths import join, type_name

# Filters inside one another; a body of a request cannot hold deeper ones either.
DEEPEST: Final = 64
# Each item of a list costs a look at the value; no rule that a person writes has as many.
_MOST_OPERATORS: Final = 100
# Sub-filters of one $or, $and or $nor: each looks at every element of a list.
_MOST_PARTS: Final = 100
# An answer names the first mistakes, so that it is not larger than the filter.
_MOST_ISSUES: Final = 100

_ALLOWED: Final = "a list of strings, of numbers or of booleans, a list of operators, or a nested filter"

Condition = tuple[str, chances.Item]


class InvalidFilter(errors.Invalid):
    """A filter breaks the language; `issues` has one entry, with its path, for every mistake."""


class EventFilter:
    """A parsed filter. `raw` is the JSON it was parsed from, `warnings` says what in it can never match."""

    __slots__ = ("_asks", "_root", "raw", "warnings")

    def __init__(self, raw: Mapping[str, Any], root: Every, warnings: tuple[str, ...]) -> None:
        self.raw = raw
        self.warnings = warnings
        self._root = nodes.nested(root)
        # A filter without keys asks nothing, not even that a list has an element.
        self._asks = bool(raw)

    def matches(self, value: Any) -> bool:
        """Whether `value`, decoded JSON, passes as a payload or context. A filter without keys asks nothing."""
        return not self._asks or self._root.holds(value)

    def explain(self, value: Any, at: str) -> Check:
        """Why `value`, decoded JSON that stands at the path `at` of the event, passes or does not, leaf by leaf."""
        if self._asks:
            return self._root.explain(value, at)
        return self._root.inner.explain({}, at)


def parse(raw: Any, path: str = "") -> EventFilter:
    """Compile a filter from decoded JSON; `path` says where it stands. Raises InvalidFilter with every mistake."""
    parser = _Parser()
    root = parser.filter(raw, path, 1)
    if parser.issues:
        raise InvalidFilter(*parser.issues)
    return EventFilter(raw, root, tuple(parser.warnings))


def check(given: Mapping[str, Any], others: Sequence[errors.Issue] = ()) -> list[str]:
    """Parse filters by where they stand (None asks nothing); returns their warnings.

    Raises Invalid with the mistakes of all of them, behind `others` that were found in the same body.
    """
    warnings: list[str] = []
    issues = list(others)
    for path, raw in given.items():
        try:
            warnings += parse(raw, path).warnings if raw is not None else ()
        except errors.Invalid as error:
            issues += error.issues
    if issues:
        raise errors.Invalid(*issues)
    return warnings


# What a part that is refused compiles to: the filter it stands in is never used.
_REFUSED: Final = nodes.every("", {})


class _Parser:
    """One pass over a filter: nodes come back, mistakes and warnings are collected on the way."""

    def __init__(self) -> None:
        self.issues: list[errors.Issue] = []
        self.warnings: list[str] = []
        self._steps = 0

    def filter(self, raw: Any, path: str, depth: int, *, of_and: bool = False) -> Every:
        """A whole filter: an object whose keys must all hold; `of_and` says that the filter around it checks them too."""
        if not isinstance(raw, dict):
            self._refuse("invalid_type", path, f"Expected a filter, which is an object, received {type_name(raw)}")
            return _REFUSED
        if depth > DEEPEST:
            self._refuse("too_big", path, f"Filters must not nest deeper than {DEEPEST} levels")
            return _REFUSED
        keys: dict[str, Node] = {}
        combined: list[Node] = []
        for key, below in raw.items():
            at = join(path, key)
            if _combines(key, below):
                combined.append(self._combined(key, below, at, depth))
            else:
                self._say_if_it_looks_like_an_operator(key, at)
                keys[key] = self._value(below, at, depth)
        if not of_and:
            self._warn_of_contradictions(raw, path)
        return nodes.every(path, keys, combined)

    def _combined(self, name: str, raw: list[Any], path: str, depth: int) -> Node:
        if len(raw) > _MOST_PARTS:
            return self._refuse("too_big", path, f"{name} must not hold more than {_MOST_PARTS} filters")
        parts = [
            self.filter(one, f"{path}[{index}]", depth + 1, of_and=name == "$and") for index, one in enumerate(raw)
        ]
        if name == "$nor":
            for index, one in enumerate(raw):
                if _always_holds(one):
                    self._warn(f"{path}[{index}]: it always holds, so that nothing can pass this $nor")
        return nodes.combined(path, name, parts)

    def _value(self, raw: Any, path: str, depth: int) -> Node:
        if isinstance(raw, dict):
            return nodes.nested(self.filter(raw, path, depth + 1))
        if isinstance(raw, list):
            return self._list(raw, path)
        return self._refuse("invalid_union", path, f"Expected {_ALLOWED}, received {type_name(raw)}")

    def _list(self, raw: list[Any], path: str) -> Node:
        if not raw:
            return Leaf(path, "anything", raw, lambda _: True)
        if is_one_type(raw):
            return Leaf(path, "one of", raw, one_of(raw))
        if all(isinstance(item, dict) for item in raw):
            return self._operators(raw, path)
        return self._refuse(
            "invalid_union",
            path,
            f"Expected {_ALLOWED}; this list mixes them or holds something else ($in takes mixed lists)",
        )

    def _operators(self, raw: list[dict[str, Any]], path: str) -> Node:
        if len(raw) > _MOST_OPERATORS:
            return self._refuse("too_big", path, f"A list must not hold more than {_MOST_OPERATORS} operators")
        before = len(self.issues)
        leaves: list[Leaf] = []
        for index, item in enumerate(raw):
            at = f"{path}[{index}]"
            if not item:
                self._refuse("invalid_union", at, f"Expected at least one of {', '.join(OPERATORS)}")
            leaves += [
                leaf for name, operand in item.items() if (leaf := self._operator(name, operand, join(at, name)))
            ]
        if len(self.issues) > before:
            return _REFUSED
        if chances.can_never_hold([(leaf.test, leaf.expected) for leaf in leaves]):
            self._warn(f"{path}: no value can pass all of these operators")
        return nodes.conjunction(path, leaves)

    def _operator(self, name: str, operand: Any, path: str) -> Leaf | None:
        operator = OPERATORS.get(name)
        if operator is None:
            self._refuse("unrecognized_keys", path, f"Unknown operator; known are {', '.join(OPERATORS)}")
        elif not operator.accepts(operand):
            self._refuse("invalid_type", path, f"Expected {operator.wants}, received {type_name(operand)}")
        else:
            return self._compiled(operator, name, operand, path)
        return None

    def _compiled(self, operator: operators.Operator, name: str, operand: Any, path: str) -> Leaf | None:
        try:
            leaf = Leaf(path, name, operand, operator.test(operand))
        except ValueError as error:
            self._refuse("invalid_string", path, str(error))
            return None
        if name == "$regex":
            self._count_steps(operand, path)
        return leaf

    def _count_steps(self, operand: str, path: str) -> None:
        self._steps += operators.steps_of(operand)
        if self._steps > operators.MOST_STEPS:
            self._refuse(
                "too_big",
                path,
                f"A filter's regular expressions must not unfold to more than {operators.MOST_STEPS} steps together",
            )

    def _say_if_it_looks_like_an_operator(self, key: str, path: str) -> None:
        if key in OPERATORS or key in COMBINATIONS:
            self._warn(f"{path}: read as a key of the event that is called {key}, as trigger.dev does")

    def _warn_of_contradictions(self, raw: dict[str, Any], path: str) -> None:
        """Of what `$and` asks of the same keys as the filter around it, or as another of its parts."""
        if self.issues or not any(name == "$and" and _combines(name, below) for name, below in raw.items()):
            return
        asked: dict[str, list[chances.Item]] = {}
        for key, item in _conditions(raw):
            asked.setdefault(key, []).append(item)
        for key, items in asked.items():
            if len(items) <= _MOST_OPERATORS and chances.can_never_hold(items):
                self._warn(f"{join(path, '$and')}: no value of {key} can pass all that is asked of it")

    def _warn(self, words: str) -> None:
        if len(self.warnings) < _MOST_ISSUES:
            self.warnings.append(words)

    def _refuse(self, code: str, path: str, message: str) -> Node:
        if len(self.issues) < _MOST_ISSUES:
            self.issues.append(errors.Issue(code, path, message))
        return _REFUSED


def _combines(key: str, raw: Any) -> bool:
    """Whether a key combines sub-filters: only where upstream would refuse its value, so that its own keep their meaning.

    `{"$or": [{"$exists": true}]}` asks for a key named `$or`, `{"$or": [{"a": ["x"]}]}` is ours.
    """
    return (
        key in COMBINATIONS
        and isinstance(raw, list)
        and bool(raw)
        and not is_one_type(raw)
        and not all(map(operators.is_upstreams, raw))
    )


def _always_holds(raw: Any) -> bool:
    """Whether a filter asks nothing of any value that is there."""
    return isinstance(raw, dict) and all(below == [] for below in raw.values())


def _conditions(raw: Any) -> Iterator[Condition]:
    """What a filter and its `$and`s ask of each key, as operators that are good; mistakes are said elsewhere."""
    if not isinstance(raw, dict):
        return
    for key, below in raw.items():
        if key == "$and" and _combines(key, below):
            for one in below:
                yield from _conditions(one)
        elif isinstance(below, list) and below and not _combines(key, below):
            yield from ((key, item) for item in _items(below))


def _items(raw: list[Any]) -> Iterator[chances.Item]:
    if is_one_type(raw):
        yield "$in", raw
        return
    for item in raw:
        if isinstance(item, dict):
            yield from (
                (name, operand)
                for name, operand in item.items()
                if name in OPERATORS and OPERATORS[name].accepts(operand)
            )
