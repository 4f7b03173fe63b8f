"""Filters: every key must hold; a list holds literals, one of which it is, or operators, all of which must pass."""

from typing import Any

OPERATORS = {
    "$gt": lambda value, than: isinstance(value, int | float) and value > than,
    "$lt": lambda value, than: isinstance(value, int | float) and value < than,
}


def matches(rule: dict[str, Any] | None, value: Any) -> bool:
    """Whether a payload passes; no rule asks nothing."""
    if not rule:
        return True
    return isinstance(value, dict) and all(key in value and _passes(asked, value[key]) for key, asked in rule.items())


def _passes(asked: Any, value: Any) -> bool:
    if isinstance(asked, dict):
        return matches(asked, value)
    if any(isinstance(one, dict) for one in asked):
        return all(OPERATORS[name](value, than) for one in asked for name, than in one.items())
    return value in asked
