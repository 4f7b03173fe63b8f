"""What a responder says of itself beside its work: what it takes, what it answers, and when it refuses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from kongflow_events.schemas.formats import Format
from kongflow_events.web.requests import Door

Responder = TypeVar("Responder", bound=Callable[..., None])
# A path in Falcon's words, and who answers there.
Route = tuple[str, Any]

JSON: Final = "application/json"
# In the order in which a reader asks; OPTIONS is Falcon's to answer.
_METHODS: Final = ("POST", "GET", "HEAD", "PUT", "PATCH", "DELETE")
_FIELD: Final = re.compile(r"\{(\w+)\}")


class Operation(NamedTuple):
    """What cannot be seen from outside. `name` is what a client would call it; types are those that validate.

    `breach` is the status that says that a body breaks its schema, `refusals` are statuses beside those that every
    route of its kind has, `others` are answers with other statuses than 200. `accepts` and `offers` are other media types
    of the body and of the answer, `headers` those that only this answer has.
    """

    name: str
    answer: Any
    body: Any = None
    query: Any = None
    breach: int = 422
    refusals: tuple[int, ...] = ()
    others: Mapping[int, Any] = {}
    media: str = JSON
    accepts: Mapping[str, Format] = {}
    offers: Mapping[str, Format] = {}
    headers: tuple[str, ...] = ()


class Described(NamedTuple):
    """One method of one route: `path` in OpenAPI's words, the key's `door` (None: no key), `topic` is its module."""

    path: str
    method: str
    operation: Operation
    summary: str
    text: str
    door: Door | None
    topic: str


def operation(name: str, **what: Any) -> Callable[[Responder], Responder]:
    """A decorator that describes a responder, by the fields of Operation; its docstring says what it does."""

    def describe(responder: Responder) -> Responder:
        responder.__dict__["operation"] = Operation(name, **what)
        return responder

    return describe


def described(table: Sequence[Route]) -> list[Described]:
    """Every method of every route in order; raises TypeError for a responder that says nothing of itself."""
    return [one for path, resource in table for one in _methods(path, resource)]


def path_of(path: str) -> str:
    """A path of Falcon's as OpenAPI writes it: `{event_id}` is `{eventId}`."""
    return _FIELD.sub(lambda field: f"{{{_camel(field[1])}}}", path)


def fields_of(path: str) -> list[str]:
    """The names of the parameters in a path, whoever wrote it."""
    return [_camel(name) for name in _FIELD.findall(path)]


def _methods(path: str, resource: Any) -> Iterator[Described]:
    door = next((value for value in vars(resource).values() if isinstance(value, Door)), None)
    topic = type(resource).__module__.rpartition(".")[2]
    for method in _METHODS:
        responder = getattr(resource, f"on_{method.lower()}", None)
        if responder is None:
            continue
        if not hasattr(responder, "operation"):
            raise TypeError(f"{method} {path} does not say what it takes and answers: it needs @operation")
        summary, _, text = (inspect.getdoc(responder) or "").partition("\n\n")
        yield Described(path_of(path), method, responder.operation, summary, text, door, topic)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
