"""CloudEvents over HTTP: which requests speak of them, and the list of events as a batch of them."""

from __future__ import annotations

from typing import Final, NamedTuple

import falcon

from kongflow_events import errors, models, schemas, settings, words
from kongflow_events.schemas import cloudevents, queries
from kongflow_events.services import events, ingest
from kongflow_events.store import db
from kongflow_events.web.requests import answer, body_of

# HTTP binding §3: what begins so is a CloudEvent in one format or another.
_FAMILY: Final = "application/cloudevents"


# The headers of the attributes that every CloudEvent has, as WSGI names them: one is enough to see what was meant.
_TELLING: Final = frozenset(
    f"HTTP_{cloudevents.HEADER}{name}".upper().replace("-", "_") for name in ("specversion", "id", "source", "type")
)


class Sent(NamedTuple):
    """The CloudEvents of a request, and whether they came as a batch."""

    events: list[schemas.SendEvent]
    many: bool


def sent(request: falcon.Request, current: settings.Settings) -> Sent | None:
    """What the request holds; None when neither its content type nor a header speaks of CloudEvents.

    Raises Refused (400), Invalid (422), TooLarge, or Unsupported for a format that is not JSON.
    """
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type == cloudevents.BATCHED:
        body = body_of(request, current.max_bulk_body)
        return Sent(cloudevents.parse_batch(body, current.max_bulk_events), many=True)
    if media_type == cloudevents.STRUCTURED:
        return Sent([cloudevents.parse_structured(body_of(request, current.max_body))], many=False)
    if media_type.startswith(_FAMILY):
        raise errors.Unsupported(f"CloudEvents are read as {cloudevents.STRUCTURED} or {cloudevents.BATCHED}")
    # A header of that form that somebody's proxy adds makes no CloudEvent of an event of ours.
    if _TELLING.isdisjoint(request.env):
        return None
    headers = {name: value for name, value in request.headers_lower.items() if name.startswith(cloudevents.HEADER)}
    body = body_of(request, current.max_body)
    return Sent([cloudevents.parse_binary(headers, request.content_type or None, body)], many=False)


def store(environment: words.Environment, sent: Sent, response: falcon.Response) -> None:
    """Store them all, or none, and answer with the event or the array of events; raises Conflict, Forbidden."""
    with db.unit():
        logs = [schemas.event_log(record) for record in ingest.ingest_cloud_events(environment, sent.events)]
        answer(response, logs if sent.many else logs[0])


def answer_page(request: falcon.Request, response: falcon.Response, found: words.Page[models.EventRecord]) -> None:
    """A page of events in the form that the request prefers: our own, or a batch with the next page in a `Link`."""
    response.append_header("Vary", "Accept")
    if request.client_prefers((falcon.MEDIA_JSON, cloudevents.BATCHED)) != cloudevents.BATCHED:
        answer(response, schemas.event_page(found, events.list_standings(found.items)))
        return
    answer(response, cloudevents.cloud_events(found.items))
    response.content_type = f"{cloudevents.BATCHED}; charset=utf-8"
    if found.next:
        parameters = {**request.params, "cursor": queries.encode_cursor(found.next)}
        query = falcon.to_query_str(parameters, comma_delimited_lists=False)
        response.set_header("Link", f'<{request.root_path}{request.path}{query}>; rel="next"')
