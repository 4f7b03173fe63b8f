"""The words of the house that are not tables: kinds of work, ids, who is asking, pages, hints."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import msgspec
from ulid_transform import ulid_now
from uuid_utils import compat as uuids

Item = TypeVar("Item")
Kind = Literal["deliver", "invoke", "post"]
KINDS: Final[tuple[Kind, ...]] = ("deliver", "invoke", "post")

# Where an event comes from, and what a dispatcher listens to, when nothing is said.
SOURCE: Final = "trigger.dev"
# Where the events come from that the service itself makes.
OWN_SOURCE: Final = "kongflow"

JOB_VERSION: Final = "JOB_VERSION"
DYNAMIC_TRIGGER: Final = "DYNAMIC_TRIGGER"
EPHEMERAL: Final = "EPHEMERAL"
WEBHOOK: Final = "WEBHOOK"
# Carried out by calling a URL; the others are carried out inside PostgreSQL.
URL_TYPES: Final = frozenset({EPHEMERAL, WEBHOOK})

# What an invocation is doing, or how it ended; schema.sql says what each means.
InvocationStatus = Literal["PENDING", "SUCCEEDED", "DEAD", "SKIPPED", "CANCELED"]

# What a failed attempt died of; schema.sql says what each means.
ErrorClass = Literal["refused", "unreachable", "timeout", "blocked", "failed", "missing", "lost"]

FINAL_RUN_STATUSES: Final = frozenset(
    {"SUCCESS", "FAILURE", "TIMED_OUT", "ABORTED", "CANCELED", "UNRESOLVED_AUTH", "INVALID_PAYLOAD"}
)


class Standing(NamedTuple):
    """How a stored event stands (`pending`, `delivered`, `unmatched`, `cancelled`, `dead`), and whose it is."""

    state: str
    # The identifier of its external account.
    account: str | None


def state_of(*, cancelled: bool, delivered: bool, owed: bool, dead: bool) -> str:
    """The word for how an event stands: `owed` says that its delivery is, `dead` that this has used up its attempts."""
    if cancelled:
        return "cancelled"
    if delivered:
        return "delivered"
    if not owed:
        return "unmatched"
    return "dead" if dead else "pending"


class Counts(msgspec.Struct, frozen=True):
    """What came in during one slot of time, and what has become of it."""

    received: int = 0
    delivered: int = 0
    invocations: int = 0
    failed: int = 0
    dead: int = 0

    def plus(self, **counts: int) -> Counts:
        """These, and some more."""
        return msgspec.structs.replace(self, **{name: getattr(self, name) + more for name, more in counts.items()})


def new_id() -> uuid.UUID:
    """A fresh row id in UUIDv7 form (RFC 9562): grows with time, also within one millisecond of one process."""
    return uuids.uuid7()


def first_id_at(at: datetime) -> uuid.UUID:
    """Below every id that was made at this time or later, above every one that was made a millisecond before."""
    return uuid.UUID(int=max(int(at.timestamp() * 1000), 0) << 80)


def made_at(row_id: uuid.UUID) -> datetime:
    """When an id of ours was made, to the millisecond."""
    return datetime.fromtimestamp((row_id.int >> 80) / 1000, UTC)


def new_event_id() -> str:
    """The id of an event whose sender gave none: a ULID, 26 characters, as SDK 2.3.18's server made it."""
    return ulid_now()


def as_id(text: str | None) -> uuid.UUID:
    """A row id from a URL or from a stored target; one that is missing or cannot exist becomes one that nothing has."""
    text = text or ""
    try:
        found = uuid.UUID(text)
    except ValueError:
        return uuid.UUID(int=0)
    # The library reads braces, prefixes and bare digits too; an id has one spelling.
    return found if str(found) == text.lower() else uuid.UUID(int=0)


def why_skipped(enabled: bool | None, expired: bool | None) -> str | None:
    """Why a dispatcher's invocation is not carried out any more: `enabled` is None when it is gone. None if it is."""
    if enabled is None:
        return "the dispatcher was deleted"
    if not enabled:
        return "the dispatcher is disabled"
    return "the dispatcher has expired" if expired else None


class Environment(msgspec.Struct, frozen=True):
    """Whose request this is: what a verified key stands for."""

    id: uuid.UUID
    organization_id: uuid.UUID
    project_id: uuid.UUID
    slug: str
    runs_enabled: bool = True


class HintBatch(msgspec.Struct, frozen=True):
    """One message to be: ids of rows that are due, as texts; `alone` asks that each be taken alone."""

    ids: tuple[str, ...]
    alone: bool = False


class Page(NamedTuple, Generic[Item]):
    """A stretch of a list, newest first; `next` is the id to go on before, or None at the end."""

    items: list[Item]
    next: uuid.UUID | None
