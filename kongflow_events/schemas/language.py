"""The filter language as JSON Schema: loose where it has to be, but every filter that is a filter passes."""

from __future__ import annotations

from typing import Any, Final

from kongflow_events.filters.operators import COMPARISONS, MOST_CHOICES, OPERATORS
from kongflow_events.schemas.references import ref

_STRING: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_BOOLEAN: Final = {"type": "boolean"}
_SCALAR: Final = {"type": ["string", "number", "boolean"]}
_LISTS: Final = [{"type": "array", "items": one} for one in (_STRING, _NUMBER, _BOOLEAN)]
_TEXTS: Final = {"anyOf": [_STRING, {"type": "array", "items": _STRING, "minItems": 1, "maxItems": MOST_CHOICES}]}
_MIXED: Final = {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}, "maxItems": MOST_CHOICES}
_SIZE: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {
            "type": "object",
            "properties": dict.fromkeys(COMPARISONS, _NUMBER),
            "additionalProperties": False,
            "minProperties": 1,
        },
    ]
}

# By operator where its name says more than its wish, else by what it wants.
_OPERANDS: Final[dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("$startsWith", "$endsWith", "$ignoreCaseEquals", "$contains", "$wildcard", "$cidr"), _TEXTS),
    "$regex": {**_STRING, "maxLength": 500},
    "$before": _STRING,
    "$after": _STRING,
    "$in": _MIXED,
    "$nin": _MIXED,
    "$size": _SIZE,
    "a number": _NUMBER,
    "true or false": _BOOLEAN,
    "a string, number or boolean": _SCALAR,
    "a string, number or boolean, or a list of one of these types": {"anyOf": [_SCALAR, *_LISTS]},
    "a list of two numbers": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
}

_VALUE: Final = [*_LISTS, {"type": "array", "items": ref("Operator"), "maxItems": 100}, ref("EventFilter")]

COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "EventFilter": {
        "title": "EventFilter",
        "description": "What a payload or context must be like: every key must hold. A list of literals means any of "
        "them, a list of operators means all of them, an object is a filter for what lies below. An array passes a "
        "nested filter when one of its elements does. `$or`, `$and` and `$nor` hold sub-filters. A filter without keys asks "
        "nothing.",
        "examples": [
            {
                "status": ["paid", "refunded"],
                "amount": [{"$gt": 10, "$lte": 500}],
                "customer": {"email": [{"$endsWith": "@example.com"}]},
                "$or": [{"country": [{"$in": ["DE", None]}]}, {"ip": [{"$cidr": "10.0.0.0/8"}]}],
            }
        ],
        "type": "object",
        # A key of such a name that upstream would take is a key like any other.
        "patternProperties": {
            r"^\$(or|and|nor)$": {"anyOf": [*_VALUE, {"type": "array", "items": ref("EventFilter")}]}
        },
        "additionalProperties": {"anyOf": _VALUE},
    },
    "Operator": {
        "title": "Operator",
        "description": "One or more operators; each must hold.",
        "examples": [{"$gt": 10, "$lte": 500}],
        "type": "object",
        "minProperties": 1,
        "properties": {
            name: {"description": f"Takes {operator.wants}.", **(_OPERANDS.get(name) or _OPERANDS[operator.wants])}
            for name, operator in OPERATORS.items()
        },
        "additionalProperties": False,
    },
}
