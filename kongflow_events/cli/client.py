"""The API from a shell: where the service is, with which key, and what its refusals mean for an exit code."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import click
import urllib3

from kongflow_events.cli import output

_DEFAULT_URL: Final = "http://127.0.0.1:8030"
# Where `dev` leaves its variables, seen from where it was started.
_DEV_ENV: Final = Path(".kongflow/dev.env")
_SECONDS: Final = 30


class JsonText(str):
    """JSON as it was given, which a body holds as it is: decoded and written anew, `1.10` would be `1.1`."""

    __slots__ = ()


def call(method: str, path: str, body: Any = None, **query: Any) -> Any:
    """The JSON answer of one request; ends the command when the service refuses or cannot be reached."""
    url = _variable("KONGFLOW_URL") or _DEFAULT_URL
    key = _variable("KONGFLOW_KEY")
    if not key:
        output.fail("no key: set KONGFLOW_KEY, or start where `kongflow-events dev` was started", output.USAGE)
    asked = {name: value for name, value in query.items() if value is not None}
    target = f"{url.rstrip('/')}{path}" + (f"?{urlencode(asked)}" if asked else "")
    try:
        response = urllib3.PoolManager().request(
            method,
            target,
            body=None if body is None else _written(body).encode(errors="surrogateescape"),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=_SECONDS,
            retries=False,
        )
    except urllib3.exceptions.HTTPError as error:
        output.fail(f"no answer from {url}: {error}", output.UNREACHABLE)
    return _read(response, url)


def segment(text: str) -> str:
    """An id as one segment of a path."""
    return quote(text, safe="")


def known(values: dict[str, Any]) -> dict[str, Any]:
    """A body without what was not given."""
    return {name: value for name, value in values.items() if value is not None}


def json_option(text: str | None, option: str) -> JsonText | None:
    """A JSON option's text, None when it is not given; `-` reads standard input; a usage error shows where it breaks."""
    if text is None:
        return None
    if text == "-":
        text = sys.stdin.read()
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(
            f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}", param_hint=option
        ) from None
    return JsonText(text)


def _written(value: Any) -> str:
    """A body as JSON, its objects' members as they are."""
    if isinstance(value, JsonText):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_written(member)}" for name, member in value.items()) + "}"
    return json.dumps(value)


def _read(response: urllib3.BaseHTTPResponse, url: str) -> Any:
    try:
        answer = json.loads(response.data)
    except ValueError:
        output.fail(f"{url} answered {response.status} and no JSON; is it KongFlow Events?", output.UNREACHABLE)
    if response.status != 200:  # noqa: PLR2004 - the API's only success
        output.fail(f"{answer.get('error', answer)} ({response.status})", _code(response.status))
    return answer


def _code(status: int) -> int:
    return output.NOTHING if status == 404 else output.UNREACHABLE if status >= 500 else output.FAILED  # noqa: PLR2004


def _variable(name: str) -> str | None:
    if name in os.environ:
        return os.environ[name]
    if not _DEV_ENV.exists():
        return None
    pairs = (line.partition("=") for line in _DEV_ENV.read_text(encoding="utf-8").splitlines())
    return next((value for found, _, value in pairs if found == name), None)
