"""Request bodies, as types: upstream's own, field for field, and those of what its dashboard and indexing did.

Unknown keys are dropped at every level, as upstream does. JSON payloads and contexts stay the sender's own bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kongflow_events import errors, patterns, words
from kongflow_events.dates import Instant
from kongflow_events.schemas import typed

ABSENT = msgspec.Raw(b"null")
# About three hundred years, either way: every such delay is a date that PostgreSQL and JavaScript can hold.
_LONGEST = 10_000_000_000

# What stands in an index has to fit into one: these many characters do, whatever their width.
_LONGEST_KEY = patterns.LONGEST
_LONGEST_SOURCE = 128
Key = Annotated[str, Meta(max_length=_LONGEST_KEY)]
Source = Annotated[str, Meta(max_length=_LONGEST_SOURCE)]
Text = Annotated[str, Meta(min_length=1, max_length=_LONGEST_KEY)]
# A semantic version (semver.org, 2.0.0).
SemVer = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
        r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
        r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$(?!\n)",
    ),
]
Filter = dict[str, Any]


class Wire(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What a body looks like; keys in camel case."""


class SendEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be sent. `payload` and `context` are JSON texts; None is absent."""

    name: str
    payload: str | None = None
    context: str | None = None
    id: str | None = None
    timestamp: datetime | None = None
    source: str | None = None
    payload_type: str | None = None


class SendOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When to deliver (`deliver_at` wins over `deliver_after` seconds) and for whom; None is absent."""

    deliver_at: datetime | None = None
    deliver_after: int | None = None
    account_id: str | None = None


class EventBody(Wire, frozen=True):
    """An event on the wire."""

    name: str
    payload: msgspec.Raw = ABSENT
    context: msgspec.Raw = ABSENT
    id: Key | UnsetType = UNSET
    timestamp: Instant | None = None
    source: str | UnsetType = UNSET
    payload_type: Literal["JSON", "REQUEST"] | UnsetType = UNSET

    def known(self) -> SendEvent:
        """The event, with what is absent as None."""
        return SendEvent(
            name=self.name,
            payload=_json(self.payload),
            context=_json(self.context),
            id=_known(self.id),
            timestamp=self.timestamp.at if self.timestamp else None,
            source=_known(self.source),
            payload_type=_known(self.payload_type),
        )


class OptionsBody(Wire, frozen=True):
    """Options on the wire."""

    deliver_at: Instant | None = None
    deliver_after: Annotated[int, Meta(ge=-_LONGEST, le=_LONGEST)] | UnsetType = UNSET
    account_id: Key | UnsetType = UNSET

    def known(self) -> SendOptions:
        """The options, with what is absent as None: a delay of 0 and an empty account are absent too."""
        return SendOptions(
            deliver_at=self.deliver_at.at if self.deliver_at else None,
            deliver_after=_known(self.deliver_after) or None,
            account_id=_known(self.account_id) or None,
        )


class SendBody(Wire, frozen=True):
    """The body of `POST /api/v1/events`."""

    event: EventBody
    options: OptionsBody = OptionsBody()


class BulkBody(Wire, frozen=True):
    """The body of `POST /api/v1/events/bulk`; the options are for every event."""

    events: list[EventBody]
    options: OptionsBody = OptionsBody()


class EphemeralBody(Wire, frozen=True):
    """The body of `POST /api/v1/event-dispatchers/ephemeral`."""

    url: str
    name: Key | list[Key]
    source: Source = words.SOURCE
    filter: Filter | UnsetType = UNSET
    context_filter: Filter | UnsetType = UNSET
    account_id: Key | UnsetType = UNSET
    timeout_in_seconds: Annotated[int, Meta(ge=10, le=31_536_000)] = 3600


class DispatchableBody(Wire, frozen=True):
    """What a dispatcher sets off: a job version or a dynamic trigger by `id`, or a URL."""

    type: Literal["JOB_VERSION", "DYNAMIC_TRIGGER", "EPHEMERAL"]
    id: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


Names = Annotated[list[Key], Meta(min_length=1)]


class DispatcherBody(Wire, frozen=True):
    """The body of `POST /api/v1/event-dispatchers`. `dispatchableId` tells several rules for one target apart."""

    event: Key | Names
    dispatchable: DispatchableBody
    source: Source = words.SOURCE
    payload_filter: Filter | None = None
    context_filter: Filter | None = None
    dispatchable_id: Text | UnsetType = UNSET
    enabled: bool = True
    manual: bool = False
    account_id: Key | UnsetType = UNSET
    timeout_in_seconds: Annotated[int, Meta(ge=10, le=31_536_000)] = 3600


class DispatcherChange(Wire, frozen=True):
    """The body of `PATCH /api/v1/event-dispatchers/{id}`: what is absent stays, a null filter is taken away."""

    event: Key | Names | UnsetType = UNSET
    source: Source | UnsetType = UNSET
    payload_filter: Filter | UnsetType | None = UNSET
    context_filter: Filter | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    manual: bool | UnsetType = UNSET


class ExplainBody(Wire, frozen=True):
    """The body of `POST /api/v1/event-dispatchers/{id}/explain`: a stored event's id, or an event as it would be sent."""

    event_id: str | UnsetType = UNSET
    event: EventBody | UnsetType = UNSET
    options: OptionsBody = OptionsBody()


class TriggerBody(Wire, frozen=True):
    """What starts a job."""

    event: Key | Names
    source: Source = words.SOURCE
    filter: Filter | UnsetType = UNSET
    context_filter: Filter | UnsetType = UNSET


class JobBody(Wire, frozen=True):
    """The body of `POST /api/v1/jobs`."""

    id: Text
    name: Text
    version: SemVer
    trigger: TriggerBody


class DynamicTriggerBody(Wire, frozen=True):
    """The body of `PUT /api/v1/dynamic-triggers/{id}`: the ids of its jobs."""

    jobs: list[str]


_send = typed.decoder(SendBody)
_bulk = typed.decoder(BulkBody)
_ephemeral = typed.decoder(EphemeralBody)
_explain = typed.decoder(ExplainBody)
parse_dispatcher = typed.decoder(DispatcherBody)
parse_dispatcher_change = typed.decoder(DispatcherChange)
parse_job = typed.decoder(JobBody)
parse_dynamic_trigger = typed.decoder(DynamicTriggerBody)


def parse_send(body: bytes) -> tuple[SendEvent, SendOptions]:
    """The event and options of a `POST /api/v1/events`; raises Refused (400) or Invalid (422)."""
    parsed = _send(body)
    return parsed.event.known(), parsed.options.known()


def parse_send_bulk(body: bytes, most: int) -> tuple[list[SendEvent], SendOptions]:
    """The events and options of a bulk; raises Refused (400), Invalid (422), or TooLarge over `most` events."""
    parsed = _bulk(body)
    if len(parsed.events) > most:
        raise errors.TooLarge(f"A bulk may hold {most} events; this one holds {len(parsed.events)}")
    return [event.known() for event in parsed.events], parsed.options.known()


def parse_ephemeral(body: bytes) -> EphemeralBody:
    """An ephemeral dispatcher to be made; every mistake is a 400 `Invalid request body`, as upstream has it."""
    try:
        return _ephemeral(body)
    except errors.Invalid as error:
        raise errors.Refused("Invalid request body", error.issues) from None


def parse_explain(body: bytes) -> ExplainBody:
    """What is to be explained; raises Refused (400) or Invalid (422), also unless exactly one event is given."""
    parsed = _explain(body)
    if (parsed.event is UNSET) is (parsed.event_id is UNSET):
        raise errors.Invalid(errors.Issue("custom", "", "Give either event, as it would be sent, or eventId"))
    return parsed


def names_of(event: str | list[str]) -> list[str]:
    """One name or several, as a list without repetition, in order."""
    return [event] if isinstance(event, str) else list(dict.fromkeys(event))


def name_issues(event: str | list[str], path: str) -> list[errors.Issue]:
    """What is wrong with the names, given at `path`, that a dispatcher is to listen to: a pattern that cannot be."""
    places = [(path, event)] if isinstance(event, str) else [(f"{path}[{at}]", one) for at, one in enumerate(event)]
    return [
        errors.Issue("invalid_string", place, mistake) for place, one in places if (mistake := patterns.mistake(one))
    ]


def name_warnings(event: str | list[str], path: str) -> list[str]:
    """What the writer of these names may have meant otherwise."""
    return [f"{path}: {oddity}" for one in names_of(event) if (oddity := patterns.oddity(one))]


def send_event(
    name: str,
    payload: Any = None,
    *,
    context: Any = None,
    id: str | None = None,  # noqa: A002 - the wire's name
    timestamp: datetime | None = None,
    source: str | None = None,
) -> SendEvent:
    """An event from Python values; raises Invalid for what cannot be stored, as a body would."""
    event = {"name": name, "payload": payload, "context": context, "id": id, "source": source}
    body = {"event": {key: value for key, value in event.items() if value is not None}}
    parsed, _ = parse_send(msgspec.json.encode(body))
    return msgspec.structs.replace(parsed, timestamp=timestamp)


def semver_key(version: str) -> tuple[Any, ...]:
    """Sorts semantic versions by precedence (semver.org §11): a pre-release comes before its release."""
    core, _, prerelease = version.partition("+")[0].partition("-")
    numbers = tuple(int(number) for number in core.split("."))
    if not prerelease:
        return (*numbers, 1)
    return (*numbers, 0, *((0, int(part), "") if part.isdigit() else (1, 0, part) for part in prerelease.split(".")))


def _known(value: Any) -> Any:
    return None if value is UNSET else value


def _json(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text == "null" else text
