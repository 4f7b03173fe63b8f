"""The API as an OpenAPI 3.1 document, from the list of routes and the types that validate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib import metadata
from typing import Any, Final

from kongflow_events import schemas
from kongflow_events.schemas import examples
from kongflow_events.schemas.formats import Format
from kongflow_events.schemas.shapes import Schema, schemas_of
from kongflow_events.web.operations import JSON, Described, Route, described, fields_of, path_of
from kongflow_events.web.shared import ABOUT, FAILURES, HEADERS, KEYS, LIMITS, PATHS, TOPICS, Failure

_REQUEST_ID: Final = "X-Request-Id"
# Where an answer holds what a path asks for: whoever made something can go on with it.
_LEADS: Final[dict[Any, dict[str, str]]] = {
    schemas.EventLog: {"eventId": "id"},
    schemas.SentAnswer: {"eventId": "id"},
    schemas.Dispatcher: {"dispatcherId": "id"},
    schemas.DispatcherId: {"dispatcherId": "id"},
    schemas.Job: {"job": "id"},
    schemas.DynamicTrigger: {"slug": "id"},
}


def document(table: Sequence[Route]) -> dict[str, Any]:
    """The document of the routes in `table`; raises TypeError for a responder that is not described."""
    found = described(table)
    shapes, components = schemas_of(_types(found))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "KongFlow Events",
            "version": metadata.version("kongflow-events"),
            "summary": metadata.metadata("kongflow-events")["Summary"],
            "description": ABOUT,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TOPICS.values()],
        "paths": _paths(table, found, shapes, components),
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name not in _queries(found)},
            "responses": {each.name: _failure(each, shapes) for each in FAILURES.values()},
            "headers": HEADERS,
            "securitySchemes": KEYS,
        },
    }


def _types(found: Iterable[Described]) -> list[Any]:
    operations = [one.operation for one in found]
    wanted = [each for one in operations for each in (one.body, one.answer, one.query, *one.others.values())]
    return [each for each in [*wanted, *(failure.body for failure in FAILURES.values())] if each is not None]


def _queries(found: Iterable[Described]) -> set[str]:
    """The names of types that are no bodies but lists of parameters."""
    return {one.operation.query.__name__ for one in found if one.operation.query}


def _paths(
    table: Sequence[Route],
    found: Sequence[Described],
    shapes: Mapping[Any, Schema],
    components: Mapping[str, Schema],
) -> dict[str, Any]:
    paths: dict[str, Any] = {path_of(path): {} for path, _ in table}
    for one in found:
        paths[one.path][one.method.lower()] = _operation(one, found, shapes, components)
    for path, resource in table:
        if getattr(resource, "cors", False):
            paths[path_of(path)]["options"] = _preflight(path_of(path))
    return paths


def _operation(
    one: Described, found: Sequence[Described], shapes: Mapping[Any, Schema], components: Mapping[str, Schema]
) -> dict[str, Any]:
    parameters = [*map(_path_parameter, fields_of(one.path)), *_query_parameters(one, components)]
    body = one.operation.body
    return {
        "operationId": _name(one),
        "tags": [TOPICS[one.topic][0]],
        "summary": one.summary.rstrip("."),
        **({"description": one.text} if one.text else {}),
        "security": _security(one),
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": _body(shapes[body], examples.BODIES[body], one.operation.accepts)} if body else {}),
        "responses": _responses(one, found, shapes),
    }


def _name(one: Described) -> str:
    """What a client would call it: HEAD beside GET and the second version beside the first have names of their own."""
    name = f"{one.operation.name}{'V2' if '/v2/' in one.path else ''}"
    return f"head{name[0].upper()}{name[1:]}" if one.method == "HEAD" else name


def _security(one: Described) -> list[dict[str, list[str]]]:
    if one.door is None:
        return []
    allowed = ["privateKey", "publicKey"] if one.door.public_allowed else ["privateKey"]
    return [{key: []} for key in allowed]


def _path_parameter(name: str, *, formed: bool = True) -> dict[str, Any]:
    what = PATHS[name]
    form = {"format": what.format} if what.format and formed else {"minLength": 1}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": what.text,
        "schema": {"type": "string", **form},
        "example": what.example,
    }


def _query_parameters(one: Described, components: Mapping[str, Schema]) -> list[dict[str, Any]]:
    """One for each field of the query's type; null there is only how a struct says that one was not given."""
    if one.operation.query is None:
        return []
    fields = components[one.operation.query.__name__]["properties"]
    return [_query_parameter(name, dict(schema)) for name, schema in fields.items()]


def _query_parameter(name: str, schema: Schema) -> dict[str, Any]:
    text = schema.pop("description")
    if "anyOf" in schema:
        [schema] = (choice for choice in schema["anyOf"] if choice != {"type": "null"})
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _body(schema: Schema, example: Any, others: Mapping[str, Format]) -> dict[str, Any]:
    return {"required": True, "content": _content({JSON: Format(schema, example), **others})}


def _content(formats: Mapping[str, Format]) -> dict[str, Any]:
    return {media: {"schema": one.schema, "example": one.example} for media, one in formats.items()}


def _responses(one: Described, found: Sequence[Described], shapes: Mapping[Any, Schema]) -> dict[str, Any]:
    answers = {200: one.operation.answer, **one.operation.others}
    made = {str(status): _answer(status, one, shapes[kind]) for status, kind in answers.items()}
    links = _links(one, found)
    if links:
        made["200"]["links"] = links
    for status in _failures(one) - set(answers):
        made[str(status)] = _bare(FAILURES[status]) if one.method == "HEAD" else _shared(FAILURES[status])
    return dict(sorted(made.items()))


def _failures(one: Described) -> set[int]:
    """The statuses with which it can fail, as far as they follow from what it is."""
    statuses = {500, *one.operation.refusals}
    if one.door is not None:
        statuses |= {401, 429, 503}
    if one.operation.body is not None:
        statuses |= {400, 413, one.operation.breach}
    if one.operation.query is not None:
        statuses |= {422}
    return statuses | {404} if fields_of(one.path) else statuses


def _answer(status: int, one: Described, schema: Schema) -> dict[str, Any]:
    kind, media = (one.operation.others.get(status) or one.operation.answer), one.operation.media
    tagged = ["ETag"] if 304 in one.operation.refusals else []  # noqa: PLR2004 - HTTP's own number
    limits = LIMITS if one.door is not None else ()
    headers = _headers(*tagged, *limits, *one.operation.headers)
    made = {"description": HTTPStatus(status).phrase, "headers": headers}
    if one.method == "HEAD":
        return made
    others = one.operation.offers if status == HTTPStatus.OK else {}
    return {**made, "content": _content({media: Format(schema, examples.ANSWERS[kind]), **others})}


def _shared(failure: Failure) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{failure.name}"}


def _bare(failure: Failure) -> dict[str, Any]:
    return {"description": failure.text, "headers": _headers(*failure.headers)}


def _failure(failure: Failure, shapes: Mapping[Any, Schema]) -> dict[str, Any]:
    if failure.body is None:
        return _bare(failure)
    content = {"schema": shapes[failure.body], "example": failure.example}
    return {**_bare(failure), "content": {failure.media: content}}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (_REQUEST_ID, *names)}


def _links(one: Described, found: Sequence[Described]) -> dict[str, Any]:
    """What can be asked next, with what this answer says."""
    leads = _LEADS.get(one.operation.answer, {}) if one.method in ("POST", "PUT") else {}
    return {
        _name(next_): {
            "operationId": _name(next_),
            "parameters": {name: f"$response.body#/{leads[name]}" for name in fields_of(next_.path)},
        }
        for next_ in found
        if next_.method != "HEAD" and fields_of(next_.path) and set(fields_of(next_.path)) <= set(leads)
    }


def _preflight(path: str) -> dict[str, Any]:
    """What a browser asks for a page of another origin, before it asks what the page wants."""
    words = "".join(part.strip("{}").replace("-", " ").title().replace(" ", "") for part in path.split("/"))
    # Whether a page may ask does not depend on what is there: no id is too odd.
    parameters = [_path_parameter(name, formed=False) for name in fields_of(path)]
    content = {JSON: {"schema": {"type": "object", "maxProperties": 0}, "example": {}}}
    return {
        "operationId": f"options{words}",
        "tags": [TOPICS["cors"][0]],
        "summary": "Ask whether a page of another origin may come",
        "security": [],
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "headers": _headers(), "content": content},
            **{str(status): _shared(FAILURES[status]) for status in (404, 500)},
        },
    }
