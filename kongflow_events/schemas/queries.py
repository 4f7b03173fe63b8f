"""Query strings, as types: pages, times, choices and flags, with every issue named."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, inspect

from kongflow_events import dates, errors, words
from kongflow_events.dates import Instant

Type = TypeVar("Type")
State = Literal["pending", "delivered", "unmatched", "cancelled", "dead"]
# Unknown parameters that an answer names, so that it is not much larger than the question.
_MOST_UNKNOWN: Final = 10
_WORD: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
# An integer that no limit is near.
_LONGEST_NUMBER: Final = 9


class Cursor(UUID):
    """Where a page ended: the id of its last row."""


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a list of our own: one that it does not know is a mistake, not a wish that goes unheard."""


class ListQuery(Strict, frozen=True):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=100, description="How many the page may hold.")] = 50
    cursor: Annotated[Cursor | None, Meta(description="Go on where a page ended: its `nextCursor`.")] = None


class EventsQuery(ListQuery, frozen=True):
    """The parameters of `GET /api/v1/events`."""

    name: Annotated[str | None, Meta(description="Only events of this name.")] = None
    source: Annotated[str | None, Meta(description="Only events from this source.")] = None
    account: Annotated[str | None, Meta(description="Only events of this external account.")] = None
    state: Annotated[
        State | None,
        Meta(
            description="Only events that are still to be delivered (`pending`), were delivered, went to nobody "
            "(`unmatched`), were cancelled, or whose delivery has used up its attempts (`dead`)."
        ),
    ] = None
    since: Annotated[Instant | None, Meta(description="Only events that were stored at this time or later.")] = None
    until: Annotated[Instant | None, Meta(description="Only events that were stored before this time.")] = None

    def wanted(self) -> dict[str, Any]:
        """The parameters, times as datetimes."""
        times = {"since": self.since and self.since.at, "until": self.until and self.until.at}
        return {**msgspec.structs.asdict(self), **times}


class DispatchersQuery(ListQuery, frozen=True):
    """The parameters of `GET /api/v1/event-dispatchers`."""

    event: Annotated[str | None, Meta(description="Only dispatchers that listen to this name.")] = None
    source: Annotated[str | None, Meta(description="Only dispatchers that listen to this source.")] = None
    enabled: Annotated[bool | None, Meta(description="Only dispatchers that are enabled, or that are not.")] = None


class InvocationsQuery(ListQuery, frozen=True):
    """The parameters of `GET /api/v1/invocations`."""

    status: Annotated[words.InvocationStatus | None, Meta(description="Only invocations in this state.")] = None
    dispatcher: Annotated[str | None, Meta(description="Only this dispatcher's.")] = None
    name: Annotated[str | None, Meta(description="Only those of events of this name.")] = None
    event: Annotated[str | None, Meta(description="Only those of this event, by its sender's id.")] = None
    error_class: Annotated[words.ErrorClass | None, Meta(description="Only those whose last failure was this.")] = (
        msgspec.field(default=None, name="errorClass")
    )
    since: Annotated[Instant | None, Meta(description="Only those that ended, or else began, then or later.")] = None
    until: Annotated[Instant | None, Meta(description="Only those that ended, or else began, before this time.")] = None


class JobRunsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of `GET /api/v1/jobs/{job}/runs`: upstream's, which lets others pass."""

    take: Annotated[int, Meta(ge=1, le=50, description="How many runs the page may hold.")] = 20
    cursor: Annotated[Cursor | None, Meta(description="Go on where a page ended: its `nextCursor`.")] = None


class _Wrong(ValueError):
    """A parameter cannot be read: a zod-style code, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def reader(kind: type[Type]) -> Callable[[Mapping[str, str]], Type]:
    """A function from a query string's parameters to `kind`; it raises Invalid (422) with every issue."""
    shape = inspect.type_info(kind)
    assert isinstance(shape, inspect.StructType)
    fields = {field.encode_name: _inner(field.type) for field in shape.fields}
    names = {field.encode_name: field.name for field in shape.fields}

    def read(parameters: Mapping[str, str]) -> Type:
        values: dict[str, Any] = {}
        issues: list[errors.Issue] = []
        for name, type_ in fields.items():
            if name in parameters:
                try:
                    values[names[name]] = _READERS[type(type_)](parameters[name], type_)
                except _Wrong as wrong:
                    issues.append(errors.Issue(wrong.code, name, str(wrong)))
        if shape.forbid_unknown_fields:
            issues += _unknown(parameters, fields)
        if issues:
            raise errors.Invalid(*issues)
        return kind(**values)

    return read


def _unknown(parameters: Mapping[str, str], known: Mapping[str, Any]) -> list[errors.Issue]:
    names = (name for name in parameters if name not in known)
    message = f"Unknown parameter; known are {', '.join(known)}"
    return [errors.Issue("unrecognized_keys", name, message) for name in islice(names, _MOST_UNKNOWN)]


def _inner(type_: inspect.Type) -> inspect.Type:
    """What a parameter that is given has to be: null is how a struct says that it is not."""
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    if isinstance(type_, inspect.UnionType):
        [type_] = (one for one in type_.types if not isinstance(one, inspect.NoneType))
    return type_


def _text(value: str, _: inspect.StrType) -> str:
    if "\0" in value:
        raise _Wrong("invalid_string", "Text must not contain the NUL character")
    return value


def _choice(value: str, type_: inspect.LiteralType) -> str:
    if value not in type_.values:
        raise _Wrong("invalid_enum_value", f"Expected one of {', '.join(map(str, type_.values))}")
    return value


def _flag(value: str, _: inspect.BoolType) -> bool:
    if value not in ("true", "false"):
        raise _Wrong("invalid_enum_value", "Expected one of true, false")
    return value == "true"


def _integer(value: str, type_: inspect.IntType) -> int:
    plain = value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER
    least, most = type_.ge or 0, type_.le or 0
    if not plain or not least <= int(value) <= most:
        raise _Wrong("invalid_type", f"Expected a whole number from {least} to {most}")
    return int(value)


def _custom(value: str, type_: inspect.CustomType) -> Any:
    return _cursor(value) if type_.cls is Cursor else _time(value)


def _time(value: str) -> Instant:
    """A date, as in bodies; milliseconds since 1970 are written as digits."""
    try:
        return Instant(dates.parse(int(value) if re.fullmatch(r"-?\d{1,18}", value, re.ASCII) else value))
    except ValueError:
        raise _Wrong("invalid_date", "Invalid date") from None


def _cursor(value: str) -> Cursor:
    try:
        return decode_cursor(value)
    except ValueError:
        raise _Wrong("invalid_string", "Invalid cursor") from None


_READERS: Final[dict[type[inspect.Type], Callable[[str, Any], Any]]] = {
    inspect.BoolType: _flag,
    inspect.CustomType: _custom,
    inspect.IntType: _integer,
    inspect.LiteralType: _choice,
    inspect.StrType: _text,
}


def encode_cursor(last: UUID | None) -> str | None:
    """The place just before a row, as an opaque word that is safe in URLs."""
    return None if last is None else urlsafe_b64encode(last.bytes).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """The row that a cursor stands for; ValueError for anything that is none."""
    if not _WORD.fullmatch(text):
        raise ValueError("Invalid cursor")
    return Cursor(bytes=urlsafe_b64decode(f"{text}=="))
