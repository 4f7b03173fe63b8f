"""Response bodies, as types: keys in upstream's order."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kongflow_events import filters, words
from kongflow_events.schemas.requests import DispatchableType, Filter, WebhookFormat
from kongflow_events.signing import Kind as SigningKind

Date = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
# Upstream's client throws at any other word.
RunStatus = Literal[
    "PENDING",
    "QUEUED",
    "WAITING_ON_CONNECTIONS",
    "PREPROCESSING",
    "STARTED",
    "EXECUTING",
    "WAITING_TO_CONTINUE",
    "WAITING_TO_EXECUTE",
    "SUCCESS",
    "FAILURE",
    "TIMED_OUT",
    "ABORTED",
    "CANCELED",
    "UNRESOLVED_AUTH",
    "INVALID_PAYLOAD",
]
ReasonCode = Literal[
    "name",
    "source",
    "account",
    "disabled",
    "manual",
    "notice",
    "expired",
    "request",
    "brokenFilter",
    "payloadFilter",
    "contextFilter",
    "cancelled",
    "dead",
    "pending",
    "registeredLater",
    "changedLater",
]
EventState = Literal["pending", "delivered", "unmatched", "cancelled", "dead"]
TargetState = Literal["closed", "open", "halfOpen", "disabled"]
_STARTED = Meta(description="When it began; null before.")
_COMPLETED = Meta(description="When it ended; null before.")
_UPDATED = Meta(description="When it last changed.")
_STATUS = Meta(description="What it is doing, or how it ended. The first version of the API calls all doing `STARTED`.")
_WARNINGS = Meta(description="What its writer should know: filters that can never match.")


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What an answer looks like; keys in camel case, in the order of the fields."""


class EventLog(Answer, frozen=True):
    """An event as its sender sees it."""

    id: Annotated[str, Meta(description="The event's id, as its sender gave it.")]
    name: Annotated[str, Meta(description="What happened.")]
    payload: Annotated[msgspec.Raw, Meta(description="The payload, as the bytes that were sent.")]
    context: Annotated[Any, Meta(description="The context.")]
    timestamp: Annotated[Date, Meta(description="When it happened.")]
    deliver_at: Annotated[Date, Meta(description="When it is to be delivered, or was.")]
    delivered_at: Annotated[
        Date | None,
        Meta(description="When it was matched with dispatchers; null before, and as long as none listens to it."),
    ]
    cancelled_at: Annotated[Date | None, Meta(description="When it was cancelled; null if it was not.")]


class ListedEvent(EventLog, frozen=True):
    """An event in a list: with what its sender gave beside it, and how it stands."""

    source: Annotated[str, Meta(description="Where it comes from.")]
    payload_type: Annotated[Literal["JSON", "REQUEST"], Meta(description="What its payload is.")]
    account_id: Annotated[str | None, Meta(description="The external account that it is about.")]
    created_at: Annotated[Date, Meta(description="When it was stored.")]
    state: Annotated[
        EventState,
        Meta(
            description="`pending` until its delivery is done; then `delivered`, or `unmatched` when it went to nobody, or "
            "`dead` when its delivery has used up its attempts. `cancelled` whatever came before."
        ),
    ]


# Of one event, or of a batch of CloudEvents.
SentAnswer = EventLog | list[EventLog]


class EventRun(Answer, frozen=True):
    """A run, as an event names it."""

    id: Annotated[uuid.UUID, Meta(description="The run's id.")]
    status: Annotated[RunStatus, _STATUS]
    started_at: Annotated[Date | None, _STARTED]
    completed_at: Annotated[Date | None, _COMPLETED]


class Event(Answer, frozen=True):
    """An event and its runs."""

    id: Annotated[str, Meta(description="The event's id, as its sender gave it.")]
    name: Annotated[str, Meta(description="What happened.")]
    created_at: Annotated[Date, Meta(description="When it was stored.")]
    updated_at: Annotated[Date, _UPDATED]
    runs: Annotated[list[EventRun], Meta(description="The runs it started, in the order they were made.")]


class CancelledRuns(Answer, frozen=True):
    """Which of an event's runs were cancelled."""

    cancelled_run_ids: Annotated[list[uuid.UUID], Meta(description="The runs that were cancelled now.")]
    failed_to_cancel_run_ids: Annotated[list[uuid.UUID], Meta(description="The runs that could not be.")]


class JobRun(Answer, frozen=True):
    """A run in the list of its job."""

    id: Annotated[uuid.UUID, Meta(description="The run's id.")]
    status: Annotated[RunStatus, _STATUS]
    started_at: Annotated[Date | None, _STARTED]
    updated_at: Annotated[Date, _UPDATED]
    completed_at: Annotated[Date | None, _COMPLETED]


class JobRuns(Answer, frozen=True):
    """One page of a job's runs, newest first."""

    runs: Annotated[list[JobRun], Meta(description="The runs.")]
    next_cursor: Annotated[str | UnsetType, Meta(description="Where to go on; absent at the end.")] = UNSET


class Run(Answer, frozen=True):
    """A run by itself."""

    id: Annotated[uuid.UUID, Meta(description="The run's id.")]
    status: Annotated[RunStatus, _STATUS]
    started_at: Annotated[Date | None, _STARTED]
    updated_at: Annotated[Date, _UPDATED]
    completed_at: Annotated[Date | None, _COMPLETED]
    output: Annotated[Any, Meta(description="What it came to, as JSON; null before.")]
    # Both come with executing runs.
    tasks: Annotated[list[Any], Meta(description="Its tasks; none yet.")]
    statuses: Annotated[list[Any], Meta(description="What it reports of itself; nothing yet.")]


class RunOutput(Answer, frozen=True):
    """What a run came to."""

    id: Annotated[uuid.UUID, Meta(description="The run's id.")]
    status: Annotated[RunStatus, _STATUS]
    output: Annotated[Any, Meta(description="What it came to, as JSON; null before.")]


class RunStatuses(Answer, frozen=True):
    """What a run reports of itself."""

    run: Annotated[RunOutput, Meta(description="The run.")]
    statuses: Annotated[list[Any], Meta(description="What it reports; nothing yet.")]


class Dispatchable(Answer, frozen=True):
    """What a dispatcher sets off."""

    type: Annotated[DispatchableType, Meta(description="What kind it is.")]
    id: Annotated[str | UnsetType, Meta(description="The job version or dynamic trigger.")] = UNSET
    url: Annotated[str | UnsetType, Meta(description="The URL that is called.")] = UNSET
    format: Annotated[WebhookFormat | UnsetType, Meta(description="What a webhook's body is.")] = UNSET
    headers: Annotated[
        dict[str, str] | UnsetType,
        Meta(description="A webhook's own headers; values that may be secrets are `***`."),
    ] = UNSET
    timeout_in_seconds: Annotated[
        int | UnsetType, Meta(description="How long one call may take; absent: as long as the service allows.")
    ] = UNSET
    rate_limit: Annotated[int | UnsetType, Meta(description="Calls a second at the most; absent: no limit.")] = UNSET
    max_concurrency: Annotated[
        int | UnsetType,
        Meta(description="Calls at the same time; absent: as many as the service makes; never more than that."),
    ] = UNSET


class Signing(Answer, frozen=True):
    """What signs a webhook's calls now."""

    kind: Annotated[SigningKind, Meta(description="What kind of secret it is.")]
    public_key: Annotated[
        str | None,
        Meta(description="What verifies a signature of kind `ed25519`, `whpk_…`; null: only the secret does."),
    ]


class Target(Answer, frozen=True):
    """How the receiver of a dispatcher's calls is doing."""

    state: Annotated[
        TargetState,
        Meta(
            description="Its circuit: `closed`, calls are made; `open`, none is; `halfOpen`, one call decides. "
            "`disabled`: the service has disabled the dispatcher."
        ),
    ]
    consecutive_failures: Annotated[int, Meta(description="Calls that failed in a row, up to the last one.")]
    failing_since: Annotated[Date | None, Meta(description="When the first of these had failed; null: none did.")]
    opened_at: Annotated[Date | None, Meta(description="When its circuit opened; null: it is closed.")]
    resumes_at: Annotated[
        Date | None,
        Meta(description="When it is called again: its circuit or a `Retry-After` says so; null: any time."),
    ]
    disabled_at: Annotated[Date | None, Meta(description="When the service disabled the dispatcher; null: it did not.")]
    disabled_reason: Annotated[str | None, Meta(description="Why it did.")]
    paused_at: Annotated[
        Date | None, Meta(description="Since when its calls wait because somebody paused it; null: they do not.")
    ]


class Dispatcher(Answer, frozen=True):
    """A dispatcher."""

    id: Annotated[uuid.UUID, Meta(description="The dispatcher's id.")]
    event: Annotated[list[str], Meta(description="The names it listens to.")]
    source: Annotated[str, Meta(description="The source it listens to.")]
    payload_filter: Annotated[Filter | None, Meta(description="What the payload must be like; null asks nothing.")]
    context_filter: Annotated[Filter | None, Meta(description="What the context must be like; null asks nothing.")]
    dispatchable: Annotated[Dispatchable, Meta(description="What it sets off.")]
    dispatchable_id: Annotated[str, Meta(description="What tells it apart from others in the environment.")]
    enabled: Annotated[bool, Meta(description="Whether it listens.")]
    manual: Annotated[bool, Meta(description="Whether it is never matched to an event, only invoked by its id.")]
    account_id: Annotated[str | None, Meta(description="The external account whose events it listens to; null: all.")]
    one_shot: Annotated[bool, Meta(description="Whether it goes away with its first event.")]
    expires_at: Annotated[Date | None, Meta(description="When it goes away by itself; null: never.")]
    target: Annotated[
        Target | None, Meta(description="How its receiver is doing; null: it has made no call, or makes only one.")
    ]
    created_at: Annotated[Date, Meta(description="When it was written.")]
    updated_at: Annotated[Date, _UPDATED]
    warnings: Annotated[list[str], _WARNINGS]
    signing: Annotated[Signing | UnsetType, Meta(description="What signs the calls; only a webhook has it.")] = UNSET
    secret: Annotated[
        str | UnsetType,
        Meta(description="A new webhook's secret of kind `hmac`, `whsec_…`: only here, and never shown again."),
    ] = UNSET


class NewSecret(Answer, frozen=True):
    """The secret that signs a webhook's calls from now on."""

    dispatcher_id: Annotated[uuid.UUID, Meta(description="The webhook's dispatcher.")]
    signing: Annotated[Signing, Meta(description="What signs the calls.")]
    secret: Annotated[
        str | None,
        Meta(description="The secret of kind `hmac`, `whsec_…`, shown only here; null: a public key will do."),
    ]
    others_until: Annotated[Date | None, Meta(description="When the secrets before it end; null: they have.")]


class DispatcherId(Answer, frozen=True):
    """Which dispatcher it is, or was."""

    id: Annotated[uuid.UUID, Meta(description="The dispatcher's id.")]


class Reason(Answer, frozen=True):
    """Why an event did not reach a dispatcher, or would not."""

    code: Annotated[ReasonCode, Meta(description="The reason, for programs.")]
    message: Annotated[str, Meta(description="The reason, for people.")]


class InvocationState(Answer, frozen=True):
    """How far an invocation is."""

    id: Annotated[uuid.UUID, Meta(description="The invocation's id.")]
    status: Annotated[words.InvocationStatus, Meta(description="What it is doing, or how it ended.")]
    reason: Annotated[str | None, Meta(description="Why it was skipped, died or was cancelled.")]
    attempts: Annotated[int, Meta(description="Attempts so far, in this round.")]
    last_error: Annotated[str | None, Meta(description="What its last failed attempt came to.")]


class Explanation(Answer, frozen=True):
    """What a dispatcher makes of an event, as both are now, and what became of a stored event there."""

    dispatcher_id: Annotated[uuid.UUID, Meta(description="The dispatcher's id.")]
    event_id: Annotated[str | None, Meta(description="The stored event's id; null for one that was described.")]
    matches: Annotated[bool, Meta(description="Whether the dispatcher takes the event.")]
    reasons: Annotated[list[Reason], Meta(description="All that speaks against it, then what became of the event.")]
    payload_filter: Annotated[filters.Check | None, Meta(description="The payload filter; null asks nothing.")]
    context_filter: Annotated[filters.Check | None, Meta(description="The context filter; null asks nothing.")]
    invocation: Annotated[InvocationState | None, Meta(description="The stored event's invocation for the dispatcher.")]


class Job(Answer, frozen=True):
    """What registering a job came to."""

    id: Annotated[str, Meta(description="The job's id.")]
    name: Annotated[str, Meta(description="The job's name.")]
    version: Annotated[str, Meta(description="The version that was registered.")]
    version_id: Annotated[uuid.UUID, Meta(description="What a dispatchable of type `JOB_VERSION` names.")]
    latest: Annotated[str, Meta(description="The version that runs: the highest one.")]
    dispatcher_id: Annotated[
        uuid.UUID | None, Meta(description="The dispatcher that starts it; null if it was deleted.")
    ]
    warnings: Annotated[list[str], _WARNINGS]


class DynamicTrigger(Answer, frozen=True):
    """A dynamic trigger and its jobs."""

    id: Annotated[str, Meta(description="The trigger's id, as its writer gave it.")]
    trigger_id: Annotated[uuid.UUID, Meta(description="What a dispatchable of type `DYNAMIC_TRIGGER` names.")]
    jobs: Annotated[list[str], Meta(description="The ids of its jobs.")]


_NEXT = Meta(description="Where to go on; null at the end.")


class EventPage(Answer, frozen=True):
    """One page of events, newest first."""

    data: Annotated[list[ListedEvent], Meta(description="The events.")]
    next_cursor: Annotated[str | None, _NEXT]


class DispatcherPage(Answer, frozen=True):
    """One page of dispatchers, newest first."""

    data: Annotated[list[Dispatcher], Meta(description="The dispatchers.")]
    next_cursor: Annotated[str | None, _NEXT]


Html = Annotated[str, Meta(description="A page.")]
Exposition = Annotated[str, Meta(description="Numbers in Prometheus' text form.")]
Css = Annotated[str, Meta(description="A stylesheet.")]


class Alive(Answer, frozen=True):
    """A process that answers."""

    status: Annotated[Literal["ok"], Meta(description="Always `ok`.")] = "ok"


class Ready(Answer, frozen=True):
    """Whether the service can do its work."""

    ready: Annotated[bool, Meta(description="Whether nothing is missing.")]
    checks: Annotated[dict[str, str], Meta(description="What was looked at: `ok`, or what is wrong with it.")]
    relay_age_seconds: Annotated[
        float | None, Meta(description="How long ago the relay gave a sign of life; null when nobody knows.")
    ]
