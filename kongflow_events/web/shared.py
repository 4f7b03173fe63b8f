"""What the document of the API says once for every route: the story, the topics, the keys, and how a request can fail."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from kongflow_events.schemas import examples
from kongflow_events.schemas.refusals import Breach, RateLimited, Refusal, Unforeseen

ABOUT: Final = """\
An event that got its 200 is stored, and is delivered to every dispatcher that matches it: a rule that starts a job or calls
a URL. Whatever breaks in between makes it late, never lost, and a run is started once.

Every request under `/api` carries a key, `Authorization: Bearer KEY`, and everything is scoped to the key's environment. A
private key (`tr_…`) may do everything; a public one (`pk_…`), made for pages in a browser, may only look at single events
and at runs.

Bodies and answers are JSON in UTF-8, with keys in camel case. Unknown keys of an event, of a bulk and of an ephemeral
dispatcher are dropped, as trigger.dev does; in every other body they are refused. No text may hold the NUL character, and
nothing may nest deeper than 64 levels. Dates go out in UTC with milliseconds.

Every answer names its request in `X-Request-Id`: the caller's own, if it sent one of up to 128 letters, digits and `_.:-`.

`HEAD` answers wherever `GET` does, without a body; `OPTIONS` says which methods a route has. Any other method is a 405 with
`Allow`, an unknown route a 404. Pages of any origin may read the routes that take a public key."""

# By the module that answers.
TOPICS: Final = {
    "events": ("Events", "What clients send."),
    "ledger": ("Invocations", "What must happen, or happened, for each event at each dispatcher; and dead letters."),
    "bulk": ("Redrives and replays", "Work on many dead letters or past events, in the background."),
    "dispatchers": ("Dispatchers", "Rules: these names, this source, these filters; this is what they set off."),
    "jobs": ("Jobs", "What runs: registered with what starts it, or attached to a dynamic trigger."),
    "runs": ("Runs", "Executions of a job for an event."),
    "statistics": ("Statistics", "What came in over time, and what became of it."),
    "health": ("Health", "Whether the service is there. No key is needed."),
    "metrics": ("Metrics", "What Prometheus reads."),
    "docs": ("This document", "The API about itself. No key is needed."),
    "cors": ("Preflights", "What browsers ask for pages of other origins. No key is needed."),
}

KEYS: Final = {
    "privateKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "tr_…",
        "description": "A private key: may do everything in its environment. Never to be shown in a page.",
    },
    "publicKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "pk_…",
        "description": "A public key: may look at single events and at runs, also from a page in a browser.",
    },
}

_TEXT: Final = {"type": "string"}
_WHOLE: Final = {"type": "integer"}
HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-Id": {"description": "What the log calls this request.", "required": True, "schema": _TEXT},
    "Retry-After": {"description": "After how many seconds to come again.", "required": True, "schema": _WHOLE},
    "X-RateLimit-Limit": {
        "description": "How many are let in at once: requests of the key, if it has a limit; in a 429 of an organization, "
        "events.",
        "schema": _WHOLE,
    },
    "X-RateLimit-Remaining": {"description": "How many of them are left.", "schema": _WHOLE},
    "X-RateLimit-Reset": {
        "description": "When the same is let in again, in milliseconds since 1970.",
        "schema": _WHOLE,
    },
    "Link": {"description": "Where a batch of CloudEvents goes on, if it does.", "schema": _TEXT},
    "Allow": {"description": "The methods that the route has.", "required": True, "schema": _TEXT},
    "ETag": {"description": "What `If-None-Match` asks for.", "required": True, "schema": _TEXT},
}


LIMITS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


class Path(NamedTuple):
    """A parameter in a path: what it is, and one of them."""

    text: str
    example: str
    format: str | None = None


PATHS: Final = {
    "eventId": Path("The event's id, as its sender gave it.", examples.EVENT),
    "dispatcherId": Path("The dispatcher's id.", examples.DISPATCHER, "uuid"),
    "invocationId": Path("The invocation's id.", examples.INVOCATION, "uuid"),
    "redriveId": Path("The redrive's id.", examples.REDRIVE),
    "replayId": Path("The replay's id.", examples.REPLAY),
    "job": Path("The job's id.", examples.JOB),
    "slug": Path("The trigger's id, of up to 512 characters.", examples.TRIGGER),
    "runId": Path("The run's id.", examples.RUN, "uuid"),
}


class Failure(NamedTuple):
    """An answer that many routes can give: its name, what it means, its body (None: none) and headers of its own."""

    name: str
    text: str
    body: Any
    example: Any = None
    headers: tuple[str, ...] = ()
    media: str = "application/json"


def _refused(name: str, text: str, error: str, *headers: str) -> Failure:
    return Failure(name, text, Refusal, {"error": error}, headers)


FAILURES: Final = {
    304: Failure("NotModified", "The caller has it already.", None, headers=("ETag",)),
    400: _refused("BadRequest", "The body is no JSON, or on one route not of its shape.", "Invalid JSON body"),
    401: _refused("Unauthorized", "The key is missing, unknown, or of the wrong kind.", "Invalid or Missing API key"),
    403: _refused(
        "Forbidden", "The key's organization may not do this now.", "Runs are disabled for this organization"
    ),
    404: _refused("NotFound", "Nothing of this id exists in the key's environment.", "Event not found"),
    405: _refused("MethodNotAllowed", "The route has no such method.", "Method Not Allowed", "Allow"),
    409: _refused(
        "Conflict",
        "It contradicts something that is stored.",
        "A dispatcher for large-orders exists; change it, or name another dispatchableId",
    ),
    413: _refused(
        "TooLarge", "The body is over a limit, which the answer names.", "The body is larger than 1048576 bytes"
    ),
    415: _refused(
        "Unsupported",
        "CloudEvents come in a format that is not spoken here.",
        "CloudEvents are read as application/cloudevents+json or application/cloudevents-batch+json",
    ),
    422: Failure("Invalid", "Something is not of its shape.", Breach, examples.ANSWERS[Breach]),
    429: Failure(
        "RateLimited",
        "Too many requests with this key, or events of its organization; nothing was stored.",
        RateLimited,
        examples.ANSWERS[RateLimited],
        ("Retry-After", *LIMITS),
        "application/problem+json",
    ),
    500: Failure("Unforeseen", "Something is wrong with the service.", Unforeseen, examples.ANSWERS[Unforeseen]),
    503: _refused(
        "Away",
        "The database is away; nothing was stored.",
        "The service cannot answer now; try again, an event with the same id",
        "Retry-After",
    ),
}
