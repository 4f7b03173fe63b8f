"""CloudEvents 1.0 on the wire: structured, batched and binary in, a batch out.

The rules are those of the specification, its JSON event format and its HTTP protocol binding, each in version 1.0.2
(github.com/cloudevents/spec). `id`, `source`, `type` and `time` are the event's own, `data` is its payload, and its
context holds every other attribute under its own name. The context's member `data`, a name that no attribute may have,
says where the payload is not simply the data: `base64` when it is `{"data_base64": …}`, `none` when there was no data.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import inspect

from kongflow_events import dates, errors, models, paths
from kongflow_events.schemas import cloudattributes, decoding, typed
from kongflow_events.schemas.requests import SendEvent

STRUCTURED: Final = "application/cloudevents+json"
BATCHED: Final = "application/cloudevents-batch+json"
HEADER: Final = "ce-"

_JSON: Final = "application/json"
_DATA: Final = ("data", "data_base64")
# They have columns of their own; the others stand in the context.
_COLUMNS: Final = frozenset({"id", "source", "type", "time"})
# The characters of a name that an issue shows.
_SHOWN: Final = 64


class _Data(NamedTuple):
    """A payload as JSON text (None is absent), and what the context says of it."""

    payload: str | None
    kind: Literal["base64", "none"] | None = None


_NO_DATA: Final = _Data(None, "none")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_batch = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_LIST: Final = inspect.type_info(list[Any])
_OBJECT: Final = inspect.type_info(dict[str, Any])
_TEXT: Final = inspect.type_info(str)


def parse_structured(body: bytes) -> SendEvent:
    """The event of a structured request; raises Refused (400) or Invalid (422)."""
    members = decoding.decode(body)
    _check(_event_breaches(members, ""))
    return _event(_set(members), _json_data(_members.decode(body)))


def parse_batch(body: bytes, most: int) -> list[SendEvent]:
    """The events of a batch; raises Refused (400), Invalid (422), or TooLarge over `most` events."""
    batch = decoding.decode(body)
    _check(typed.breaches(batch, _LIST, ""))
    if len(batch) > most:
        raise errors.TooLarge(f"A batch may hold {most} events; this one holds {len(batch)}")
    _check(issue for index, members in enumerate(batch) for issue in _event_breaches(members, f"[{index}]"))
    return [_event(_set(members), _json_data(raw)) for members, raw in zip(batch, _batch.decode(body), strict=True)]


def parse_binary(headers: Mapping[str, str], content_type: str | None, body: bytes) -> SendEvent:
    """The event of a binary request: its `ce-` headers by lower-case name, in WSGI's Latin-1, and its body.

    A body without a content type is JSON. Raises Refused (400) or Invalid (422).
    """
    attributes: dict[str, Any] = {name.removeprefix(HEADER): _unescape(value) for name, value in headers.items()}
    _check(_header_breaches(attributes, content_type))
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    return _event(attributes, _body_data(content_type or _JSON, body))


def cloud_events(records: Iterable[models.EventRecord]) -> list[dict[str, Any]]:
    """The records as a batch of CloudEvents, without those whose id, name or source no CloudEvent may have.

    Of an event that did not come as one, what its context holds is an extension where its name and type allow.
    """
    return [_cloud_event(record) for record in records if not any(cloudattributes.breaches(_core(record), str))]


# The way in ----------------------------------------------------------------------------------------------------------


def _set(members: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes in a JSON object: a null is as good as nothing."""
    return {name: value for name, value in members.items() if value is not None and name not in _DATA}


def _event(attributes: Mapping[str, Any], data: _Data) -> SendEvent:
    context = {name: value for name, value in attributes.items() if name not in _COLUMNS}
    if data.kind:
        context["data"] = data.kind
    return SendEvent(
        id=attributes["id"],
        source=attributes["source"],
        name=attributes["type"],
        timestamp=dates.parse_moment(attributes["time"]) if "time" in attributes else None,
        payload=data.payload,
        context=msgspec.json.encode(context).decode(),
    )


def _check(issues: Iterable[errors.Issue]) -> None:
    if found := typed.first(issues):
        raise errors.Invalid(*found)


def _event_breaches(members: Any, at: str) -> Iterator[errors.Issue]:
    """Everything wrong with an event in JSON that stands at the path `at`."""
    yield from typed.breaches(members, _OBJECT, at)
    if isinstance(members, dict):
        yield from cloudattributes.breaches(_set(members), lambda name: paths.join(at, name[:_SHOWN]))
        yield from _base64_breaches(members, paths.join(at, "data_base64"))


def _base64_breaches(members: Mapping[str, Any], path: str) -> Iterator[errors.Issue]:
    data, encoded = (members.get(name) for name in _DATA)
    if encoded is None:
        return
    if data is not None:
        yield errors.Issue("custom", path, "Must not stand beside data")
    if not isinstance(encoded, str):
        yield from typed.breaches(encoded, _TEXT, path)
    elif not _is_base64(encoded):
        yield errors.Issue("invalid_string", path, "Invalid base64")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _json_data(members: Mapping[str, msgspec.Raw]) -> _Data:
    """The data of an event in JSON, in the sender's own bytes."""
    data, encoded = (bytes(members.get(name, b"null")).decode() for name in _DATA)
    if encoded != "null":
        return _Data(f'{{"data_base64":{encoded}}}', "base64")
    return _NO_DATA if data == "null" else _Data(data)


def _header_breaches(attributes: Mapping[str, str], content_type: str | None) -> Iterator[errors.Issue]:
    """Everything wrong with the headers of a binary request."""
    yield from cloudattributes.breaches(attributes, _header)
    for name, value in attributes.items():
        # What a server makes of a value that is not ASCII, so that it may be a text that got lost.
        if not value:
            yield errors.Issue("invalid_string", _header(name), "Expected text, percent-encoded where it is not ASCII")
    if "datacontenttype" in attributes:
        yield errors.Issue("custom", f"{HEADER}datacontenttype", "Content-Type stands for it")
    if content_type is not None:
        yield from cloudattributes.breaches_of("datacontenttype", content_type, "content-type")
        if _is_text(content_type) and not _CHARSETS.fullmatch(_charset(content_type)):
            yield errors.Issue("invalid_string", "content-type", "Unknown charset")


def _header(name: str) -> str:
    return HEADER + name[:_SHOWN]


# HTTP binding §3.1.3.2: older senders quote a value, newer ones percent-encode what is not printable ASCII.
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_ESCAPED: Final = re.compile(r"\\(.)")


def _unescape(value: str) -> str:
    """The text that a header's value stands for; bytes that are no UTF-8 become surrogates, which no attribute holds."""
    if _QUOTED.fullmatch(value):
        value = _ESCAPED.sub(r"\1", value[1:-1])
    return unquote_to_bytes(value.encode("latin-1")).decode(errors="surrogateescape")


# The names that RFC 2046 and the browsers' Encoding Standard give to charsets. Python knows other encodings, some of
# which take quadratic time, and remembers every unknown one that it was asked for.
_CHARSETS: Final = re.compile(
    r"us-ascii|utf-8|utf-(16|32)(le|be)?|iso-8859-([1-9]|1[013456])|windows-125[0-8]|ibm866|koi8-[ru]|macintosh"
    r"|gbk|gb2312|gb18030|big5|euc-jp|iso-2022-jp|shift_jis|euc-kr"
)
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([^\s";]*)', re.IGNORECASE)


def _body_data(content_type: str, body: bytes) -> _Data:
    """The data of a binary request; raises Refused (400) or Invalid (422) for what is not of its content type."""
    if not body:
        return _NO_DATA
    if _is_json(content_type):
        return _NO_DATA if decoding.decode(body) is None else _Data(body.decode())
    if _is_text(content_type):
        return _Data(_text(body, _charset(content_type)))
    return _Data(f'{{"data_base64":"{base64.b64encode(body).decode()}"}}', "base64")


def _text(body: bytes, charset: str) -> str:
    try:
        text = msgspec.json.encode(body.decode(charset))
    except UnicodeError:
        raise errors.Refused(f"Invalid {charset} body") from None
    decoding.decode(text)
    return text.decode()


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(content_type: str) -> bool:
    """JSON event format §3.1.1: `*/json` and `*/*+json`; a `text/json` too."""
    return _media_type(content_type).endswith(("/json", "+json"))


def _is_text(content_type: str) -> bool:
    return _media_type(content_type).startswith("text/") and not _is_json(content_type)


def _charset(content_type: str) -> str:
    found = _CHARSET.search(content_type)
    return found[1].lower() if found else "utf-8"


# The way out ---------------------------------------------------------------------------------------------------------


def _cloud_event(record: models.EventRecord) -> dict[str, Any]:
    context = record.context if isinstance(record.context, dict) else {}
    return {
        **_core(record),
        "time": record.timestamp,
        **_context_attributes(context),
        **_data_members(record, context.get("data")),
    }


def _core(record: models.EventRecord) -> dict[str, str]:
    return {"specversion": "1.0", "id": record.event_id, "source": record.source, "type": record.name}


def _context_attributes(context: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {
        name: value
        for name, value in context.items()
        if name not in _COLUMNS and not any(cloudattributes.breaches_of(name, value, name))
    }
    # Only a CloudEvent's payload can be anything but JSON.
    return attributes if "specversion" in attributes else {**attributes, "datacontenttype": _JSON}


def _data_members(record: models.EventRecord, kind: Any) -> dict[str, Any]:
    if kind == "none" and record.payload == {}:
        return {}
    if kind == "base64" and _is_wrapped(record.payload):
        return dict(record.payload)
    return {"data": msgspec.Raw(record.payload_raw)}


def _is_wrapped(payload: Any) -> bool:
    """Is it an object that holds bytes, and nothing else? A context that says so may be anybody's."""
    if not isinstance(payload, dict) or list(payload) != ["data_base64"]:
        return False
    return isinstance(payload["data_base64"], str) and _is_base64(payload["data_base64"])
