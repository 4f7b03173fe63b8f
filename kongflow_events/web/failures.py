"""Errors, translated once: every 4xx carries `error`, a 5xx never its cause."""

from __future__ import annotations

from typing import Any, Final

import falcon
import msgspec
import structlog

from kongflow_events import errors, schemas
from kongflow_events.store import db
from kongflow_events.web.requests import JSON, body_of

log = structlog.get_logger(__name__)

# Seconds after which a client that met an absent database should come again.
_RETRY_AFTER: Final = "1"
# Bytes of a refused body that are waited for: a bulk's, unless a setting allows more.
_SKIPPED: Final = 8_388_608
# RFC 9457; upstream's form for this one refusal.
_PROBLEM: Final = "application/problem+json"


def handle_all(app: falcon.App[Any, Any]) -> None:
    """Teach `app` what each kind of error means over HTTP."""
    # Falcon asks the most specific class first.
    app.add_error_handler(Exception, _unforeseen)
    for away in (*db.AWAY, errors.Retryable):
        app.add_error_handler(away, _away)
    app.add_error_handler(errors.Refused, _refused)
    app.add_error_handler(errors.TooManyRequests, _too_many)


def serialize(_: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """Falcon's own refusals (404, 405 …) in our words."""
    # Falcon titles are "404 Not Found".
    words = str(error.title or error.status)
    response.data = schemas.encode(schemas.Refusal(words.partition(" ")[2] if words[:3].isdigit() else words))
    response.content_type = JSON


def _refused(_request: falcon.Request, response: falcon.Response, error: errors.Refused, _: dict[str, Any]) -> None:
    if isinstance(error, errors.TooLarge):
        # What was not read of the body would be taken for the next request.
        response.set_header("Connection", "close")
    _send(response, error.status, schemas.refusal(error))


def _too_many(
    request: falcon.Request, response: falcon.Response, error: errors.TooManyRequests, _: dict[str, Any]
) -> None:
    try:
        # Thrown away: whoever cannot finish sending does not read the answer, and the SDK would try again.
        body_of(request, _SKIPPED)
    except errors.TooLarge:
        response.set_header("Connection", "close")
    request.context.allowance = error.left
    response.set_header("Retry-After", str(error.retry_after))
    _send(response, error.status, schemas.too_many(error))
    response.content_type = _PROBLEM


def _away(request: falcon.Request, response: falcon.Response, error: Exception, _: dict[str, Any]) -> None:
    log.warning("cannot serve now", path=request.path, reason=str(error).strip())
    response.set_header("Retry-After", _RETRY_AFTER)
    _send(response, 503, schemas.Refusal("The service cannot answer now; try again, an event with the same id"))


def _unforeseen(request: falcon.Request, response: falcon.Response, error: Exception, _: dict[str, Any]) -> None:
    if isinstance(error, (falcon.HTTPError, falcon.HTTPStatus)):
        raise error
    log.error("unforeseen", path=request.path, exc_info=error)
    _send(response, 500, schemas.Unforeseen("Internal Server Error", request.context.id))


def _send(response: falcon.Response, status: int, body: msgspec.Struct) -> None:
    response.status = status
    response.data = schemas.encode(body)
    response.content_type = JSON
