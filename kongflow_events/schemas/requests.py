"""Request bodies, as types: upstream's own, field for field, and those of what its dashboard and indexing did.

Unknown keys are dropped at every level of upstream's own bodies, as it does, and refused in the others. JSON payloads and
contexts stay the sender's own bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kongflow_events import errors, patterns, words
from kongflow_events.dates import Instant
from kongflow_events.schemas import typed
from kongflow_events.schemas.references import ref
from kongflow_events.schemas.semver import SemVer
from kongflow_events.signing import Kind as SigningKind

# What stands in an index has to fit into one: these many characters do, whatever their width.
_LONGEST_KEY = patterns.LONGEST
_LONGEST_SOURCE = 128
Key = Annotated[str, Meta(max_length=_LONGEST_KEY)]
Source = Annotated[str, Meta(max_length=_LONGEST_SOURCE)]
Text = Annotated[str, Meta(min_length=1, max_length=_LONGEST_KEY)]
Filter = Annotated[dict[str, Any], Meta(extra_json_schema=ref("EventFilter"))]
Names = Annotated[list[Key], Meta(min_length=1)]
_HEARD = Meta(description="The name it listens to, or several; `*` in place of a segment makes a pattern: `order.*`.")
DispatchableType = Literal["JOB_VERSION", "DYNAMIC_TRIGGER", "EPHEMERAL", "WEBHOOK"]
# What a webhook's body looks like.
WebhookFormat = Literal["event", "cloudevent"]


class Delay(typed.Whole):
    """Seconds: about three hundred years, either way, so that it ends at a date that PostgreSQL and JavaScript can hold."""

    least, most = -10_000_000_000, 10_000_000_000


class Patience(typed.Whole):
    """Seconds: from ten up to a year of 365 days."""

    least, most = 10, 31_536_000


class CallSeconds(typed.Whole):
    """Seconds of one call; the service's own limit may be lower."""

    least, most = 1, 300


class CallRate(typed.Whole):
    """Calls a second."""

    least, most = 1, 10_000


class CallsAtOnce(typed.Whole):
    """Calls under way at the same time."""

    least, most = 1, 1_000


class Overlap(typed.Whole):
    """Seconds: from none up to thirty days."""

    least, most = 0, 2_592_000


class Wire(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What a body looks like; keys in camel case."""


class Ours(Wire, frozen=True, forbid_unknown_fields=True):
    """A body that trigger.dev never had: a misspelt filter is a mistake, not a wish that goes unheard."""


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
    """An event to be sent."""

    name: Annotated[
        str, Meta(description="What happened. Dispatchers listen to this name, or to a pattern that it matches.")
    ]
    payload: Annotated[
        msgspec.Raw | UnsetType,
        Meta(description="Any JSON, kept as the bytes that were sent. Null is as absent: `{}`."),
    ] = UNSET
    context: Annotated[
        msgspec.Raw | UnsetType, Meta(description="Any JSON beside the payload. Null is as absent: `{}`.")
    ] = UNSET
    id: Annotated[
        Key | UnsetType,
        Meta(
            description="The event's id in its environment. A second event of this id is the first one. Absent: a ULID."
        ),
    ] = UNSET
    timestamp: Annotated[Instant | None, Meta(description="When it happened. Absent: now.")] = None
    source: Annotated[
        str | UnsetType, Meta(description="Where it comes from, which dispatchers ask for too. Absent: `trigger.dev`.")
    ] = UNSET
    payload_type: Annotated[
        Literal["JSON", "REQUEST"] | UnsetType,
        Meta(
            description="`REQUEST` when the payload is an HTTP request, `{url, method, headers, rawBody}`. Absent: `JSON`."
        ),
    ] = UNSET

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
    """When to deliver an event, and for whom."""

    deliver_at: Annotated[Instant | None, Meta(description="Deliver at this time. Absent: at once.")] = None
    deliver_after: Annotated[
        Delay | UnsetType,
        Meta(description="Deliver after so many seconds, unless `deliverAt` is given. 0 is as absent."),
    ] = UNSET
    account_id: Annotated[
        Key | UnsetType, Meta(description="The external account that the event is about; made when it is new.")
    ] = UNSET

    def known(self) -> SendOptions:
        """The options, with what is absent as None: a delay of 0 and an empty account are absent too."""
        return SendOptions(
            deliver_at=self.deliver_at.at if self.deliver_at else None,
            deliver_after=_known(self.deliver_after) or None,
            account_id=_known(self.account_id) or None,
        )


# A factory, because a default would be shown as if a sender had to repeat it.
_OPTIONS: Any = msgspec.field(default_factory=OptionsBody)


class SendBody(Wire, frozen=True):
    """One event and its options."""

    event: Annotated[EventBody, Meta(description="The event.")]
    options: Annotated[OptionsBody, Meta(description="When to deliver it, and for whom.")] = _OPTIONS


class BulkBody(Wire, frozen=True):
    """Many events; the options are for each of them."""

    events: Annotated[list[EventBody], Meta(description="The events; by default at most 1,000.")]
    options: Annotated[OptionsBody, Meta(description="When to deliver each of them, and for whom.")] = _OPTIONS


# A plain number, because a default is also shown.
_HOUR: Any = 3600


class EphemeralBody(Wire, frozen=True):
    """A wait for one event at a URL."""

    url: Annotated[str, Meta(description="Where to POST the event: an absolute http or https URL at a public address.")]
    name: Annotated[Key | list[Key], Meta(description="The name to wait for, or several.")]
    source: Annotated[Source, Meta(description="The source to wait for.")] = words.SOURCE
    filter: Annotated[Filter | UnsetType, Meta(description="What the payload must be like.")] = UNSET
    context_filter: Annotated[Filter | UnsetType, Meta(description="What the context must be like.")] = UNSET
    account_id: Annotated[Key | UnsetType, Meta(description="Wait for an event of this external account only.")] = UNSET
    timeout_in_seconds: Annotated[Patience, Meta(description="How long to wait.")] = _HOUR


# What `webhooks.header_issues` looks at, as far as a schema can say it.
_HEADER_VALUE: dict[str, Any] = {"type": "string", "maxLength": 2048, "pattern": "^([!-~]([\\t -~]*[!-~])?)?$"}
_HEADERS: dict[str, Any] = {
    "maxProperties": 20,
    "propertyNames": {"pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"},
    "additionalProperties": _HEADER_VALUE,
}
_HEADER_CHANGES: dict[str, Any] = {"additionalProperties": {"anyOf": [_HEADER_VALUE, {"type": "null"}]}}


class DispatchableBody(Ours, frozen=True):
    """What a dispatcher sets off: a job version or a dynamic trigger by its `id`, or calls of a `url`.

    `EPHEMERAL` calls it once, `WEBHOOK` for every event; all fields behind `url` are a webhook's.
    """

    type: Annotated[DispatchableType, Meta(description="What kind it is.")]
    id: Annotated[
        str | UnsetType, Meta(description="The `versionId` of a job, or the `triggerId` of a dynamic trigger.")
    ] = UNSET
    url: Annotated[
        str | UnsetType,
        Meta(
            description="Where to POST the first event (`EPHEMERAL`) or every event (`WEBHOOK`): an http or https URL."
        ),
    ] = UNSET
    headers: Annotated[
        dict[str, str] | UnsetType,
        Meta(
            description="Headers of every call: at most 20, none that frames or signs the request. Values are not "
            "shown again, unless they are known to be harmless.",
            extra_json_schema=_HEADERS,
        ),
    ] = UNSET
    timeout_in_seconds: Annotated[
        CallSeconds | UnsetType, Meta(description="How long one call may take. Absent: as long as the service allows.")
    ] = UNSET
    rate_limit: Annotated[
        CallRate | UnsetType, Meta(description="How many calls a second at the most. Absent: as fast as they come.")
    ] = UNSET
    max_concurrency: Annotated[
        CallsAtOnce | UnsetType,
        Meta(
            description="How many calls at the same time at the most. Absent: as many as the service makes; never more "
            "than that."
        ),
    ] = UNSET
    format: Annotated[
        WebhookFormat | UnsetType,
        Meta(
            description="What the body is: the `event` as an ephemeral dispatcher sends it (absent), or a `cloudevent`."
        ),
    ] = UNSET
    signing: Annotated[
        SigningKind | UnsetType,
        Meta(
            description="What signs the calls: `hmac`, a secret that the receiver knows too (absent), or `ed25519`, whose "
            "receiver needs a public key only."
        ),
    ] = UNSET
    secret: Annotated[
        str | UnsetType,
        Meta(
            description="A secret of kind `hmac` that is known already, `whsec_…`. Absent: a new one.",
            extra_json_schema={"pattern": "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$"},
        ),
    ] = UNSET


# Which of the two it takes goes by its type, which the decoder leaves to the service.
_DISPATCHABLE = Meta(
    description="What it sets off.",
    extra_json_schema={
        "anyOf": [
            {"required": ["url"], "properties": {"type": {"enum": ["EPHEMERAL", "WEBHOOK"]}}},
            {"required": ["id"], "properties": {"type": {"enum": ["JOB_VERSION", "DYNAMIC_TRIGGER"]}}},
        ]
    },
)


class DispatcherBody(Ours, frozen=True):
    """A dispatcher to be written."""

    event: Annotated[
        Key | Names,
        _HEARD,
    ]
    dispatchable: Annotated[DispatchableBody, _DISPATCHABLE]
    source: Annotated[Source, Meta(description="The source it listens to.")] = words.SOURCE
    payload_filter: Annotated[Filter | None, Meta(description="What the payload must be like.")] = None
    context_filter: Annotated[Filter | None, Meta(description="What the context must be like.")] = None
    dispatchable_id: Annotated[
        Text | UnsetType,
        Meta(description="Tells several dispatchers for one target apart. Absent: the target's own id, for the one."),
    ] = UNSET
    enabled: Annotated[bool, Meta(description="Whether it listens.")] = True
    manual: Annotated[bool, Meta(description="Whether it is never matched to an event, only invoked by its id.")] = (
        False
    )
    account_id: Annotated[
        Key | UnsetType, Meta(description="Listen to this external account's events only; made when it is new.")
    ] = UNSET
    timeout_in_seconds: Annotated[
        Patience, Meta(description="`EPHEMERAL`: how long it waits for its event before it is deleted.")
    ] = _HOUR


class WebhookChange(Ours, frozen=True):
    """What to change about the calls of a webhook: what is absent stays, what is null is taken away."""

    url: Annotated[
        str | UnsetType,
        Meta(description="Where to POST every event from now on, those that are still owed too: an http or https URL."),
    ] = UNSET
    headers: Annotated[
        dict[str, str | None] | UnsetType | None,
        Meta(
            description="Headers to set, each beside those that are there or in place of the one of its name; a null value "
            "takes a header away, null all of them. A value that is shown as `***` cannot be sent back.",
            extra_json_schema=_HEADER_CHANGES,
        ),
    ] = UNSET
    timeout_in_seconds: Annotated[
        CallSeconds | UnsetType | None,
        Meta(description="How long one call may take. Null: as long as the service allows."),
    ] = UNSET
    rate_limit: Annotated[
        CallRate | UnsetType | None,
        Meta(description="How many calls a second at the most. Null: as fast as they come."),
    ] = UNSET
    max_concurrency: Annotated[
        CallsAtOnce | UnsetType | None,
        Meta(
            description="How many calls at the same time at the most. Null: as many as the service makes; never more "
            "than that."
        ),
    ] = UNSET
    format: Annotated[WebhookFormat | UnsetType, Meta(description="What the body is.")] = UNSET


class DispatcherChange(Ours, frozen=True):
    """What to change about a dispatcher: what is absent stays, a null filter is taken away."""

    event: Annotated[
        Key | Names | UnsetType, Meta(description="The name it listens to, or several; instead of those before.")
    ] = UNSET
    source: Annotated[Source | UnsetType, Meta(description="The source it listens to.")] = UNSET
    payload_filter: Annotated[Filter | UnsetType | None, Meta(description="What the payload must be like.")] = UNSET
    context_filter: Annotated[Filter | UnsetType | None, Meta(description="What the context must be like.")] = UNSET
    dispatchable: Annotated[
        WebhookChange | UnsetType, Meta(description="What to change about a webhook's calls; its secret stays.")
    ] = UNSET
    enabled: Annotated[bool | UnsetType, Meta(description="Whether it listens.")] = UNSET
    paused: Annotated[
        bool | UnsetType, Meta(description="Whether a webhook's calls wait, and are kept, until this is false again.")
    ] = UNSET
    manual: Annotated[
        bool | UnsetType, Meta(description="Whether it is never matched to an event, only invoked by its id.")
    ] = UNSET


# Plain numbers, because defaults are also shown.
_DAY: Any = 86_400


class RotationBody(Ours, frozen=True):
    """How a webhook's secret gives way to a new one."""

    overlap_in_seconds: Annotated[
        Overlap, Meta(description="How long the secrets before the new one go on signing beside it. 0: they end now.")
    ] = _DAY


class ExplainBody(Ours, frozen=True):
    """An event to be explained: a stored one by its id, or one as it would be sent."""

    event_id: Annotated[str | UnsetType, Meta(description="A stored event, by its sender's id.")] = UNSET
    event: Annotated[EventBody | UnsetType, Meta(description="An event that is not stored.")] = UNSET
    options: Annotated[OptionsBody, Meta(description="Its options: the account counts.")] = OptionsBody()


class TriggerBody(Ours, frozen=True):
    """What starts a job."""

    event: Annotated[
        Key | Names,
        _HEARD,
    ]
    source: Annotated[Source, Meta(description="The source it listens to.")] = words.SOURCE
    filter: Annotated[Filter | UnsetType, Meta(description="What the payload must be like.")] = UNSET
    context_filter: Annotated[Filter | UnsetType, Meta(description="What the context must be like.")] = UNSET


class JobBody(Ours, frozen=True):
    """A version of a job to be registered."""

    id: Annotated[Text, Meta(description="The job's id in its project.")]
    name: Annotated[Text, Meta(description="The job's name, for people.")]
    version: Annotated[SemVer, Meta(description="The version, by semver.org. The highest one is what runs.")]
    trigger: Annotated[TriggerBody, Meta(description="What starts it.")]


class DynamicTriggerBody(Ours, frozen=True):
    """The jobs of a dynamic trigger."""

    jobs: Annotated[list[str], Meta(description="The ids of its jobs, instead of those before.")]


_send = typed.decoder(SendBody)
_bulk = typed.decoder(BulkBody)
_ephemeral = typed.decoder(EphemeralBody)
_explain = typed.decoder(ExplainBody)
parse_dispatcher = typed.decoder(DispatcherBody)
parse_rotation = typed.decoder(RotationBody)
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


def _known(value: Any) -> Any:
    return None if value is UNSET else value


def _json(raw: msgspec.Raw | UnsetType) -> str | None:
    text = "null" if raw is UNSET else bytes(raw).decode()
    return None if text == "null" else text
