"""JSON Schema in words: a type in a phrase, an object as a table of its fields."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

Document = Mapping[str, Any]

# Limits as a reader says them, where a schema has them.
_LIMITS: Final = (
    ("minLength", "not empty"),
    ("maxLength", "up to {} characters"),
    ("minimum", "from {:,}"),
    ("maximum", "to {:,}"),
    ("minItems", "at least {}"),
    ("maxItems", "at most {}"),
)
# A pattern that says more than its name is worth reading; a longer one is for machines.
_READABLE: Final = 40


class Field(NamedTuple):
    """One field of an object, or one parameter; `depth` is how many objects are around it, `default` a JSON text."""

    name: str
    depth: int
    type: str
    required: bool
    text: str
    default: str | None


def lookup(document: Document, reference: str) -> Any:
    """What a reference within the document leads to."""
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def type_of(document: Document, schema: Mapping[str, Any], apart: Collection[str]) -> str:
    """A schema in a phrase; those whose names are in `apart` by their names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if name in apart else "object"
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(document, each, apart) for each in schema["anyOf"]))
    if schema.get("type") == "array":
        items = type_of(document, schema.get("items", {}), apart)
        return f"list of {items}{_limits(schema)}"
    return _plain(schema)


def fields(document: Document, schema: Mapping[str, Any], apart: Collection[str], depth: int = 0) -> Iterator[Field]:
    """The fields of an object, each followed by those below it; nothing for what is no object."""
    schema = _object(document, schema)
    for name, each in schema.get("properties", {}).items():
        yield Field(
            name,
            depth,
            type_of(document, each, apart),
            name in schema.get("required", ()),
            each.get("description", ""),
            json.dumps(each["default"]) if "default" in each else None,
        )
        below = _below(each)
        if below.get("$ref", "").rpartition("/")[2] not in apart:
            yield from fields(document, below, apart, depth + 1)


def _object(document: Document, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = _below(schema)
    found: Mapping[str, Any] = lookup(document, schema["$ref"]) if "$ref" in schema else schema
    return found


def _below(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is inside: of a list its items."""
    while schema.get("type") == "array":
        schema = schema.get("items", {})
    return schema


def _plain(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type", "any JSON")
    words = kinds if isinstance(kinds, str) else " or ".join(kinds)
    if "format" in schema:
        words = schema["format"]
    return f"{words}{_limits(schema)}"


def _limits(schema: Mapping[str, Any]) -> str:
    said = [words.format(schema[name]) for name, words in _LIMITS if name in schema]
    if len(schema.get("pattern", "x" * (_READABLE + 1))) <= _READABLE:
        said.append(schema["pattern"])
    return "".join(f", {words}" for words in said).replace(", to ", " to ")
