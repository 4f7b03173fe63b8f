"""Dispatchers: the rules, checked when they are written, so that none turns out to be broken at delivery."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from kongflow_events import errors, filters, models, outgoing, schemas, settings, vault, words
from kongflow_events.store import db, dispatchers, jobs, targets

# As a dispatchable id it stands in an index, into which it has to fit.
_LONGEST_URL: Final = 2048


class Written(NamedTuple):
    """A dispatcher as it is stored, with what its writer should know about its filters.

    `secret` is a new webhook's own, to be shown once; None when there is nothing to show.
    """

    dispatcher: dispatchers.Listed
    warnings: list[str]
    secret: str | None = None


def create_event_dispatcher(environment: words.Environment, body: schemas.DispatcherBody) -> Written:
    """Store a dispatcher, a webhook with its secret. Raises Invalid (a filter, a target), or Conflict: there is one.

    Takes a unit of work of its own once the URL is looked up, so that no connection waits for a name server.
    """
    warnings = filters.check(
        {"payloadFilter": body.payload_filter, "contextFilter": body.context_filter},
        schemas.name_issues(body.event, "event"),
    )
    warnings += schemas.name_warnings(body.event, "event")
    _check_target(body.dispatchable)
    with db.unit(), db.atomic():
        dispatchable, dispatchable_id = _target(environment, body.dispatchable)
        ephemeral = dispatchable["type"] == words.EPHEMERAL
        columns = {
            "source": body.source,
            "payload_filter": body.payload_filter,
            "context_filter": body.context_filter,
            "manual": body.manual,
            "enabled": body.enabled,
            "dispatchable": dispatchable,
            "dispatchable_id": body.dispatchable_id or dispatchable_id,
            "environment_id": environment.id,
            "external_account_id": _account(environment, body.account_id),
            "one_shot": ephemeral,
        }
        row = _create(columns, schemas.names_of(body.event), body.timeout_in_seconds if ephemeral else None)
        secret = _secret(row, body.dispatchable)
        return Written(dispatchers.with_names([row])[0], warnings, secret)


def create_ephemeral_dispatcher(environment: words.Environment, body: schemas.EphemeralBody) -> models.EventDispatcher:
    """Wait for one event at a URL; a second wait for the same URL returns the first one unchanged, as upstream does.

    Raises Refused (400) with the issues of a URL or a filter that cannot be. Takes a unit of work of its own once the URL is
    looked up.
    """
    try:
        filters.check(
            {"filter": body.filter or None, "contextFilter": body.context_filter or None},
            schemas.name_issues(body.name, "name"),
        )
        _check_url(body.url, "url")
    except errors.Invalid as error:
        raise errors.Refused("Invalid request body", error.issues) from None
    columns = {
        "source": body.source,
        "payload_filter": None if body.filter is msgspec.UNSET else body.filter,
        "context_filter": None if body.context_filter is msgspec.UNSET else body.context_filter,
        "dispatchable": {"type": words.EPHEMERAL, "url": body.url},
        "dispatchable_id": body.url,
        "environment_id": environment.id,
        "one_shot": True,
    }
    with db.unit():
        try:
            with db.atomic():
                account = _account(environment, body.account_id)
                return dispatchers.create(
                    {**columns, "external_account_id": account}, schemas.names_of(body.name), body.timeout_in_seconds
                )
        except dispatchers.AlreadyThere:
            return _found(dispatchers.of_target(environment.id, body.url))


def update_event_dispatcher(
    environment: words.Environment, dispatcher_id: str, change: schemas.DispatcherChange
) -> Written:
    """Change what is given, in one transaction. Raises NotFound, Invalid (a filter, a webhook), or Conflict: there is one.

    Takes a unit of work of its own once a new URL is looked up.

    Whoever enables or disables it, though it was so before, or gives a webhook another URL, lets its target begin anew: no
    failures, no circuit, no rest. A webhook that is paused stays so: its calls wait, and are kept, until it is resumed.
    """
    given = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not msgspec.UNSET}
    event, webhook = given.pop("event", None), given.pop("dispatchable", None)
    paused = given.pop("paused", None)
    warnings = filters.check(
        {"payloadFilter": given.get("payload_filter"), "contextFilter": given.get("context_filter")},
        schemas.name_issues(event or [], "event"),
    )
    warnings += schemas.name_warnings(event or [], "event")
    names = None if event is None else schemas.names_of(event)
    if webhook:
        _check_change(webhook)
    with db.unit(), db.atomic():
        before = _found(dispatchers.hold(environment.id, words.as_id(dispatcher_id)))
        columns = {**given, **(_changed_webhook(before, webhook) if webhook else {})}
        row = _change(before, columns, names)
        if "enabled" in given or row.dispatchable.get("url") != before.dispatchable.get("url"):
            targets.forget(row.id)
        _pause(row, paused)
        return Written(dispatchers.with_names([row])[0], warnings)


def get_event_dispatcher(environment: words.Environment, dispatcher_id: str) -> dispatchers.Listed:
    """The environment's dispatcher of this id; raises NotFound."""
    row = _found(dispatchers.get(environment.id, words.as_id(dispatcher_id)))
    return dispatchers.with_names([row])[0]


def warnings_of(listed: dispatchers.Listed) -> list[str]:
    """What the writer of this dispatcher should know: filters that can never match, names that are odd, and mistakes.

    Only a dispatcher that was written past the service has mistakes; it matches nothing.
    """
    filters_ = {"payloadFilter": listed.row.payload_filter, "contextFilter": listed.row.context_filter}
    try:
        return filters.check(filters_) + schemas.name_warnings(listed.names, "event")
    except errors.Invalid as error:
        return [f"{issue.path}: {issue.message}" for issue in error.issues]


def list_event_dispatchers(
    environment: words.Environment,
    *,
    cursor: uuid.UUID | None = None,
    limit: int = 50,
    event: str | None = None,
    source: str | None = None,
    enabled: bool | None = None,
) -> words.Page[dispatchers.Listed]:
    """The environment's dispatchers, newest first, going on where a page ended (its `next` is the `cursor`)."""
    found = dispatchers.newest(environment.id, cursor, limit, event=event, source=source, enabled=enabled)
    return words.Page(dispatchers.with_names(found.items), found.next)


def delete_event_dispatcher(environment: words.Environment, dispatcher_id: str) -> None:
    """Delete a dispatcher; what it matched before stays, and is skipped if it was not carried out. Raises NotFound."""
    if not dispatchers.delete(environment.id, words.as_id(dispatcher_id)):
        raise errors.NotFound("Dispatcher not found")


def _found(row: models.EventDispatcher | None) -> models.EventDispatcher:
    if row is None:
        raise errors.NotFound("Dispatcher not found")
    return row


def _create(columns: dict[str, Any], names: Sequence[str], seconds: int | None) -> models.EventDispatcher:
    try:
        return dispatchers.create(columns, names, seconds)
    except dispatchers.AlreadyThere:
        raise errors.Conflict(
            f"A dispatcher for {columns['dispatchable_id']} exists; change it, or name another dispatchableId"
        ) from None


def _change(
    before: models.EventDispatcher, columns: dict[str, Any], names: Sequence[str] | None
) -> models.EventDispatcher:
    try:
        return _found(dispatchers.change(before.environment_id, before.id, columns, names))
    except dispatchers.AlreadyThere:
        raise errors.Conflict(f"A dispatcher for {columns['dispatchable_id']} exists") from None


def _pause(row: models.EventDispatcher, paused: bool | None) -> None:
    if paused is None:
        return
    if row.dispatchable["type"] != words.WEBHOOK:
        raise errors.Invalid(errors.Issue("custom", "paused", "Only a WEBHOOK's calls can wait; disable it instead"))
    (targets.pause if paused else targets.resume)(row.id)


def _secret(row: models.EventDispatcher, body: schemas.DispatchableBody) -> str | None:
    if body.type != words.WEBHOOK:
        return None
    kind = "hmac" if body.signing is msgspec.UNSET else body.signing
    return vault.keep(row.id, kind, None if body.secret is msgspec.UNSET else body.secret).secret


def _check_target(body: schemas.DispatchableBody) -> None:
    """What can be said of a dispatchable whatever is stored."""
    if body.type == words.WEBHOOK:
        _check_given_url(body.url)
        issues = schemas.webhook_issues(body, "dispatchable", settings.current().post_timeout)
    else:
        issues = schemas.foreign_fields(body, "dispatchable")
    if issues:
        raise errors.Invalid(*issues)
    if body.type == words.EPHEMERAL:
        _check_given_url(body.url)


def _target(environment: words.Environment, body: schemas.DispatchableBody) -> tuple[dict[str, Any], str]:
    """A dispatchable that was checked as it is stored, and the id that tells whether there is one for it already."""
    if body.type == words.WEBHOOK:
        made = schemas.webhook_settings(body)
        return made, _webhook_id(made["url"])
    if body.type == words.EPHEMERAL:
        return {"type": body.type, "url": body.url}, str(body.url)
    if body.id is msgspec.UNSET:
        raise errors.Invalid(errors.Issue("invalid_type", "dispatchable.id", "Required"))
    known = jobs.target_id(environment.id, body.type, body.id)
    if known is None:
        raise errors.Invalid(errors.Issue("custom", "dispatchable.id", f"No {body.type} of this id in the environment"))
    return {"type": body.type, "id": body.id}, str(known)


def _webhook_id(url: str) -> str:
    """Which webhook it is, unless its writer says: beside a wait for one event at the same URL, and not in place of it."""
    return f"webhook {url}"


def _check_change(change: schemas.WebhookChange) -> None:
    if change.url is not msgspec.UNSET:
        _check_url(change.url, "dispatchable.url")
    if issues := schemas.webhook_change_issues(change, "dispatchable", settings.current().post_timeout):
        raise errors.Invalid(*issues)


def _changed_webhook(before: models.EventDispatcher, change: schemas.WebhookChange) -> dict[str, Any]:
    """The columns of a webhook that a change of its calls changes: it stays the one for its URL if it was that."""
    if before.dispatchable["type"] != words.WEBHOOK:
        raise errors.Invalid(errors.Issue("custom", "dispatchable", "Only a WEBHOOK's calls can be changed"))
    changed = schemas.changed_webhook(before.dispatchable, change, "dispatchable")
    if before.dispatchable_id != _webhook_id(before.dispatchable["url"]):
        return {"dispatchable": changed}
    return {"dispatchable": changed, "dispatchable_id": _webhook_id(changed["url"])}


def _check_given_url(url: str | msgspec.UnsetType) -> None:
    if url is msgspec.UNSET:
        raise errors.Invalid(errors.Issue("invalid_type", "dispatchable.url", "Required"))
    _check_url(url, "dispatchable.url")


def _check_url(url: str, path: str) -> None:
    if len(url.encode()) > _LONGEST_URL:
        raise errors.Invalid(errors.Issue("too_big", path, f"The URL must not be longer than {_LONGEST_URL} bytes"))
    outgoing.check_url(url, settings.current().networks, path=path)


def _account(environment: words.Environment, identifier: Any) -> uuid.UUID | None:
    return dispatchers.account_id(environment, identifier) if identifier else None
