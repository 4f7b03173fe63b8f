"""What a webhook may ask for, beyond what its types say: headers that can be sent, and fields that are its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import UNSET

from kongflow_events import errors, paths, signing
from kongflow_events.schemas.requests import DispatchableBody

_MOST_HEADERS: Final = 20
# Characters of one header's name, of its value, and of all together: less than any server refuses.
_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_TOGETHER = 128, 2048, 8192
# RFC 9110 §5.1 and §5.5, without what is not ASCII: nobody says how a receiver reads it.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"([!-~]([\t -~]*[!-~])?)?")
# What frames the request or belongs to one connection (RFC 9110 §7.6.1), and what says what the body is.
_RESERVED: Final = frozenset(
    {
        "host",
        "content-type",
        "content-length",
        "content-encoding",
        "accept-encoding",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
    }
)
_RESERVED_PREFIXES: Final = ("webhook-", "proxy-")
_FIELDS: Final = (
    "headers",
    "timeout_in_seconds",
    "rate_limit",
    "max_concurrency",
    "format",
    "signing",
    "secret",
)


def webhook_issues(body: DispatchableBody, path: str, most_seconds: float) -> list[errors.Issue]:
    """What is wrong with a webhook that is given at `path`; its calls may take `most_seconds` at the most."""
    return [
        *([] if body.headers is UNSET else header_issues(body.headers, paths.join(path, "headers"))),
        *_timeout_issues(body, paths.join(path, "timeoutInSeconds"), most_seconds),
        *_secret_issues(body, paths.join(path, "secret")),
    ]


def foreign_fields(body: DispatchableBody, path: str) -> list[errors.Issue]:
    """What only a webhook has, given with another type: a wish that nobody would hear."""
    names = dict(zip(body.__struct_fields__, body.__struct_encode_fields__, strict=True))
    return [
        errors.Issue("unrecognized_keys", paths.join(path, names[field]), "Only a WEBHOOK has this")
        for field in _FIELDS
        if getattr(body, field) is not UNSET
    ]


def webhook_settings(body: DispatchableBody) -> dict[str, Any]:
    """A webhook as it is stored with its dispatcher: what was given, and its format."""
    numbers = (
        ("timeoutInSeconds", body.timeout_in_seconds),
        ("rateLimit", body.rate_limit),
        ("maxConcurrency", body.max_concurrency),
    )
    return {
        "type": body.type,
        "url": body.url,
        "format": "event" if body.format is UNSET else body.format,
        **({"headers": body.headers} if body.headers else {}),
        **{name: int(number) for name, number in numbers if number is not UNSET},
    }


def header_issues(headers: Mapping[str, str], path: str) -> list[errors.Issue]:
    """What is wrong with headers that are given at `path`."""
    if len(headers) > _MOST_HEADERS:
        return [errors.Issue("too_big", path, f"At most {_MOST_HEADERS} headers can be sent")]
    if sum(len(name) + len(value) for name, value in headers.items()) > _LONGEST_TOGETHER:
        return [errors.Issue("too_big", path, f"Headers must not be longer than {_LONGEST_TOGETHER} together")]
    return list(_each_header(headers, path))


def _each_header(headers: Mapping[str, str], path: str) -> Iterator[errors.Issue]:
    seen: set[str] = set()
    for name, value in headers.items():
        at = paths.join(path, name[:_LONGEST_NAME])
        if mistake := _name_mistake(name, seen):
            yield errors.Issue("invalid_string", at, mistake)
        if len(value) > _LONGEST_VALUE:
            yield errors.Issue("too_big", at, f"A value must not be longer than {_LONGEST_VALUE}")
        elif not _VALUE.fullmatch(value):
            yield errors.Issue("invalid_string", at, "A value must be printable ASCII, without white space around it")
        seen.add(name.lower())


def _name_mistake(name: str, seen: set[str]) -> str | None:
    lower = name.lower()
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        return "No name of a header"
    if lower in _RESERVED or lower.startswith(_RESERVED_PREFIXES):
        return "The service sets this header itself"
    return "The same header stands here twice" if lower in seen else None


def _timeout_issues(body: DispatchableBody, path: str, most_seconds: float) -> Iterator[errors.Issue]:
    if body.timeout_in_seconds is not UNSET and body.timeout_in_seconds > most_seconds:
        yield errors.Issue("too_big", path, f"Number must be less than or equal to {most_seconds:g}")


def _secret_issues(body: DispatchableBody, path: str) -> Iterator[errors.Issue]:
    if body.secret is UNSET:
        return
    if body.signing not in (UNSET, "hmac"):
        yield errors.Issue("custom", path, "Only a secret of kind hmac can be given")
        return
    try:
        signing.shared_secret(body.secret)
    except ValueError as error:
        yield errors.Issue("invalid_string", path, f"The secret {error}")
