"""Calls of URL targets, as requests: the body, the headers, and what signs them.

A body is made of what is stored, so that it is the same on every attempt: the sender's own payload bytes inside upstream's
envelope, or inside a CloudEvent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from kongflow_events import errors, masking, models, outgoing, schemas, sealing, settings, signing, vault, words
from kongflow_events.schemas import cloudevents
from kongflow_events.store import posts

_JSON = "application/json; charset=utf-8"
_CLOUDEVENT = f"{cloudevents.STRUCTURED}; charset=utf-8"


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a URL target receives, keys in this order; without an account there is no `accountId`."""

    id: str
    source: str
    name: str
    payload: msgspec.Raw
    context: msgspec.Raw
    timestamp: str
    accountId: str | None = None  # noqa: N815 - the wire's name


class Call(NamedTuple):
    """A request to be made: `timeout` is in seconds."""

    url: str
    headers: dict[str, str]
    body: bytes
    timeout: float

    @property
    def shown_headers(self) -> dict[str, str]:
        """The headers without their secrets."""
        return masking.headers(self.headers)

    def shown(self, text: str) -> str:
        """What the target says, without the secrets that it was sent."""
        return masking.text(text, self.headers)


def prepare(claimed: posts.Claimed, traceparent: str | None = None) -> Call:
    """The request of a claimed invocation, signed as of now when its target is a webhook, and part of a trace or of none.

    Raises Final when there is no URL or its event cannot be what the webhook asks for, Unopenable when its secret cannot
    be read.
    """
    target = claimed.dispatchable
    if "url" not in target:
        # Only a row that was written past the service can be here.
        raise errors.Final("the dispatcher has no URL to call")
    content_type, body = _body(claimed)
    most = settings.current().post_timeout
    return Call(
        url=target["url"],
        headers={
            **target.get("headers", {}),
            **({"traceparent": traceparent} if traceparent else {}),
            "Content-Type": content_type,
            **_identified(claimed, body),
        },
        body=body,
        timeout=min(most, target.get("timeoutInSeconds", most)),
    )


def make(call: Call) -> outgoing.Answer:
    """Make the request; raises CallFailed when no complete answer came."""
    return outgoing.post(
        call.url,
        headers=call.headers,
        body=call.body,
        timeout=call.timeout,
        allowed=settings.current().networks,
    )


def _identified(claimed: posts.Claimed, body: bytes) -> dict[str, str]:
    if claimed.dispatchable["type"] != words.WEBHOOK:
        return {signing.ID: str(claimed.id)}
    if not claimed.sealed_secrets:
        raise sealing.Unopenable("the webhook has no secret to sign with")
    secrets = vault.opened(claimed.dispatcher_id, claimed.sealed_secrets)
    # Not by this machine's clock: receivers take no call that is minutes off, and every machine may have a clock of its own.
    return signing.headers(secrets, str(claimed.id), int(claimed.calls_at), body)


def _body(claimed: posts.Claimed) -> tuple[str, bytes]:
    """The content type and the bytes."""
    if claimed.dispatchable.get("format") == "cloudevent":
        return _CLOUDEVENT, _cloud_event(claimed)
    return _JSON, _event(claimed)


def _event(claimed: posts.Claimed) -> bytes:
    return msgspec.json.encode(
        Body(
            id=claimed.event_id,
            source=claimed.source,
            name=claimed.name,
            payload=msgspec.Raw(claimed.payload_raw),
            context=msgspec.Raw(claimed.context or "{}"),
            timestamp=schemas.iso(claimed.timestamp),
            accountId=claimed.account,
        )
    )


def _cloud_event(claimed: posts.Claimed) -> bytes:
    record = models.EventRecord(
        event_id=claimed.event_id,
        source=claimed.source,
        name=claimed.name,
        timestamp=claimed.timestamp,
        payload_raw=claimed.payload_raw,
        payload=_decoded(claimed.payload_raw),
        context=_decoded(claimed.context or "{}"),
    )
    found = cloudevents.cloud_events([record])
    if not found:
        raise errors.Final(
            "the event cannot be a CloudEvent: its id, name or source is empty or holds control characters"
        )
    account = {} if claimed.account is None else {"accountid": claimed.account}
    return msgspec.json.encode({**account, **found[0]})


def _decoded(text: str) -> Any:
    return msgspec.json.decode(text)
