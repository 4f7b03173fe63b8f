"""`/api/v1/events`: upstream's routes, and a list."""

from __future__ import annotations

import falcon

from kongflow_events import schemas, settings
from kongflow_events.services import cancel, events, ingest
from kongflow_events.store import db
from kongflow_events.store.events import STATES
from kongflow_events.web.requests import Door, answer, body_of, query_of


class Events:
    """Send one event; list those of the environment."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send."""
        environment = self._door.enter(request)
        event, options = schemas.parse_send(body_of(request, self._most))
        with db.unit():
            answer(response, schemas.event_log(ingest.ingest_send_event(environment, event, options)))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List, newest first."""
        environment = self._door.enter(request)
        query = query_of(request)
        wanted = {name: query.text(name) for name in ("name", "source", "account")}
        state, since, until = query.choice("state", STATES), query.time("since"), query.time("until")
        cursor, limit = query.cursor(), query.limit()
        query.check()
        with db.unit():
            found = events.list_event_records(
                environment, cursor=cursor, limit=limit, state=state, since=since, until=until, **wanted
            )
            answer(response, schemas.page(found, schemas.event_log))

    on_head = on_get


class Bulk:
    """Send many events in one transaction."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._current = current

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send them all, or none."""
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

    def on_get(self, request: falcon.Request, response: falcon.Response, event_id: str) -> None:
        """Look at it."""
        environment = self._door.enter(request)
        with db.unit():
            record, runs = events.list_event_runs(environment, event_id)
            answer(response, schemas.event(record, runs, self._version))

    on_head = on_get


class Cancel:
    """Cancel an event before it is delivered."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def on_post(self, request: falcon.Request, response: falcon.Response, event_id: str) -> None:
        """Cancel; the body is not looked at."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, schemas.event_log(cancel.cancel_event(environment, event_id)))


class CancelRuns:
    """Cancel the runs that an event started."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def on_post(self, request: falcon.Request, response: falcon.Response, event_id: str) -> None:
        """Cancel them; the body is not looked at."""
        environment = self._door.enter(request)
        with db.unit():
            ended = cancel.cancel_runs_for_event(environment, event_id)
            answer(response, {"cancelledRunIds": ended.cancelled, "failedToCancelRunIds": ended.failed})
