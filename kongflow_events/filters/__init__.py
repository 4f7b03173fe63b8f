"""The filter language: JSON patterns over JSON values, compiled once, matched often, and able to explain themselves.

A filter is an object; every key must hold. A list of literals means any of them; a list of operators means all of them;
an object is a filter for what lies below. An array in the value matches a nested filter when one of its elements does.
`$or`, `$and` and `$nor` hold sub-filters for the value they stand in. Everything that trigger.dev's EventFilter accepts
keeps its meaning; the rest is ours.
"""

from __future__ import annotations

from kongflow_events.filters.checks import Check, failure
from kongflow_events.filters.parsing import DEEPEST, EventFilter, InvalidFilter, check, parse
from kongflow_events.filters.rules import Rule, Subject, request_view

__all__ = [
    "DEEPEST",
    "Check",
    "EventFilter",
    "InvalidFilter",
    "Rule",
    "Subject",
    "check",
    "failure",
    "parse",
    "request_view",
]
