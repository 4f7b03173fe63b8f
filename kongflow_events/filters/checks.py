"""What looking at a value through a filter came to, condition by condition: the words of `explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kongflow_events.filters.values import MISSING, Kind, kind_of

# An explanation is for reading: of a long value it shows this much of its JSON text.
_SHOWN: Final = 300
# Of a list with more elements than this, the nearest is looked for among the first.
MOST_ELEMENTS: Final = 100


class Check(msgspec.Struct, frozen=True, rename="camel"):
    """One condition of a filter and what came of it: a leaf looks at a value, a group counts the checks below it."""

    filter: Annotated[str, Meta(description="Where it stands in the filter.")]
    at: Annotated[str, Meta(description="Where it looked in the event.")]
    test: Annotated[str, Meta(description="What is asked: an operator, `one of`, or how the checks below count.")]
    holds: Annotated[bool, Meta(description="Whether it holds.")]
    kind: Annotated[Kind, Meta(description="What kind of value it found.")]
    expected: Annotated[Any, Meta(description="A leaf's operand.")] = UNSET
    value: Annotated[
        Any, Meta(description="The value a leaf found, cut when it is long; absent when there is none.")
    ] = UNSET
    note: Annotated[str | UnsetType, Meta(description="What else there is to know.")] = UNSET
    checks: Annotated[list[Check] | UnsetType, Meta(description="A group's checks.")] = UNSET


def leaf(filter_: str, at: str, test: str, expected: Any, value: Any, *, holds: bool) -> Check:
    """A condition on one value."""
    return Check(filter_, at, test, holds, kind_of(value), expected, shown(value))


def group(
    filter_: str, at: str, test: str, value: Any, checks: Sequence[Check], *, holds: bool, note: str | None = None
) -> Check:
    """Conditions that count together."""
    return Check(filter_, at, test, holds, kind_of(value), note=note or UNSET, checks=list(checks))


def shown(value: Any) -> Any:
    """The value itself, or the beginning of its JSON text when that is long; UNSET for MISSING."""
    if value is MISSING:
        return UNSET
    text = msgspec.json.encode(value).decode()
    return value if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def score(check: Check) -> int:
    """How many leaves below hold: of several elements that all fail, the one with most is the nearest."""
    if check.checks is UNSET or not check.checks:
        return int(check.holds)
    return sum(map(score, check.checks))


def failure(check: Check) -> str:
    """In a sentence, what in a check that does not hold is to blame: the first condition, however deep."""
    if check.checks is UNSET:
        return f"{check.at}: {check.test} {_text(check.expected)} does not hold for {_found(check)}"
    failed = next((below for below in check.checks if not below.holds), None)
    if check.test == "$nor":
        held = next(below for below in check.checks if below.holds)
        return f"{held.filter} holds, and of {check.filter} none may"
    if check.test == "$or":
        return f"{check.at}: none of {check.filter} holds"
    if check.test == "any element" and failed is not None:
        return f"{check.at}: {check.note}, but {failure(failed)}"
    return failure(failed) if failed is not None and check.note is UNSET else f"{check.at}: {check.note}"


def _found(check: Check) -> str:
    return "a missing value" if check.value is UNSET else _text(check.value)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
