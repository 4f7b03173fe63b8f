"""`/api/v1/event-dispatchers`: what upstream did through its dashboard, and the wait for one event."""

from __future__ import annotations

from collections.abc import Sequence

import falcon

from kongflow_events import schemas, settings
from kongflow_events.services import dispatchers, explain
from kongflow_events.store import db
from kongflow_events.store.dispatchers import Listed
from kongflow_events.web.requests import Door, answer, body_of, query_of


class Dispatchers:
    """Write a dispatcher; list those of the environment."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Write one."""
        environment = self._door.enter(request)
        body = schemas.parse_dispatcher(body_of(request, self._most))
        with db.unit():
            written = dispatchers.create_event_dispatcher(environment, body)
            answer(response, _shown(written.dispatcher, written.warnings))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List, newest first."""
        environment = self._door.enter(request)
        query = query_of(request)
        event, source, enabled = query.text("event"), query.text("source"), query.flag("enabled")
        cursor, limit = query.cursor(), query.limit()
        query.check()
        with db.unit():
            found = dispatchers.list_event_dispatchers(
                environment, cursor=cursor, limit=limit, event=event, source=source, enabled=enabled
            )
            answer(response, schemas.page(found, _shown))

    on_head = on_get


class Dispatcher:
    """One dispatcher."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    def on_get(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Look at it."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, _shown(dispatchers.get_event_dispatcher(environment, dispatcher_id)))

    on_head = on_get

    def on_patch(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Change what the body gives."""
        environment = self._door.enter(request)
        change = schemas.parse_dispatcher_change(body_of(request, self._most))
        with db.unit():
            written = dispatchers.update_event_dispatcher(environment, dispatcher_id, change)
            answer(response, _shown(written.dispatcher, written.warnings))

    def on_delete(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Delete it."""
        environment = self._door.enter(request)
        with db.unit():
            dispatchers.delete_event_dispatcher(environment, dispatcher_id)
            answer(response, {"id": dispatcher_id})


class Explain:
    """Why an event reaches a dispatcher, or does not."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    def on_post(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Say so, for a stored event or for one that is described."""
        environment = self._door.enter(request)
        asked = schemas.parse_explain(body_of(request, self._most))
        with db.unit():
            answer(response, explain.explain_dispatcher(environment, dispatcher_id, asked))


class Ephemeral:
    """Wait for one event at a URL."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Wait."""
        environment = self._door.enter(request)
        body = schemas.parse_ephemeral(body_of(request, self._most))
        with db.unit():
            answer(response, {"id": dispatchers.create_ephemeral_dispatcher(environment, body).id})


def _shown(listed: Listed, warnings: Sequence[str] = ()) -> object:
    return schemas.dispatcher(listed.row, listed.names, listed.account, warnings)
