"""What every resource does first: whose request is this, and what does its body say; in that order."""

from __future__ import annotations

from typing import Any, Final

import falcon

from kongflow_events import errors, limits, schemas, words
from kongflow_events.services import keys

JSON: Final = "application/json; charset=utf-8"


class Door:
    """Lets in whoever has a key of the right kind within its limit, before anything of the body is read."""

    def __init__(
        self, limit: limits.Limit, *, public_allowed: bool = False, refusal: str = "Invalid or Missing API key"
    ) -> None:
        self._limit = limit
        self.public_allowed = public_allowed
        self._refusal = refusal

    def enter(self, request: falcon.Request) -> words.Environment:
        """The environment of the request's key.

        Raises Unauthorized in the words of the route, and TooManyRequests when the key's limit is used up.
        """
        try:
            verified = keys.identify(request.get_header("Authorization"), public_allowed=self.public_allowed)
        except errors.Unauthorized:
            raise errors.Unauthorized(self._refusal) from None
        request.context.allowance = limits.take(self._limit, verified.key_id)
        return verified.environment


def body_of(request: falcon.Request, most: int) -> bytes:
    """The request's body, of at most `most` bytes; raises TooLarge naming the limit.

    A server that ends the stream where the body ends says so, and is then trusted with bodies of no stated length too;
    of any other server's stream only the stated length is read.
    """
    if (request.content_length or 0) > most:
        raise _too_large(most)
    stream = request.stream if request.env.get("wsgi.input_terminated") else request.bounded_stream
    parts: list[bytes] = []
    size = 0
    while size <= most:
        part = stream.read(most + 1 - size)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
    raise _too_large(most)


def query_of(request: falcon.Request) -> dict[str, str]:
    """The parameters of the request's query string; of a repeated one the last value counts."""
    return {name: value[-1] if isinstance(value, list) else value for name, value in request.params.items()}


def answer(response: falcon.Response, body: Any) -> None:
    """Send `body` as JSON, with 200."""
    response.data = schemas.encode(body)
    response.content_type = JSON


def _too_large(most: int) -> errors.TooLarge:
    return errors.TooLarge(f"The body is larger than {most} bytes")
