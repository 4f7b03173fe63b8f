"""The attributes of a CloudEvent: what may be one, and the words for what may not (specification 1.0.2, §§ 2 and 3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NotRequired, TypedDict

from msgspec import Meta, inspect

from kongflow_events import dates, errors
from kongflow_events.schemas import typed
from kongflow_events.schemas.requests import Text

Filled = Annotated[str, Meta(min_length=1)]
# RFC 2046's `type/subtype`, and parameters that are not looked into.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
MediaType = Annotated[str, Meta(min_length=1, pattern=rf"^{_WORD}/{_WORD} *(;[ -~]*)?$(?!\n)")]


class Attributes(TypedDict):
    """The attributes that CloudEvents names; any others are extensions. `time` is a date and time in RFC 3339."""

    specversion: Annotated[Literal["1.0"], Meta(description="The version of CloudEvents.")]
    id: Annotated[
        Text, Meta(description="The event's id. Here it alone names the event: with another source it is a 409.")
    ]
    source: Annotated[Filled, Meta(description="Where it comes from: the event's source.")]
    type: Annotated[Filled, Meta(description="What happened: the event's name.")]
    time: NotRequired[Annotated[str, Meta(description="When it happened.", extra_json_schema={"format": "date-time"})]]
    subject: NotRequired[Annotated[Filled, Meta(description="What it happened to; stored in the context.")]]
    datacontenttype: NotRequired[Annotated[MediaType, Meta(description="What its data is; stored in the context.")]]
    dataschema: NotRequired[Annotated[Filled, Meta(description="What its data keeps to; stored in the context.")]]


_NAMED = inspect.type_info(Attributes)
assert isinstance(_NAMED, inspect.TypedDictType)
_SHAPES: Final = {field.name: field.type for field in _NAMED.fields}
_REQUIRED: Final = [field.name for field in _NAMED.fields if field.required]

_NAME: Final = re.compile(r"[a-z0-9]+")
# An integer has 32 bits, its sign included.
_LARGEST: Final = 2**31
# What the type String leaves out: control characters, surrogates, and Unicode's noncharacters.
_NO_TEXT: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def breaches(attributes: Mapping[str, Any], where: Callable[[str], str]) -> Iterator[errors.Issue]:
    """Everything wrong with the attributes of one event; `where` says at which path an attribute of a name stands."""
    for name in _REQUIRED:
        if name not in attributes:
            yield errors.Issue("invalid_type", where(name), "Required")
    for name, value in attributes.items():
        yield from breaches_of(name, value, where(name))


def breaches_of(name: str, value: Any, path: str) -> Iterator[errors.Issue]:
    """What is wrong with one attribute, its name included, that stands at `path`."""
    if name in _SHAPES:
        yield from _named_breaches(name, value, path)
    elif not _NAME.fullmatch(name) or name == "data":
        yield errors.Issue(
            "custom", path, "An attribute's name has only lower-case letters and digits, and is not data"
        )
    elif isinstance(value, str):
        yield from _text_breaches(value, path)
    elif not isinstance(value, int) or not -_LARGEST <= value < _LARGEST:
        yield errors.Issue("invalid_type", path, "Expected string, boolean or integer of 32 bits")


def _named_breaches(name: str, value: Any, path: str) -> Iterator[errors.Issue]:
    found = list(typed.breaches(value, _SHAPES[name], path))
    if found:
        yield from found
        return
    yield from _text_breaches(value, path)
    if name == "time" and not _is_moment(value):
        yield errors.Issue("invalid_date", path, "Invalid date")


def _text_breaches(value: str, path: str) -> Iterator[errors.Issue]:
    if _NO_TEXT.search(value):
        yield errors.Issue("invalid_string", path, "Text must be UTF-8 without control characters and noncharacters")


def _is_moment(text: str) -> bool:
    try:
        dates.parse_moment(text)
    except ValueError:
        return False
    return True
