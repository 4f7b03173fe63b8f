"""The API from a shell: where the service is, with which key, and what its refusals mean for an exit code."""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from typing import Any, Final
from urllib.parse import quote, urlencode

import click
import urllib3

from kongflow_events import errors
from kongflow_events.cli import output
from kongflow_events.cli.variables import variable

_DEFAULT_URL: Final = "http://127.0.0.1:8030"
_SECONDS: Final = 30
# Seconds that long work waits for a service that is away or full, and its pauses.
_PATIENCE: Final = 300.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0


class JsonText(str):
    """JSON as it was given, which a body holds as it is: decoded and written anew, `1.10` would be `1.1`."""

    __slots__ = ()


class NoAnswer(Exception):
    """The service could not be reached, or did not answer in time; the message says where and why."""


def call(method: str, path: str, body: Any = None, **query: Any) -> Any:
    """The JSON answer of one request; ends the command when the service refuses or cannot be reached."""
    try:
        text = None if body is None else _written(body).encode(errors="surrogateescape")
        response = exchange(method, path, text, **query)
    except NoAnswer as error:
        output.fail(str(error), output.UNREACHABLE)
    return read(response)


def exchange(method: str, path: str, body: bytes | None = None, **query: Any) -> urllib3.BaseHTTPResponse:
    """One request and its answer, whatever it is; raises NoAnswer, and ends the command when there is no key."""
    key = variable("KONGFLOW_KEY")
    if not key:
        output.fail("no key: set KONGFLOW_KEY, or start where `kongflow-events dev` was started", output.USAGE)
    asked = {name: value for name, value in query.items() if value is not None}
    try:
        return _pool().request(
            method,
            f"{where()}{path}" + (f"?{urlencode(asked)}" if asked else ""),
            body=body,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
    except urllib3.exceptions.HTTPError as error:
        raise NoAnswer(f"no answer from {where()}: {error}") from error


def insist(method: str, path: str, body: bytes | None = None, **query: Any) -> urllib3.BaseHTTPResponse:
    """As `exchange`, but again while the service is away, busy or full: for as long as Retry-After or a growing pause says.

    Ends the command when five minutes bring no other answer.
    """
    until = time.monotonic() + _PATIENCE
    pause = _FIRST_PAUSE
    while True:
        try:
            answer = exchange(method, path, body, **query)
        except NoAnswer as error:
            wait, reason = pause, str(error)
        else:
            if answer.status != 429 and answer.status < 500:  # noqa: PLR2004 - what may pass by itself
                return answer
            wait, reason = _asked_pause(answer, pause), f"{where()} answered {answer.status}"
        if time.monotonic() + wait > until:
            output.fail(reason, output.UNREACHABLE)
        time.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _asked_pause(answer: urllib3.BaseHTTPResponse, otherwise: float) -> float:
    asked = answer.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else otherwise


def where() -> str:
    """The URL of the service."""
    return (variable("KONGFLOW_URL") or _DEFAULT_URL).rstrip("/")


@cache
def _pool() -> urllib3.PoolManager:
    """The command's connections: a request after another goes over the same one."""
    return urllib3.PoolManager(timeout=_SECONDS, retries=False)


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


def read(response: urllib3.BaseHTTPResponse) -> Any:
    """The JSON of an answer; ends the command when it is no success."""
    try:
        answer = json.loads(response.data)
    except ValueError:
        output.fail(f"{where()} answered {response.status} and no JSON; is it KongFlow Events?", output.UNREACHABLE)
    if response.status != 200:  # noqa: PLR2004 - the API's only success
        output.fail(f"{_refused(answer)} ({response.status})", _code(response.status))
    return answer


def _refused(answer: dict[str, Any]) -> str:
    """Why, for people: the mistakes one by one, where there are several."""
    issues = [errors.Issue(**one) for one in answer.get("issues") or ()]
    return output.mistakes(issues) or str(answer.get("error", answer))


def _code(status: int) -> int:
    return output.NOTHING if status == 404 else output.UNREACHABLE if status >= 500 else output.FAILED  # noqa: PLR2004
