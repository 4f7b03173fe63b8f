"""Notices: what the service itself has to tell, as events of the source `kongflow` that dispatchers can listen to.

They are written in the transaction of what they tell of, and only where a dispatcher of the environment listens to that
source. None makes another: a notice is not delivered to the dispatcher it is about, and one that dies is not told of.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

import msgspec

from kongflow_events.store import notices

DISABLED: Final = "kongflow.dispatcher.disabled"
DEAD: Final = "kongflow.invocation.dead"


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was to be set off. Of a URL only its beginning, because the rest of it may be a secret."""

    type: str
    id: str | None = None
    origin: str | None = None


class Disabled(msgspec.Struct, frozen=True, rename="camel"):
    """The payload of DISABLED."""

    dispatcher_id: uuid.UUID
    reason: str | None
    target: Target


class Dead(msgspec.Struct, frozen=True, rename="camel"):
    """The payload of DEAD."""

    invocation_id: uuid.UUID
    dispatcher_id: uuid.UUID
    event_id: str
    event_name: str
    attempts: int
    reason: str | None
    target: Target


def tell_of_dead(ids: Collection[uuid.UUID]) -> None:
    """Tell of those of the invocations `ids` that have died in this transaction."""
    for one in notices.dead(ids):
        target = Target(one.type, one.target, _origin(one.url))
        said = Dead(
            one.invocation_id, one.dispatcher_id, one.event_id, one.event_name, one.attempts, one.reason, target
        )
        notices.write(one.environment_id, DEAD, msgspec.json.encode(said).decode())


def tell_of_disabled(dispatcher_id: uuid.UUID) -> None:
    """Tell that the service has disabled this dispatcher in this transaction."""
    one = notices.disabled(dispatcher_id)
    if one is not None:
        said = Disabled(one.dispatcher_id, one.reason, Target(one.type, origin=_origin(one.url)))
        notices.write(one.environment_id, DISABLED, msgspec.json.encode(said).decode())


def _origin(url: str | None) -> str | None:
    """Where a URL leads, without its path and its query, and without what no stored URL should have: a password."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
