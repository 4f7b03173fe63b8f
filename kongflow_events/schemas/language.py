"""The filter language as JSON Schema: loose where it has to be, but every filter that is a filter passes."""

from __future__ import annotations

from typing import Any, Final

from kongflow_events.operators import OPERATORS
from kongflow_events.schemas.references import ref

_STRING: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_BOOLEAN: Final = {"type": "boolean"}
_SCALAR: Final = {"type": ["string", "number", "boolean"]}
_LISTS: Final = [{"type": "array", "items": one} for one in (_STRING, _NUMBER, _BOOLEAN)]

# What an operator wants, as it says itself when it is given something else; of any other wish the words alone are told.
_OPERANDS: Final[dict[str, dict[str, Any]]] = {
    "a string": _STRING,
    "a number": _NUMBER,
    "true or false": _BOOLEAN,
    "a string, number or boolean": _SCALAR,
    "a string, number or boolean, or a list of one of these types": {"anyOf": [_SCALAR, *_LISTS]},
    "a list of two numbers": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
}

COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "EventFilter": {
        "title": "EventFilter",
        "description": "What a payload or context must be like: every key must hold. A list of literals means any of "
        "them, a list of operators means all of them, an object is a filter for what lies below. An array passes a "
        "nested filter when one of its elements does. A filter without keys asks nothing.",
        "examples": [
            {
                "status": ["paid", "refunded"],
                "amount": [{"$gt": 10, "$lte": 500}],
                "customer": {"email": [{"$endsWith": "@example.com"}]},
            }
        ],
        "type": "object",
        # Words that join filters are not names of keys.
        "patternProperties": {r"^\$(or|and|nor)$": {}},
        "additionalProperties": {
            "anyOf": [
                *_LISTS,
                {"type": "array", "items": ref("Operator"), "maxItems": 100},
                ref("EventFilter"),
            ]
        },
    },
    "Operator": {
        "title": "Operator",
        "description": "One or more operators; each must hold.",
        "examples": [{"$gt": 10, "$lte": 500}],
        "type": "object",
        "minProperties": 1,
        "properties": {
            name: {"description": f"Takes {operator.wants}.", **_OPERANDS.get(operator.wants, {})}
            for name, operator in OPERATORS.items()
        },
        "additionalProperties": False,
    },
}
