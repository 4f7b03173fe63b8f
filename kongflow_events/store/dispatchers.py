"""Dispatchers and their names, which change together."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import peewee

from kongflow_events import circuits, models, patterns, words
from kongflow_events.store import db

_UNIQUE = "event_dispatchers_dispatchable_id_environment_id_key"

# An account that a dispatcher waits for may not have sent an event yet.
_ACCOUNT = """
INSERT INTO external_accounts (id, organization_id, environment_id, identifier)
VALUES (%(id)s, %(organization)s, %(environment)s, %(identifier)s)
ON CONFLICT (environment_id, identifier) DO UPDATE SET identifier = EXCLUDED.identifier
RETURNING id
"""

_NAMES = """
SELECT dispatchers.id, accounts.identifier AS account, secrets.public_key, targets.dispatcher_id IS NOT NULL AS called,
       targets.failures, targets.failing_since, targets.opened_at, targets.pauses, targets.rests_until, targets.disabled_at,
       targets.disabled_reason, targets.paused_at, COALESCE(targets.rests_until > now(), FALSE) AS rests,
       array(SELECT name FROM event_dispatcher_names AS names
              WHERE names.dispatcher_id = dispatchers.id ORDER BY name <> dispatchers.event, name) AS names
  FROM event_dispatchers AS dispatchers
  LEFT JOIN external_accounts AS accounts ON accounts.id = dispatchers.external_account_id
  LEFT JOIN targets ON targets.dispatcher_id = dispatchers.id
  LEFT JOIN webhook_secrets AS secrets ON secrets.dispatcher_id = dispatchers.id AND secrets.expires_at IS NULL
 WHERE dispatchers.id = ANY(%s)
"""


class AlreadyThere(Exception):
    """The environment has a dispatcher for this dispatchable id."""


class Listed(NamedTuple):
    """A dispatcher with all its names, the first one first, the account it waits for, and what verifies its calls.

    `standing` is how its target stands, None when it calls no URL, or has not called one yet; `rests` says that nobody
    calls the target now, `paused_at` since when an operator has it so; None: he does not.
    """

    row: models.EventDispatcher
    names: list[str]
    account: str | None
    public_key: str | None
    standing: circuits.Standing | None
    rests: bool
    paused_at: datetime | None


def account_id(environment: words.Environment, identifier: str) -> uuid.UUID:
    """The external account of this identifier, made when it is new."""
    parameters = {
        "id": words.new_id(),
        "organization": environment.organization_id,
        "environment": environment.id,
        "identifier": identifier,
    }
    found: uuid.UUID = db.rows(_ACCOUNT, parameters)[0]["id"]
    return found


def create(columns: Mapping[str, Any], names: Sequence[str], seconds: int | None = None) -> models.EventDispatcher:
    """Store a dispatcher with its names; it expires after `seconds`, or never. Raises AlreadyThere.

    To be called in a transaction, which is useless after AlreadyThere.
    """
    expires = {} if seconds is None else {"expires_at": _in(seconds)}
    with _unique():
        made = models.EventDispatcher.create(event=names[0] if names else "", **columns, **expires)
    _name(made, names)
    return models.EventDispatcher.get_by_id(made.id)


def change(
    environment_id: uuid.UUID, dispatcher_id: uuid.UUID, columns: Mapping[str, Any], names: Sequence[str] | None
) -> models.EventDispatcher | None:
    """Change a dispatcher's columns, and its names unless None; None when there is no such dispatcher here.

    Raises AlreadyThere. To be called in a transaction, which is useless after AlreadyThere.
    """
    table = models.EventDispatcher
    mine = (table.id == dispatcher_id) & (table.environment_id == environment_id)
    changed = {**columns, **({} if names is None else {"event": names[0]})}
    # An update even when nothing is given: it locks the row against a change of its names at the same time.
    with _unique():
        found = table.update(**(changed or {"enabled": table.enabled})).where(mine).execute()
    if not found:
        return None
    row = table.get_by_id(dispatcher_id)
    if names is not None or "source" in columns:
        [listed] = with_names([row])
        models.EventDispatcherName.delete().where(models.EventDispatcherName.dispatcher_id == row.id).execute()
        _name(row, listed.names if names is None else names)
    return row


def get(environment_id: uuid.UUID, dispatcher_id: uuid.UUID) -> models.EventDispatcher | None:
    """The environment's dispatcher of this id."""
    table = models.EventDispatcher
    return table.get_or_none((table.id == dispatcher_id) & (table.environment_id == environment_id))


def hold(environment_id: uuid.UUID, dispatcher_id: uuid.UUID) -> models.EventDispatcher | None:
    """The environment's dispatcher of this id, which nobody else changes or deletes until the transaction ends."""
    db.run(
        "SELECT FROM event_dispatchers WHERE id = %s AND environment_id = %s FOR NO KEY UPDATE",
        (dispatcher_id, environment_id),
    )
    return get(environment_id, dispatcher_id)


def of_target(environment_id: uuid.UUID, dispatchable_id: str) -> models.EventDispatcher | None:
    """The environment's dispatcher for this dispatchable id."""
    table = models.EventDispatcher
    return table.get_or_none((table.dispatchable_id == dispatchable_id) & (table.environment_id == environment_id))


def known(environment_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, bool]:
    """Those of `ids` that are dispatchers of the environment, and whether each waits for one event only."""
    table = models.EventDispatcher
    mine = table.id.in_(ids) & (table.environment_id == environment_id)
    return {row.id: row.one_shot for row in table.select(table.id, table.one_shot).where(mine)}


def newest(
    environment_id: uuid.UUID,
    before: uuid.UUID | None,
    limit: int,
    *,
    event: str | None,
    source: str | None,
    enabled: bool | None,
) -> words.Page[models.EventDispatcher]:
    """The environment's dispatchers, newest first, from just before `before`; those that hear `event` from `source`."""
    table, names = models.EventDispatcher, models.EventDispatcherName
    query = table.select().where(table.environment_id == environment_id)
    if before is not None:
        query = query.where(table.id < before)
    if enabled is not None:
        query = query.where(table.enabled == enabled)
    if source is not None:
        query = query.where(table.source == source)
    if event is not None:
        listening = names.select(names.dispatcher_id).where(
            (names.environment_id == environment_id) & names.name.in_(patterns.heard_by(event))
        )
        query = query.where(table.id.in_(listening))
    found = list(query.order_by(table.id.desc()).limit(limit + 1))
    return words.Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def with_names(rows: Sequence[models.EventDispatcher]) -> list[Listed]:
    """The dispatchers with all their names, their accounts, and their public keys."""
    known = {row["id"]: row for row in db.rows(_NAMES, ([row.id for row in rows],))}
    return [_listed(row, known[row.id]) for row in rows]


def _listed(row: models.EventDispatcher, known: db.Row) -> Listed:
    fields = circuits.Standing.__struct_fields__
    standing = circuits.Standing(**{field: known[field] for field in fields}) if known["called"] else None
    return Listed(
        row, known["names"], known["account"], known["public_key"], standing, known["rests"], known["paused_at"]
    )


def delete(environment_id: uuid.UUID, dispatcher_id: uuid.UUID) -> bool:
    """Delete a dispatcher and its names; False when there is none here. Its invocations stay."""
    table = models.EventDispatcher
    mine = (table.id == dispatcher_id) & (table.environment_id == environment_id)
    return bool(table.delete().where(mine).execute())


def delete_expired(limit: int) -> int:
    """Delete up to `limit` dispatchers whose time is over, but none that somebody holds; returns how many."""
    return db.run(
        """DELETE FROM event_dispatchers WHERE id IN (
               SELECT id FROM event_dispatchers WHERE expires_at <= now()
                ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)""",
        (limit,),
    )


@contextmanager
def _unique() -> Iterator[None]:
    try:
        yield
    except peewee.IntegrityError as error:
        if _UNIQUE in str(error):
            raise AlreadyThere from error
        raise


def _in(seconds: int) -> peewee.SQL:
    return peewee.SQL("now() + %s * interval '1 second'", (seconds,))


def _name(row: models.EventDispatcher, names: Sequence[str]) -> None:
    rows = [
        {"environment_id": row.environment_id, "source": row.source, "name": name, "dispatcher_id": row.id}
        for name in names
    ]
    if rows:
        models.EventDispatcherName.insert_many(rows).execute()
