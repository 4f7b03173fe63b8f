"""`/api/v1/redrives` and `/api/v1/replays`: work on many rows, started here and carried on by the schedulers."""

from __future__ import annotations

from typing import Any, Final

import falcon
from msgspec import UNSET

from kongflow_events import dates, schemas, settings, words
from kongflow_events.schemas import ledger as shown
from kongflow_events.services import bulk_operations, redrive, replay
from kongflow_events.store import db, redrives, replays
from kongflow_events.web.operations import operation
from kongflow_events.web.requests import Door, answer, body_of, query_of

_list_query: Final = schemas.reader(schemas.ListQuery)


class Redrives:
    """Redrive many dead letters; list the redrives of the environment."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("startRedrive", body=shown.RedriveBody, answer=shown.Redrive)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Redrive many dead letters.

        It goes on in the background, at a pace, also across restarts. What dies again meanwhile is left dead.
        """
        environment = self._door.enter(request)
        body = shown.parse_redrive(body_of(request, self._most))
        with db.unit():
            answer(response, shown.redrive(redrive.start_redrive(environment, _dead(body), body.rate)))

    @operation("listRedrives", query=schemas.ListQuery, answer=shown.RedrivePage)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List redrives, newest first."""
        environment = self._door.enter(request)
        query = _list_query(query_of(request))
        with db.unit():
            found = bulk_operations.list_operations(environment, redrive.KIND, cursor=query.cursor, limit=query.limit)
            answer(response, shown.bulk_page(found, shown.RedrivePage, shown.redrive))

    on_head = on_get


class RedrivePreview:
    """Count first."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("previewRedrive", body=shown.RedriveBody, answer=shown.RedrivePreview)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Count the dead letters that a redrive would be about."""
        environment = self._door.enter(request)
        body = shown.parse_redrive(body_of(request, self._most))
        with db.unit():
            answer(response, shown.RedrivePreview(redrive.count_dead(environment, _dead(body))))


class Redrive:
    """One redrive."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("getRedrive", answer=shown.Redrive)
    def on_get(self, request: falcon.Request, response: falcon.Response, redrive_id: str) -> None:
        """Look how far a redrive is."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, shown.redrive(bulk_operations.get_operation(environment, redrive.KIND, redrive_id)))

    on_head = on_get


class CancelRedrive:
    """End a redrive."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("cancelRedrive", answer=shown.Redrive)
    def on_post(self, request: falcon.Request, response: falcon.Response, redrive_id: str) -> None:
        """End a redrive; what it did stays. The body is not looked at."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, shown.redrive(bulk_operations.cancel_operation(environment, redrive.KIND, redrive_id)))


class Replays:
    """Replay past events; list the replays of the environment."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("startReplay", body=shown.ReplayBody, answer=shown.Replay)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Replay past events.

        Each goes once to every dispatcher that wants it now, or to the named ones that do, also to those made since. It
        goes on in the background, at a pace, also across restarts. Cancelled events are not replayed, nor those whose first
        delivery is still to come; dispatchers that wait for one event get none.
        """
        environment = self._door.enter(request)
        body = shown.parse_replay(body_of(request, self._most))
        with db.unit():
            answer(response, shown.replay(replay.start_replay(environment, _past(body), body.rate)))

    @operation("listReplays", query=schemas.ListQuery, answer=shown.ReplayPage)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List replays, newest first."""
        environment = self._door.enter(request)
        query = _list_query(query_of(request))
        with db.unit():
            found = bulk_operations.list_operations(environment, replay.KIND, cursor=query.cursor, limit=query.limit)
            answer(response, shown.bulk_page(found, shown.ReplayPage, shown.replay))

    on_head = on_get


class ReplayPreview:
    """Count first."""

    def __init__(self, door: Door, current: settings.Settings) -> None:
        self._door = door
        self._most = current.max_body

    @operation("previewReplay", body=shown.ReplayBody, answer=shown.ReplayPreview)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Count the events that a replay would be about, and hold the first of them against its filters."""
        environment = self._door.enter(request)
        body = shown.parse_replay(body_of(request, self._most))
        with db.unit():
            answer(response, shown.ReplayPreview(*replay.preview_replay(environment, _past(body))))


class Replay:
    """One replay."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("getReplay", answer=shown.Replay)
    def on_get(self, request: falcon.Request, response: falcon.Response, replay_id: str) -> None:
        """Look how far a replay is."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, shown.replay(bulk_operations.get_operation(environment, replay.KIND, replay_id)))

    on_head = on_get


class CancelReplay:
    """End a replay."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @operation("cancelReplay", answer=shown.Replay)
    def on_post(self, request: falcon.Request, response: falcon.Response, replay_id: str) -> None:
        """End a replay; what it did stays. The body is not looked at."""
        environment = self._door.enter(request)
        with db.unit():
            answer(response, shown.replay(bulk_operations.cancel_operation(environment, replay.KIND, replay_id)))


def _dead(body: shown.RedriveBody) -> redrives.Wanted:
    return redrives.Wanted(
        of=body.of,
        dispatcher=None if body.dispatcher is UNSET else words.as_id(str(body.dispatcher)),
        name=_known(body.name),
        error_class=_known(body.error_class),
        since=dates.at_of(body.since),
        until=dates.at_of(body.until),
    )


def _past(body: shown.ReplayBody) -> replays.Wanted:
    return replays.Wanted(
        since=dates.at_of(body.since),
        until=dates.at_of(body.until),
        event_id=_known(body.event_id),
        name=_known(body.name),
        source=_known(body.source),
        account=_known(body.account),
        payload_filter=body.filter,
        context_filter=body.context_filter,
        dispatchers=None if body.dispatchers is UNSET else [words.as_id(one) for one in body.dispatchers],
    )


def _known(value: Any) -> Any:
    return None if value is UNSET else value
