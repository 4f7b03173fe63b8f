"""Types as JSON Schema (2020-12): what the document of the API says is read off the types that validate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from kongflow_events.dates import Instant
from kongflow_events.schemas import formats, language
from kongflow_events.schemas.queries import Cursor
from kongflow_events.schemas.references import REF, ref
from kongflow_events.schemas.typed import Whole

Schema = dict[str, Any]

_INSTANT: Final[Schema] = {
    "title": "Instant",
    "description": "A moment: RFC 3339 with an offset, a date alone (its midnight in UTC), or whole milliseconds since 1970.",
    "examples": ["2026-06-17T09:30:00Z", "2026-06-17", 1781688600000],
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
        # The first and the last moment of the years 1 to 9999.
        {"type": "integer", "minimum": -62_135_596_800_000, "maximum": 253_402_300_799_999},
    ],
}
_CURSOR: Final[Schema] = {
    "title": "Cursor",
    "description": "Where a page ended, as an opaque word: the `nextCursor` of the page before.",
    "examples": ["AZd9LFwAehGPBC1qHJvgAQ"],
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{22}$",
}
_NOTHING: Final[tuple[tuple[str, Any], ...]] = (("default", None), ("required", []))
_BY_HAND: Final = {"Instant": _INSTANT, "Cursor": _CURSOR, **language.COMPONENTS, **formats.COMPONENTS}
# What validates beside the type: one of two fields, and not both.
_BESIDES: Final = {"ExplainBody": {"oneOf": [{"required": ["event"]}, {"required": ["eventId"]}]}}
_REFERENCES: Final = {Instant: ref("Instant"), Cursor: ref("Cursor")}


def schemas_of(types: Iterable[Any]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """The schema of each type, structs as references; and what they refer to, by name."""
    wanted = list(dict.fromkeys(types))
    found, components = msgspec.json.schema_components(wanted, schema_hook=_custom, ref_template=REF)
    named = {**components, **_BY_HAND}
    for name in _BESIDES.keys() & named:
        named[name] = {**named[name], **_BESIDES[name]}
    return dict(zip(wanted, found, strict=True)), {name: _tidy(schema) for name, schema in named.items()}


def _custom(kind: type) -> Schema:
    if issubclass(kind, Whole):
        return {"type": "integer", "minimum": kind.least, "maximum": kind.most}
    return _REFERENCES[kind]


def _tidy(schema: Any) -> Any:
    """`schema` without what says nothing: null for what is absent, an empty list of what is required."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _tidy(one) for name, one in schema.items() if (name, one) not in _NOTHING}
