"""What concerns every request: its id, whose pages may read the answer, what limits leave, which paths lead nowhere."""

from __future__ import annotations

import re
import secrets
from typing import Any, Final

import falcon
import structlog

from kongflow_events import errors

# What a caller may name its request; anything else gets a name of ours.
_GOOD_ID: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_CORS_SECONDS: Final = "300"


class RequestId:
    """Every request has an id, the caller's if it is a plain one, and the answer names it."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Find or make it."""
        given = request.get_header("X-Request-Id")
        request.context.id = given if given and _GOOD_ID.fullmatch(given) else secrets.token_hex(16)
        response.set_header("X-Request-Id", request.context.id)
        # In place of that of the request which the thread has served before.
        structlog.contextvars.bind_contextvars(request_id=request.context.id)


class Cors:
    """Any page may read the routes that take a public key, and only those (upstream's answers, header for header)."""

    def process_resource(
        self, request: falcon.Request, response: falcon.Response, resource: Any, _params: dict[str, Any]
    ) -> None:
        """Answer OPTIONS before any key is asked for; name the origin in every other answer."""
        if not getattr(resource, "cors", False):
            return
        origin = request.get_header("Origin")
        if origin is not None:
            response.set_header("Access-Control-Allow-Origin", origin)
            response.append_header("Vary", "Origin")
        if request.method == "OPTIONS":
            self._answer_preflight(request, response)

    def _answer_preflight(self, request: falcon.Request, response: falcon.Response) -> None:
        if request.get_header("Origin") is not None:
            self._allow_everything(request, response)
        response.data = b"{}"
        response.content_type = "application/json; charset=utf-8"
        response.complete = True

    def _allow_everything(self, request: falcon.Request, response: falcon.Response) -> None:
        response.set_header("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")
        asked = request.get_header("Access-Control-Request-Headers")
        if asked is not None:
            response.set_header("Access-Control-Allow-Headers", asked)
        response.set_header("Access-Control-Max-Age", _CORS_SECONDS)
        response.append_header("Vary", "Access-Control-Request-Headers")


class Limits:
    """Every answer that a rate limit was asked about says what the limit leaves (upstream's headers)."""

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Say it: of the key's bucket, or of the organization's when that one refused."""
        left = getattr(request.context, "allowance", None)
        if left is None:
            return
        response.set_header("x-ratelimit-limit", str(left.limit))
        response.set_header("x-ratelimit-remaining", str(left.remaining))
        response.set_header("x-ratelimit-reset", str(left.reset))


class Nowhere:
    """A path with NUL in it leads nowhere: no id can have it, and PostgreSQL would refuse to look for one."""

    def process_resource(
        self, request: falcon.Request, _response: falcon.Response, _resource: Any, _params: dict[str, Any]
    ) -> None:
        """Raises NotFound, after the answer's CORS headers are set: a page must be able to read it."""
        if "\0" in request.path:
            raise errors.NotFound("Not Found")
