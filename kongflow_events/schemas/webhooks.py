"""What a webhook may ask for, beyond what its types say: headers that can be sent, and fields that are its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import UNSET, UnsetType

from kongflow_events import errors, masking, paths, signing
from kongflow_events.schemas.requests import DispatchableBody, WebhookChange
from kongflow_events.schemas.typed import Whole

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
        *_timeout_issues(body.timeout_in_seconds, paths.join(path, "timeoutInSeconds"), most_seconds),
        *_secret_issues(body, paths.join(path, "secret")),
    ]


def webhook_change_issues(change: WebhookChange, path: str, most_seconds: float) -> list[errors.Issue]:
    """What is wrong with a change that is given at `path`, whatever the webhook was before."""
    return [
        *header_issues(_given_headers(change), paths.join(path, "headers")),
        *_timeout_issues(change.timeout_in_seconds, paths.join(path, "timeoutInSeconds"), most_seconds),
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


def changed_webhook(stored: Mapping[str, Any], change: WebhookChange, path: str) -> dict[str, Any]:
    """A webhook as it is stored once it is changed; raises Invalid when it would have too many headers.

    The change is given at `path`.
    """
    fields = zip(change.__struct_fields__, change.__struct_encode_fields__, strict=True)
    given = {name: getattr(change, field) for field, name in fields if field != "headers"}
    headers = _changed_headers(stored.get("headers", {}), change)
    if issues := _together_issues(headers, paths.join(path, "headers")):
        raise errors.Invalid(*issues)
    changed = {
        **stored,
        **{name: _plain(value) for name, value in given.items() if value is not UNSET},
        "headers": headers,
    }
    return {name: value for name, value in changed.items() if value is not None and value != {}}


def _changed_headers(stored: Mapping[str, str], change: WebhookChange) -> dict[str, str]:
    if change.headers is None:
        return {}
    replaced = {name.lower() for name in change.headers or ()}
    kept = {name: value for name, value in stored.items() if name.lower() not in replaced}
    return {**kept, **_given_headers(change)}


def _given_headers(change: WebhookChange) -> dict[str, str]:
    return {name: value for name, value in (change.headers or {}).items() if value is not None}


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, Whole) else value


def header_issues(headers: Mapping[str, str], path: str) -> list[errors.Issue]:
    """What is wrong with headers that are given at `path`."""
    return _together_issues(headers, path) or list(_each_header(headers, path))


def _together_issues(headers: Mapping[str, str], path: str) -> list[errors.Issue]:
    if len(headers) > _MOST_HEADERS:
        return [errors.Issue("too_big", path, f"At most {_MOST_HEADERS} headers can be sent")]
    if sum(len(name) + len(value) for name, value in headers.items()) > _LONGEST_TOGETHER:
        return [errors.Issue("too_big", path, f"Headers must not be longer than {_LONGEST_TOGETHER} together")]
    return []


def _each_header(headers: Mapping[str, str], path: str) -> Iterator[errors.Issue]:
    seen: set[str] = set()
    for name, value in headers.items():
        at = paths.join(path, name[:_LONGEST_NAME])
        if mistake := _name_mistake(name, seen):
            yield errors.Issue("invalid_string", at, mistake)
        if len(value) > _LONGEST_VALUE:
            yield errors.Issue("too_big", at, f"A value must not be longer than {_LONGEST_VALUE}")
        elif value == masking.HIDDEN:
            yield errors.Issue(
                "custom", at, f"{masking.HIDDEN} stands for a value that is not shown; give the value itself"
            )
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


def _timeout_issues(seconds: int | UnsetType | None, path: str, most_seconds: float) -> Iterator[errors.Issue]:
    if isinstance(seconds, int) and seconds > most_seconds:
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
