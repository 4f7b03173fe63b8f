"""`/api/v1/invocations`: what must happen or happened, and how dead letters, one by one, are redriven or dismissed."""

from __future__ import annotations

from typing import Final

import falcon

from kongflow_events import dates, schemas, words
from kongflow_events.schemas import ledger as shown
from kongflow_events.services import events, ledger, redrive
from kongflow_events.store import db
from kongflow_events.store.ledger import Wanted
from kongflow_events.web.operations import operation
from kongflow_events.web.requests import Door, answer, query_of

_list_query: Final = schemas.reader(schemas.InvocationsQuery)


class Invocations:
    """List the environment's invocations."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("listInvocations", query=schemas.InvocationsQuery, answer=shown.InvocationPage)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List invocations, newest first.

        `status=DEAD` lists the dead letters: what used up its attempts, or failed for good.
        """
        environment = self._door.enter(request)
        query = _list_query(query_of(request))
        with db.unit():
            found = ledger.list_invocations(environment, _wanted(query), cursor=query.cursor, limit=query.limit)
            answer(response, shown.invocation_page(found))

    on_head = on_get


class Invocation:
    """One invocation."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("getInvocation", answer=shown.InvocationDetail)
    def on_get(self, request: falcon.Request, response: falcon.Response, invocation_id: str) -> None:
        """Look at an invocation and its attempts."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, shown.invocation_detail(*ledger.get_invocation(environment, invocation_id)))

    on_head = on_get


class RedriveOne:
    """Give a dead invocation new attempts."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("redriveInvocation", answer=shown.InvocationDetail, refusals=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response, invocation_id: str) -> None:
        """Redrive a dead invocation.

        It gets a new round of attempts, due now; those of earlier rounds stay in the ledger. The body is not looked at.
        """
        environment = self._door.enter(request)
        with db.unit():
            redrive.redrive_invocation(environment, invocation_id)
            answer(response, shown.invocation_detail(*ledger.get_invocation(environment, invocation_id)))


class DismissOne:
    """End a dead invocation for good."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("dismissInvocation", answer=shown.InvocationDetail, refusals=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response, invocation_id: str) -> None:
        """Dismiss a dead invocation.

        It is `CANCELED` then, and no dead letter any more. The body is not looked at.
        """
        environment = self._door.enter(request)
        with db.unit():
            redrive.dismiss_invocation(environment, invocation_id)
            answer(response, shown.invocation_detail(*ledger.get_invocation(environment, invocation_id)))


class RedriveEvent:
    """Give an event's dead delivery new attempts."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("redriveEvent", answer=schemas.EventLog, refusals=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response, event_id: str) -> None:
        """Redrive an event's dead delivery.

        It gets new attempts, due now. The body is not looked at.
        """
        environment = self._door.enter(request)
        with db.unit():
            redrive.redrive_event(environment, event_id)
            answer(response, schemas.event_log(events.get_event_record(environment, event_id)))


class DismissEvent:
    """Owe an event's dead delivery no longer."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("dismissEvent", answer=schemas.EventLog, refusals=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response, event_id: str) -> None:
        """Dismiss an event's dead delivery.

        It is delivered to nobody then, unless its id is sent again. The body is not looked at.
        """
        environment = self._door.enter(request)
        with db.unit():
            redrive.dismiss_event(environment, event_id)
            answer(response, schemas.event_log(events.get_event_record(environment, event_id)))


def _wanted(query: schemas.InvocationsQuery) -> Wanted:
    return Wanted(
        status=query.status,
        dispatcher=None if query.dispatcher is None else words.as_id(query.dispatcher),
        name=query.name,
        event_id=query.event,
        error_class=query.error_class,
        since=dates.at_of(query.since),
        until=dates.at_of(query.until),
    )
