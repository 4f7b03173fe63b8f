"""The document of the API as a page for people: plain HTML with no script, everything in it escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import jinja2
from markupsafe import Markup, escape

from kongflow_events.web.fields import Field, fields, lookup, type_of

# HEAD and OPTIONS are told of once: they are the same everywhere.
_SHOWN: Final = ("post", "get", "put", "patch", "delete")
# Shapes that tables of fields name without going into them.
APART: Final = ("Instant", "Cursor", "EventFilter", "Operator")
_TOKEN: Final = re.compile(
    r'("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(?<![\w/.-])(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)'
)
_CODE: Final = re.compile(r"`([^`]+)`")


class Answer(NamedTuple):
    """An answer of one operation: fields and example of a success, a reference to what failures share."""

    status: str
    text: str
    fields: list[Field]
    example: Markup | None
    shared: str | None


class Entry(NamedTuple):
    """One operation as it is shown."""

    id: str
    method: str
    path: Markup
    summary: str
    text: str
    keys: list[str]
    parameters: list[tuple[str, list[Field]]]
    body: list[Field]
    curl: Markup
    answers: list[Answer]


class Topic(NamedTuple):
    """Operations that belong together."""

    id: str
    name: str
    text: str
    entries: list[Entry]


class Shape(NamedTuple):
    """A schema with a place of its own."""

    name: str
    text: str
    type: str
    fields: list[Field]
    examples: list[Markup]


class Shared(NamedTuple):
    """A failure that many operations share."""

    id: str
    status: str
    text: str
    example: Markup | None


def render(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document, as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    return environment.get_template("docs.html").render(
        info=document["info"],
        about=document["info"]["description"].split("\n\n"),
        keys=document["components"]["securitySchemes"],
        topics=list(_topics(document)),
        shapes=[_shape(document, name) for name in APART],
        failures=list(_failures(document)),
    )


def prose(text: str) -> Markup:
    """A text with its `code` marked."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped first


def highlighted(text: str) -> Markup:
    """JSON, or a command with JSON in it, its words marked by what they are."""
    parts: list[str] = []
    end = 0
    for found in _TOKEN.finditer(text):
        parts += [str(escape(text[end : found.start()])), _marked(found)]
        end = found.end()
    return Markup("".join([*parts, str(escape(text[end:]))]))  # noqa: S704 - each part is escaped


def _marked(found: re.Match[str]) -> str:
    string, colon, literal, _ = found.groups()
    kind = ("key" if colon else "text") if string else "word" if literal else "number"
    return f'<span class="{kind}">{escape(string or found[0])}</span>{colon or ""}'


def _topics(document: Mapping[str, Any]) -> Iterator[Topic]:
    for tag in document["tags"]:
        entries = [
            _entry(document, method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if method in _SHOWN and operation["tags"] == [tag["name"]]
        ]
        if entries:
            yield Topic(tag["name"].lower().replace(" ", "-"), tag["name"], tag["description"], entries)


def _entry(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> Entry:
    return Entry(
        id=operation["operationId"],
        method=method.upper(),
        path=_path(path),
        summary=operation["summary"],
        text=operation.get("description", ""),
        keys=[name for each in operation["security"] for name in each],
        parameters=list(_parameters(document, operation)),
        body=_fields(document, operation["requestBody"]) if "requestBody" in operation else [],
        curl=highlighted(_curl(method, path, operation)),
        answers=[_answer(document, status, answer) for status, answer in operation["responses"].items()],
    )


def _path(path: str) -> Markup:
    """A path that may be broken behind its slashes, its parameters marked."""
    text = re.sub(r"\{(\w+)\}", r"<var>{\1}</var>", str(escape(path)))
    return Markup(text.replace("/", "/<wbr>").replace("</<wbr>", "</"))  # noqa: S704 - escaped first


def _parameters(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[tuple[str, list[Field]]]:
    for place, title in (("path", "In the path"), ("query", "In the query string")):
        found = [each for each in operation.get("parameters", ()) if each["in"] == place]
        if found:
            yield title, [_parameter(document, each) for each in found]


def _parameter(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> Field:
    schema = parameter["schema"]
    return Field(
        parameter["name"],
        0,
        type_of(document, schema, APART),
        parameter.get("required", False),
        parameter["description"],
        json.dumps(schema["default"]) if "default" in schema else None,
    )


def _fields(document: Mapping[str, Any], holder: Mapping[str, Any]) -> list[Field]:
    return list(fields(document, _first(holder)["schema"], APART))


def _first(holder: Mapping[str, Any]) -> Any:
    """The media type that a body or an answer is about; others are forms of the same."""
    return next(iter(holder["content"].values()))


def _answer(document: Mapping[str, Any], status: str, answer: Mapping[str, Any]) -> Answer:
    if "$ref" in answer:
        name = answer["$ref"].rpartition("/")[2]
        return Answer(status, lookup(document, answer["$ref"])["description"], [], None, name)
    return Answer(status, answer["description"], _fields(document, answer), _example(answer), None)


def _example(answer: Mapping[str, Any]) -> Markup | None:
    if "content" not in answer:
        return None
    example = _first(answer)["example"]
    return escape(example) if isinstance(example, str) else highlighted(_pretty(example))


def _curl(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """A command that a reader can try: with a key where one is needed, and the example's own ids and body."""
    for parameter in operation.get("parameters", ()):
        path = path.replace(f"{{{parameter['name']}}}", parameter.get("example", ""))
    lines = [f"curl {_flag(method, operation)}$KONGFLOW_URL{path}"]
    if operation["security"]:
        lines.append('-H "Authorization: Bearer $KONGFLOW_KEY"')
    if "requestBody" in operation:
        lines.append("-d '" + _pretty(_first(operation["requestBody"])["example"]).replace("'", "'\\''") + "'")
    return " \\\n  ".join(lines)


def _flag(method: str, operation: Mapping[str, Any]) -> str:
    """What curl does not guess: it posts what has a body, and gets everything else."""
    return "" if method == ("post" if "requestBody" in operation else "get") else f"-X {method.upper()} "


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _shape(document: Mapping[str, Any], name: str) -> Shape:
    schema = document["components"]["schemas"][name]
    return Shape(
        name,
        schema["description"],
        type_of(document, schema, APART),
        list(fields(document, schema, APART)),
        [highlighted(_pretty(example)) for example in schema["examples"]],
    )


def _failures(document: Mapping[str, Any]) -> Iterator[Shared]:
    """The shared failures with the statuses under which operations name them."""
    statuses = {
        answer["$ref"].rpartition("/")[2]: status
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        if "$ref" in answer
    }
    for name, answer in document["components"]["responses"].items():
        yield Shared(name, statuses.get(name, "405"), answer["description"], _example(answer))
