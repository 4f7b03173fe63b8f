"""`/api/v1/event-dispatchers`: what upstream did through its dashboard, and the wait for one event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import falcon
import msgspec

from kongflow_events import schemas, settings, words
from kongflow_events.schemas import ledger as shown
from kongflow_events.services import dispatchers, explain, ledger, probe, rotate
from kongflow_events.store import db
from kongflow_events.store.dispatchers import Listed
from kongflow_events.web.operations import operation
from kongflow_events.web.requests import Door, answer, body_of, query_of

_list_query: Final = schemas.reader(schemas.DispatchersQuery)


class Dispatchers:
    """Write a dispatcher; list those of the environment."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("createEventDispatcher", body=schemas.DispatcherBody, answer=schemas.Dispatcher, refusals=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Write a dispatcher.

        It hears every event of its names and source that is delivered from now on. A filter that breaks the language is
        refused here, with the path of every mistake; one that can never match is accepted with a warning. The secret of a
        webhook is shown in this answer only.
        """
        environment = self._door.enter(request)
        body = schemas.parse_dispatcher(body_of(request, self._most))
        written = dispatchers.create_event_dispatcher(environment, body)
        answer(response, _shown(written.dispatcher, written.warnings, written.secret))

    @operation("listEventDispatchers", query=schemas.DispatchersQuery, answer=schemas.DispatcherPage)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List dispatchers, newest first."""
        environment = self._door.enter(request)
        wanted = msgspec.structs.asdict(_list_query(query_of(request)))
        with db.unit():
            found = dispatchers.list_event_dispatchers(environment, **wanted)
            answer(response, schemas.dispatcher_page(found, _shown))

    on_head = on_get


class Dispatcher:
    """One dispatcher."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("getEventDispatcher", answer=schemas.Dispatcher)
    def on_get(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Look at a dispatcher."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, _shown(dispatchers.get_event_dispatcher(environment, dispatcher_id)))

    on_head = on_get

    @operation("updateEventDispatcher", body=schemas.DispatcherChange, answer=schemas.Dispatcher, refusals=(409,))
    def on_patch(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Change a dispatcher.

        What the body does not give stays as it is. With `enabled`, also when it says what is so already, and with another
        URL the dispatcher's target begins anew: its failures are forgotten, and it is called at once. What is still owed to
        a webhook is sent as it is after the change.
        """
        environment = self._door.enter(request)
        change = schemas.parse_dispatcher_change(body_of(request, self._most))
        written = dispatchers.update_event_dispatcher(environment, dispatcher_id, change)
        answer(response, _shown(written.dispatcher, written.warnings))

    @operation("deleteEventDispatcher", answer=schemas.DispatcherId)
    def on_delete(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Delete a dispatcher.

        What it matched before stays in the ledger, and is skipped if it was not carried out yet.
        """
        environment = self._door.enter(request)
        with db.unit():
            dispatchers.delete_event_dispatcher(environment, dispatcher_id)
            answer(response, schemas.DispatcherId(words.as_id(dispatcher_id)))


class Explain:
    """Why an event reaches a dispatcher, or does not."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("explainEventDispatcher", body=schemas.ExplainBody, answer=schemas.Explanation)
    def on_post(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Explain a dispatcher.

        Says for each condition of its filters whether it holds for an event and on what value, and every other reason why
        the event does not reach it: another name, source or account, disabled, expired. Of a stored event it also says what
        became of it: cancelled, not due yet, delivered before the dispatcher was made or changed.
        """
        environment = self._door.enter(request)
        asked = schemas.parse_explain(body_of(request, self._most))
        with db.unit():
            answer(response, explain.explain_dispatcher(environment, dispatcher_id, asked))


class RotateSecret:
    """Change what signs a webhook's calls."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("rotateWebhookSecret", body=schemas.RotationBody, answer=schemas.NewSecret, refusals=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Give a webhook a new secret.

        It is shown in this answer only. The secrets before it sign beside it until the overlap is over, so that the receiver
        can change to the new one when it likes; with an overlap of 0 they all end now. Five secrets can sign together.
        """
        environment = self._door.enter(request)
        body = schemas.parse_rotation(body_of(request, self._most))
        with db.unit():
            rotated = rotate.rotate_secret(environment, dispatcher_id, body.overlap_in_seconds)
            answer(response, schemas.new_secret(rotated.dispatcher_id, *rotated.made, rotated.until))


class Probe:
    """Call a webhook to see what it answers."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("testWebhook", answer=shown.InvocationDetail)
    def on_post(self, request: falcon.Request, response: falcon.Response, dispatcher_id: str) -> None:
        """Send a webhook a test event.

        An event `kongflow.webhook.test` is made for it and sent by the same way as every other, with its signature, its
        headers and its attempts. The answer is its invocation, which tells a moment later what the receiver said. The body
        is not looked at.
        """
        environment = self._door.enter(request)
        with db.unit():
            made = probe.probe_webhook(environment, dispatcher_id)
            answer(response, shown.invocation_detail(*ledger.get_invocation(environment, str(made))))


class Ephemeral:
    """Wait for one event at a URL."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation(
        "createEphemeralEventDispatcher",
        body=schemas.EphemeralBody,
        answer=schemas.DispatcherId,
        breach=400,
        refusals=(404,),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Wait for one event at a URL.

        The first event that matches is sent to the URL, and the wait is over. A second wait for the same URL is the first
        one, unchanged; when that one ends at this very moment, the answer is a 404.
        """
        environment = self._door.enter(request)
        body = schemas.parse_ephemeral(body_of(request, self._most))
        made = dispatchers.create_ephemeral_dispatcher(environment, body)
        answer(response, schemas.DispatcherId(made.id))


def _shown(listed: Listed, warnings: Sequence[str] = (), secret: str | None = None) -> schemas.Dispatcher:
    standing = listed.standing
    target = None if standing is None else schemas.target(standing, rests=listed.rests, paused_at=listed.paused_at)
    return schemas.dispatcher(
        listed.row, listed.names, listed.account, listed.public_key, target=target, warnings=warnings, secret=secret
    )
