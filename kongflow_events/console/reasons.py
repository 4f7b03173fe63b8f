"""An explanation as pages draw it: the conditions of each filter, with what they found, as a tree of sentences."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from kongflow_events import filters, schemas


class Condition(NamedTuple):
    """One condition in words, whether it holds, and those that it is made of."""

    text: str
    holds: bool
    below: list[Condition]


class Tree(NamedTuple):
    """A filter by its name, and its topmost condition."""

    name: str
    top: Condition


def trees(explanation: schemas.Explanation) -> list[Tree]:
    """The filters of an explanation that ask something."""
    both = (("Payload filter", explanation.payload_filter), ("Context filter", explanation.context_filter))
    return [Tree(name, _condition(check)) for name, check in both if check is not None]


def _condition(check: filters.Check) -> Condition:
    if check.checks is UNSET:
        found = "nothing" if check.value is UNSET else _text(check.value)
        return Condition(f"{check.at} {check.test} {_text(check.expected)}, found {found}", check.holds, [])
    note = "" if check.note is UNSET else f" ({check.note})"
    return Condition(f"{check.at}: {check.test}{note}", check.holds, [_condition(one) for one in check.checks])


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
