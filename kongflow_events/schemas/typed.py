"""From a body to a typed value: fast when it is right, and with every issue in upstream's words when it is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import inspect

from kongflow_events import dates, errors, paths
from kongflow_events.schemas import decoding

Type = TypeVar("Type")
_MOST_ISSUES = 100


class Whole(int):
    """A whole number from `least` to `most`. To msgspec 1.0 is none; to JSON Schema, and to upstream, it is 1."""

    least: ClassVar[int]
    most: ClassVar[int]


def _custom(kind: type, value: Any) -> Any:
    """What JSON does not have, or has in two forms."""
    if not issubclass(kind, Whole):
        return dates.Instant(dates.parse(value))
    if not dates.is_whole(value) or not kind.least <= value <= kind.most:
        raise ValueError("Expected a whole number in its range")
    return kind(value)


def decoder(kind: type[Type]) -> Callable[[bytes], Type]:
    """A function from a body to `kind`, a Struct; it raises Refused (400) or Invalid (422) with every issue."""
    typed = msgspec.json.Decoder(kind, dec_hook=_custom)
    shape = inspect.type_info(kind)

    def read(body: bytes) -> Type:
        value = decoding.decode(body)
        try:
            return typed.decode(body)
        except msgspec.ValidationError as error:
            raise errors.Invalid(*(first(breaches(value, shape, "")) or [_unforeseen(error)])) from None

    return read


def _unforeseen(error: msgspec.ValidationError) -> errors.Issue:
    return errors.Issue("custom", "", str(error))


def first(issues: Iterable[errors.Issue]) -> list[errors.Issue]:
    """The first issues; a body that is nothing but mistakes must not make an answer larger than itself."""
    found = list(islice(issues, _MOST_ISSUES + 1))
    if len(found) > _MOST_ISSUES:
        found[_MOST_ISSUES:] = [errors.Issue("custom", "", f"and more: only the first {_MOST_ISSUES} are listed")]
    return found


def breaches(value: Any, shape: inspect.Type, path: str) -> Iterator[errors.Issue]:
    """Every breach of `shape` in `value`, in the order of its fields, in zod's codes and words."""
    return _WALKERS[type(shape)](value, shape, path)


def _walk_struct(value: Any, shape: inspect.StructType, path: str) -> Iterator[errors.Issue]:
    if not isinstance(value, dict):
        yield _wrong_type("object", value, path)
        return
    for field in shape.fields:
        at = paths.join(path, field.encode_name)
        if field.encode_name in value:
            yield from breaches(value[field.encode_name], field.type, at)
        elif field.required:
            yield errors.Issue("invalid_type", at, "Required")
    if shape.forbid_unknown_fields:
        yield from _unknown_keys(value, {field.encode_name for field in shape.fields}, path)


def _unknown_keys(value: dict[str, Any], known: set[str], path: str) -> Iterator[errors.Issue]:
    message = f"Unknown key; known are {', '.join(sorted(known))}"
    for key in value:
        if key not in known:
            yield errors.Issue("unrecognized_keys", paths.join(path, key), message)


def _walk_union(value: Any, shape: inspect.UnionType, path: str) -> Iterator[errors.Issue]:
    choices = [choice for choice in shape.types if not isinstance(choice, inspect.NoneType)]
    if value is None and len(choices) < len(shape.types):
        return
    if len(choices) == 1:
        yield from breaches(value, choices[0], path)
    elif all(any(True for _ in breaches(value, choice, path)) for choice in choices):
        yield errors.Issue("invalid_union", path, "Invalid input")


def _walk_custom(value: Any, shape: inspect.CustomType, path: str) -> Iterator[errors.Issue]:
    return _walk_date(value, path) if shape.cls is dates.Instant else _walk_whole(value, shape.cls, path)


def _walk_date(value: Any, path: str) -> Iterator[errors.Issue]:
    try:
        dates.parse(value)
    except ValueError:
        yield errors.Issue("invalid_date", path, "Invalid date")


def _walk_whole(value: Any, kind: type[Whole], path: str) -> Iterator[errors.Issue]:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        yield _wrong_type("number", value, path)
    elif not dates.is_whole(value):
        yield errors.Issue("invalid_type", path, "Expected integer, received float")
    elif value < kind.least:
        yield errors.Issue("too_small", path, f"Number must be greater than or equal to {kind.least}")
    elif value > kind.most:
        yield errors.Issue("too_big", path, f"Number must be less than or equal to {kind.most}")


def _walk_list(value: Any, shape: inspect.ListType, path: str) -> Iterator[errors.Issue]:
    if not isinstance(value, list):
        yield _wrong_type("array", value, path)
        return
    if shape.min_length is not None and len(value) < shape.min_length:
        yield errors.Issue("too_small", path, f"Array must contain at least {shape.min_length} element(s)")
    if shape.max_length is not None and len(value) > shape.max_length:
        yield errors.Issue("too_big", path, f"Array must contain at most {shape.max_length} element(s)")
    for index, item in enumerate(value):
        yield from breaches(item, shape.item_type, f"{path}[{index}]")


def _walk_literal(value: Any, shape: inspect.LiteralType, path: str) -> Iterator[errors.Issue]:
    if value in shape.values:
        return
    if len(shape.values) == 1:
        yield errors.Issue("invalid_literal", path, f'Invalid literal value, expected "{shape.values[0]}"')
    else:
        yield errors.Issue("invalid_union", path, "Invalid input")


def _walk_boolean(value: Any, _: inspect.BoolType, path: str) -> Iterator[errors.Issue]:
    if not isinstance(value, bool):
        yield _wrong_type("boolean", value, path)


def _walk_object(value: Any, shape: inspect.DictType, path: str) -> Iterator[errors.Issue]:
    if not isinstance(value, dict):
        yield _wrong_type("object", value, path)
        return
    for key, item in value.items():
        yield from breaches(item, shape.value_type, paths.join(path, key))


def _walk_described(value: Any, shape: inspect.Metadata, path: str) -> Iterator[errors.Issue]:
    return breaches(value, shape.type, path)


def _accept(_value: Any, _shape: inspect.Type, _path: str) -> Iterator[errors.Issue]:
    return iter(())


def _walk_text(value: Any, shape: inspect.StrType, path: str) -> Iterator[errors.Issue]:
    if not isinstance(value, str):
        yield _wrong_type("string", value, path)
        return
    if shape.min_length is not None and len(value) < shape.min_length:
        yield errors.Issue("too_small", path, f"String must contain at least {shape.min_length} character(s)")
    if shape.max_length is not None and len(value) > shape.max_length:
        yield errors.Issue("too_big", path, f"String must contain at most {shape.max_length} character(s)")
    if shape.pattern is not None and not re.search(shape.pattern, value):
        yield errors.Issue("invalid_string", path, "Invalid")


def _wrong_type(expected: str, value: Any, path: str) -> errors.Issue:
    return errors.Issue("invalid_type", path, f"Expected {expected}, received {paths.type_name(value)}")


_WALKERS: dict[type[inspect.Type], Callable[[Any, Any, str], Iterator[errors.Issue]]] = {
    inspect.AnyType: _accept,
    inspect.BoolType: _walk_boolean,
    inspect.CustomType: _walk_custom,
    inspect.DictType: _walk_object,
    inspect.ListType: _walk_list,
    inspect.LiteralType: _walk_literal,
    inspect.Metadata: _walk_described,
    inspect.RawType: _accept,
    inspect.StrType: _walk_text,
    inspect.StructType: _walk_struct,
    inspect.UnionType: _walk_union,
}
