"""`/api/v1/events`: upstream's routes, and a list."""

from __future__ import annotations

from typing import Final

import falcon

from kongflow_events import schemas, settings
from kongflow_events.schemas import formats
from kongflow_events.services import cancel, events, ingest
from kongflow_events.store import db
from kongflow_events.web import cloudevents
from kongflow_events.web.operations import operation
from kongflow_events.web.requests import Door, answer, body_of, query_of

_list_query: Final = schemas.reader(schemas.EventsQuery)


class Events:
    """Send one event; list those of the environment."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._current = current

    @operation(
        "sendEvent",
        body=schemas.SendBody,
        answer=schemas.SentAnswer,
        refusals=(403, 409, 415),
        accepts={**formats.EVENT, **formats.BATCH},
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send an event.

        An event of ours, or CloudEvents: structured, batched, or in `ce-` headers with the body as their data.
        It is stored before the answer, and delivered to every dispatcher that matches: at once, or when its options say.
        Sending an id again gives the first event back; one that waits is changed until five seconds before its delivery.
        """
        environment = self._door.enter(request)
        sent = cloudevents.sent(request, self._current)
        if sent is not None:
            cloudevents.store(environment, sent, response)
            return
        event, options = schemas.parse_send(body_of(request, self._current.max_body))
        # No unit of work here: who waits for another's statement needs no connection.
        answer(response, schemas.event_log(ingest.ingest_send_event(environment, event, options)))

    @operation(
        "listEvents", query=schemas.EventsQuery, answer=schemas.EventPage, offers=formats.BATCH, headers=("Link",)
    )
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List events, newest first.

        Whoever prefers `application/cloudevents-batch+json` gets CloudEvents, and the next page in a `Link`.
        """
        environment = self._door.enter(request)
        query = _list_query(query_of(request))
        with db.unit():
            cloudevents.answer_page(request, response, events.list_event_records(environment, **query.wanted()))

    on_head = on_get


class Bulk:
    """Send many events in one transaction."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._current = current

    @operation("sendEvents", body=schemas.BulkBody, answer=list[schemas.EventLog], refusals=(403,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send many events.

        All of them are stored in one transaction, or none is. The answer has them in the order of the request.
        """
        environment = self._door.enter(request)
        body = body_of(request, self._current.max_bulk_body)
        batch, options = schemas.parse_send_bulk(body, self._current.max_bulk_events)
        with db.unit():
            records = ingest.ingest_send_events(environment, batch, options)
            answer(response, [schemas.event_log(record) for record in records])


class Event:
    """An event and its runs."""

    cors = True

    def __init__(self, door: Door, version: int) -> None:
        self._door = door
        self._version = version

    @operation("getEvent", answer=schemas.Event)
    def on_get(self, request: falcon.Request, response: falcon.Response, event_id: str) -> None:
        """Look at an event and the runs it started."""
        environment = self._door.enter(request)
        with db.unit():
            record, runs = events.list_event_runs(environment, event_id)
            answer(response, schemas.event(record, runs, self._version))

    on_head = on_get


class Cancel:
    """Cancel an event before it is delivered."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("cancelEvent", answer=schemas.EventLog)
    def on_post(self, request: falcon.Request, response: falcon.Response, event_id: str) -> None:
        """Cancel an event.

        One that was not yet delivered never will be; a delivered one is only marked. The body is not looked at.
        """
        environment = self._door.enter(request)
        with db.unit():
            answer(response, schemas.event_log(cancel.cancel_event(environment, event_id)))


class CancelRuns:
    """Cancel the runs that an event started."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("cancelRunsForEvent", answer=schemas.CancelledRuns)
    def on_post(self, request: falcon.Request, response: falcon.Response, event_id: str) -> None:
        """Cancel the runs that an event started.

        Every run that has not ended is cancelled. The body is not looked at.
        """
        environment = self._door.enter(request)
        with db.unit():
            ended = cancel.cancel_runs_for_event(environment, event_id)
            answer(response, schemas.CancelledRuns(ended.cancelled, ended.failed))
