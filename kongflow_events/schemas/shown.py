"""Answers made from what the services found: dates in UTC with three fractional digits."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from kongflow_events import circuits, masking, models, words
from kongflow_events.dates import iso
from kongflow_events.schemas import queries
from kongflow_events.schemas.answers import (
    Dispatcher,
    DispatcherPage,
    Event,
    EventLog,
    EventPage,
    EventRun,
    JobRun,
    JobRuns,
    ListedEvent,
    NewSecret,
    Run,
    RunOutput,
    RunStatus,
    RunStatuses,
    Signing,
    Target,
    TargetState,
)

Item = TypeVar("Item")

# Statuses that clients of the first API version do not know (upstream maps them so).
_SINCE_V2: dict[str, RunStatus] = {
    "EXECUTING": "STARTED",
    "WAITING_TO_CONTINUE": "STARTED",
    "WAITING_TO_EXECUTE": "STARTED",
}


def event_log(record: models.EventRecord) -> EventLog:
    """What upstream calls the ApiEventLog of `record`."""
    return EventLog(
        id=record.event_id,
        name=record.name,
        payload=msgspec.Raw(record.payload_raw),
        context=record.context,
        timestamp=iso(record.timestamp),
        deliver_at=iso(record.deliver_at),
        delivered_at=date(record.delivered_at),
        cancelled_at=date(record.cancelled_at),
    )


def event(record: models.EventRecord, runs: Iterable[models.JobRun], version: int) -> Event:
    """An event with its runs, for API version 1 or 2: upstream's GetEvent."""
    return Event(
        id=record.event_id,
        name=record.name,
        created_at=iso(record.created_at),
        updated_at=iso(record.updated_at),
        runs=[EventRun(run.id, status(run, version), date(run.started_at), date(run.completed_at)) for run in runs],
    )


def job_run(run: models.JobRun) -> JobRun:
    """A run in the list of its job."""
    return JobRun(run.id, status(run, 2), date(run.started_at), iso(run.updated_at), date(run.completed_at))


def run(run: models.JobRun, version: int) -> Run:
    """A run by itself, for API version 1 or 2: upstream's GetRun."""
    return Run(
        id=run.id,
        status=status(run, version),
        started_at=date(run.started_at),
        updated_at=iso(run.updated_at),
        completed_at=date(run.completed_at),
        output=run.output,
        tasks=[],
        statuses=[],
    )


def run_statuses(run: models.JobRun) -> RunStatuses:
    """A run's statuses: upstream's GetRunStatuses."""
    return RunStatuses(RunOutput(run.id, status(run, 2), run.output), [])


def job_runs(found: words.Page[models.JobRun]) -> JobRuns:
    """A page of a job's runs, in upstream's form."""
    return JobRuns([job_run(one) for one in found.items], queries.encode_cursor(found.next) or UNSET)


def status(run: models.JobRun, version: int) -> RunStatus:
    """The run's status in the words of an API version."""
    stored: Any = run.status
    shown: RunStatus = _SINCE_V2.get(stored, stored) if version == 1 else stored
    return shown


def dispatcher(
    row: models.EventDispatcher,
    names: Sequence[str],
    account: str | None,
    public_key: str | None = None,
    *,
    target: Target | None = None,
    warnings: Sequence[str] = (),
    secret: str | None = None,
) -> Dispatcher:
    """A dispatcher with all its names, a webhook with what verifies its calls, and how its target stands.

    `warnings` are what its writer should know about its filters, `secret` is for the one answer that shows it.
    """
    return Dispatcher(
        id=row.id,
        event=list(names),
        source=row.source,
        payload_filter=row.payload_filter,
        context_filter=row.context_filter,
        dispatchable=_dispatchable(row.dispatchable),
        dispatchable_id=row.dispatchable_id,
        enabled=row.enabled,
        manual=row.manual,
        account_id=account,
        one_shot=row.one_shot,
        expires_at=date(row.expires_at),
        target=target,
        created_at=iso(row.created_at),
        updated_at=iso(row.updated_at),
        warnings=list(warnings),
        signing=signing(public_key) if row.dispatchable["type"] == words.WEBHOOK else UNSET,
        secret=secret or UNSET,
    )


def target(standing: circuits.Standing, *, rests: bool, paused_at: datetime | None) -> Target:
    """How a target stands; `rests` says that nobody calls it at the moment, `paused_at` since when it is paused."""
    return Target(
        state=_state(standing, rests=rests),
        consecutive_failures=standing.failures,
        failing_since=date(standing.failing_since),
        opened_at=date(standing.opened_at),
        resumes_at=date(standing.rests_until) if rests else None,
        disabled_at=date(standing.disabled_at),
        disabled_reason=standing.disabled_reason,
        paused_at=date(paused_at),
    )


def _state(standing: circuits.Standing, *, rests: bool) -> TargetState:
    if standing.disabled_at:
        return "disabled"
    if standing.opened_at is None:
        return "closed"
    return "open" if rests else "halfOpen"


def signing(public_key: str | None) -> Signing:
    """What signs a webhook's calls; its public key is None when only the secret verifies them."""
    return Signing("ed25519" if public_key else "hmac", public_key)


def new_secret(
    dispatcher_id: uuid.UUID, secret: str | None, public_key: str | None, until: datetime | None
) -> NewSecret:
    """A webhook's new secret; those before it sign until then."""
    return NewSecret(dispatcher_id, signing(public_key), secret, date(until))


def _dispatchable(stored: dict[str, Any]) -> Any:
    return {**stored, "headers": masking.headers(stored["headers"])} if "headers" in stored else stored


def event_page(found: words.Page[models.EventRecord], standings: Mapping[uuid.UUID, words.Standing]) -> EventPage:
    """A page of events; `standings` says by record id how each stands."""
    return EventPage([_listed(one, standings[one.id]) for one in found.items], queries.encode_cursor(found.next))


def _listed(record: models.EventRecord, standing: words.Standing) -> ListedEvent:
    words_of_it: dict[str, Any] = {"payload_type": record.payload_type, "state": standing.state}
    return ListedEvent(
        **msgspec.structs.asdict(event_log(record)),
        **words_of_it,
        source=record.source,
        account_id=standing.account,
        created_at=iso(record.created_at),
    )


def dispatcher_page(found: words.Page[Item], shown: Callable[[Item], Dispatcher]) -> DispatcherPage:
    """A page of dispatchers, each as `shown`."""
    return DispatcherPage([shown(one) for one in found.items], queries.encode_cursor(found.next))


def encode(answer: Any) -> bytes:
    """JSON bytes of an answer."""
    return msgspec.json.encode(answer)


def date(at: datetime | None) -> str | None:
    """A date as upstream writes it, or null."""
    return None if at is None else iso(at)
