"""What the document of the API says about an answer: every answer that a test gets is held against it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import jsonschema

from kongflow_events import settings
from kongflow_events.web import openapi
from kongflow_events.web.app import routes


@cache
def document() -> dict[str, Any]:
    """The document of the application."""
    return openapi.document(routes(settings.load({})))


def check(method: str, path: str, answer: Any) -> None:
    """Fails when an answer's status is not in the document, or its body is not of the shape that the status has there.

    A path or method that the document does not have is left to the tests of routes.
    """
    found = _find(method, path.partition("?")[0])
    if found is None:
        return
    template, methods = found
    responses = methods[method.lower()]["responses"]
    status = str(answer.status_code)
    assert status in responses, f"{method} {template} answered {status}, which it does not say it can: {answer.text}"
    pointer = f"#/paths/{template.replace('/', '~1')}/{method.lower()}/responses/{status}"
    response = responses[status]
    if "$ref" in response:
        pointer = response["$ref"]
        response = document()["components"]["responses"][pointer.rpartition("/")[2]]
    if "content" not in response:
        assert answer.content == b""
        return
    media = answer.headers["content-type"].partition(";")[0]
    assert media in response["content"]
    if media.endswith("json"):
        _validator(f"{pointer}/content/{media.replace('/', '~1')}/schema").validate(answer.json)


def _find(method: str, path: str) -> tuple[str, Any] | None:
    """The path of the document that leads there, and its methods: of two the one with fewer parameters."""
    fits = [one for one in document()["paths"].items() if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one[0]), path)]
    best = min(fits, key=lambda one: one[0].count("{"), default=None)
    return best if best and method.lower() in best[1] else None


@cache
def _validator(pointer: str) -> Any:
    kind = jsonschema.Draft202012Validator
    return kind({**document(), "$ref": pointer}, format_checker=kind.FORMAT_CHECKER)
