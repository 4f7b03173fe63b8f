"""Organizations, projects, environments, and their keys."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import msgspec
import peewee

from kongflow_events import models, words
from kongflow_events.store import db

_VERIFY = """
SELECT keys.id AS key_id, keys.kind, environments.id, environments.organization_id, environments.project_id,
       environments.slug, organizations.runs_enabled,
       keys.last_used_at IS NULL OR keys.last_used_at < now() - interval '1 minute' AS unused
  FROM api_keys AS keys
  JOIN runtime_environments AS environments ON environments.id = keys.environment_id
  JOIN projects ON projects.id = environments.project_id AND projects.deleted_at IS NULL
  JOIN organizations ON organizations.id = environments.organization_id AND organizations.deleted_at IS NULL
 WHERE keys.sha256 = %s AND keys.revoked_at IS NULL AND (keys.expires_at IS NULL OR keys.expires_at > now())
"""

Table = TypeVar("Table", bound=models.Table)


class Verified(msgspec.Struct, frozen=True):
    """A live key: its kind, and whose it is."""

    key_id: uuid.UUID
    kind: str
    environment: words.Environment


class Key(msgspec.Struct, frozen=True):
    """A key as it is listed: without the key."""

    id: uuid.UUID
    kind: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def verify(sha256: bytes) -> Verified | None:
    """The live key of this hash, noted as used (at most once a minute); None if there is none."""
    found = db.rows(_VERIFY, (sha256,))
    if not found:
        return None
    row = found[0]
    if row["unused"]:
        # A server that takes no writes can still be read from.
        with suppress(db.ReadOnly):
            db.run("UPDATE api_keys SET last_used_at = now() WHERE id = %s", (row["key_id"],))
    environment = words.Environment(
        row["id"], row["organization_id"], row["project_id"], row["slug"], row["runs_enabled"]
    )
    return Verified(row["key_id"], row["kind"], environment)


def add_key(environment_id: uuid.UUID, kind: str, prefix: str, sha256: bytes, seconds: int | None) -> uuid.UUID:
    """Store a key's hash; it expires after `seconds`, or never. Returns its id."""
    expires_at = None if seconds is None else peewee.SQL("now() + %s * interval '1 second'", (seconds,))
    row = models.ApiKey.create(
        environment_id=environment_id, kind=kind, prefix=prefix, sha256=sha256, expires_at=expires_at
    )
    key_id: uuid.UUID = row.id
    return key_id


def revoke_key(environment_id: uuid.UUID, key: str) -> bool:
    """Revoke the environment's live key of this id or prefix; False when there is none, or several of the prefix."""
    return (
        db.run(
            """UPDATE api_keys SET revoked_at = now()
                WHERE environment_id = %(environment)s AND revoked_at IS NULL AND (id::text = %(key)s OR prefix = %(key)s)
                  AND 1 = (SELECT count(*) FROM api_keys
                            WHERE environment_id = %(environment)s AND revoked_at IS NULL
                              AND (id::text = %(key)s OR prefix = %(key)s))""",
            {"environment": environment_id, "key": key},
        )
        == 1
    )


def keys(environment_id: uuid.UUID) -> list[Key]:
    """The environment's keys, newest first."""
    found = db.rows(
        """SELECT id, kind, prefix, created_at, expires_at, revoked_at, last_used_at
             FROM api_keys WHERE environment_id = %s ORDER BY id DESC""",
        (environment_id,),
    )
    return [Key(**row) for row in found]


def find_or_make(organization: str, project: str, type_: str, slug: str) -> tuple[words.Environment, bool]:
    """The environment of this type in the project, made with the organization and project it needs; True when new.

    The three slugs are unique, so two at once make one: whoever comes second finds it. Raises ValueError when the
    project exists in another organization.
    """
    owner = _find_or_make(models.Organization, {"slug": organization}, {"title": organization})
    home = _find_or_make(models.Project, {"slug": project}, {"name": project, "organization_id": owner.id})
    if home.organization_id != owner.id:
        raise ValueError(f"the project {project} belongs to another organization")
    place = {"project_id": home.id, "slug": slug}
    made = models.RuntimeEnvironment.insert(**place, type=type_, organization_id=owner.id, id=words.new_id())
    new = bool(list(made.on_conflict_ignore().returning(models.RuntimeEnvironment.id).execute()))
    row = models.RuntimeEnvironment.get(**place)
    return words.Environment(row.id, owner.id, home.id, slug), new


def find(organization: str, project: str, slug: str) -> words.Environment | None:
    """The environment at this place."""
    found = db.rows(
        """SELECT environments.id, environments.organization_id, environments.project_id, environments.slug
             FROM runtime_environments AS environments
             JOIN projects ON projects.id = environments.project_id
             JOIN organizations ON organizations.id = environments.organization_id
            WHERE organizations.slug = %s AND projects.slug = %s AND environments.slug = %s""",
        (organization, project, slug),
    )
    return words.Environment(**found[0]) if found else None


def _find_or_make(table: type[Table], place: dict[str, str], rest: dict[str, object]) -> Table:
    table.insert(**place, **rest, id=words.new_id()).on_conflict_ignore().execute()
    found: Table = table.get(**place)
    return found
