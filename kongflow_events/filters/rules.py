"""A dispatcher's two filters, and an event as they see it: decoded at the first one that looks."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from kongflow_events.filters.parsing import EventFilter


class Rule(NamedTuple):
    """A dispatcher's filters, compiled; None asks nothing. `broken` ones never match."""

    payload: EventFilter | None
    context: EventFilter | None
    broken: bool = False


class View(NamedTuple):
    """What filters see of an event; one that is not `readable` passes no filter."""

    readable: bool
    payload: Any
    context: Any


class Subject:
    """An event to be matched: its payload as the sender wrote it, its context as JSON text or None."""

    def __init__(self, payload_raw: str, payload_type: str, context: str | None) -> None:
        self._payload_raw = payload_raw
        self._payload_type = payload_type
        self._context = context

    def passes(self, rule: Rule) -> bool:
        """Whether both of the rule's filters hold."""
        if rule.broken:
            return False
        if rule.payload is None and rule.context is None:
            return True
        readable, payload, context = self.view
        return readable and _holds(rule.payload, payload) and _holds(rule.context, context)

    @cached_property
    def view(self) -> View:
        """The event, decoded."""
        context = msgspec.json.decode(self._context) if self._context is not None else None
        payload = msgspec.json.decode(self._payload_raw)
        if self._payload_type == "REQUEST":
            return View(*request_view(payload), context)
        return View(True, payload, context)


def _holds(asked: EventFilter | None, value: Any) -> bool:
    return asked is None or asked.matches(value)


def request_view(payload: Any) -> tuple[bool, Any]:
    """What filters see of a REQUEST event: whether it is one at all, and its payload with a JSON body parsed.

    A request is `{url, method, headers: {string: string}, rawBody}`; anything else matches nothing. With a JSON content
    type the filter sees `body` in place of `rawBody`, and a body that is no JSON matches nothing; without, it sees the
    request as it is.
    """
    try:
        request = msgspec.convert(payload, _Request)
        if "application/json" not in request.headers.get("content-type", ""):
            return True, {**_seen(request), "rawBody": request.rawBody}
        return True, {**_seen(request), "body": msgspec.json.decode(request.rawBody)}
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return False, None


class _Request(msgspec.Struct):
    url: str
    method: str
    headers: dict[str, str]
    rawBody: str  # noqa: N815 - the wire's name


def _seen(request: _Request) -> dict[str, Any]:
    return {"url": request.url, "method": request.method, "headers": request.headers}
