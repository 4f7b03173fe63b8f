"""Operators of the console: who they are, how they sign in, and where they are signed in. Secrets are here as hashes only."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

import msgspec

from kongflow_events import models, words
from kongflow_events.store import db

Role = Literal["viewer", "operator"]


class Operator(msgspec.Struct, frozen=True):
    """An operator as they are listed."""

    id: uuid.UUID
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


class SignedIn(msgspec.Struct, frozen=True):
    """Who is signed in."""

    id: uuid.UUID
    name: str
    role: Role


class Secret(msgspec.Struct, frozen=True):
    """Who an operator is, and the hash that their password has to have; None when they have no password."""

    operator: SignedIn
    password: str | None


def add(name: str, role: Role, password: str | None) -> uuid.UUID | None:
    """Store an operator with a password's hash, or without one; returns their id, None when the name is taken."""
    table = models.Operator
    made = table.insert(id=words.new_id(), name=name, role=role, password=password).on_conflict_ignore()
    for row in made.returning(table.id).execute():
        found: uuid.UUID = row.id
        return found
    return None


def newest() -> list[Operator]:
    """Every operator, the oldest last."""
    found = db.rows("SELECT id, name, role, created_at, disabled_at FROM operators ORDER BY id DESC")
    return [Operator(**row) for row in found]


def secret(name: str) -> Secret | None:
    """The operator of this name, unless disabled."""
    found = db.rows("SELECT id, name, role, password FROM operators WHERE name = %s AND disabled_at IS NULL", (name,))
    return Secret(SignedIn(found[0]["id"], found[0]["name"], found[0]["role"]), found[0]["password"]) if found else None


def set_password(name: str, password: str) -> bool:
    """Give an operator another password's hash, let them in again, and sign them out; False when there is none."""
    changed = db.run("UPDATE operators SET password = %s, disabled_at = NULL WHERE name = %s", (password, name))
    _sign_out_everywhere(name)
    return bool(changed)


def set_role(name: str, role: Role) -> bool:
    """Let an operator do what this role may, also where they are signed in; False when there is none of this name."""
    return bool(db.run("UPDATE operators SET role = %s WHERE name = %s", (role, name)))


def disable(name: str) -> bool:
    """Let an operator in no more, and sign them out; False when there is none of this name who may come in."""
    changed = db.run("UPDATE operators SET disabled_at = now() WHERE name = %s AND disabled_at IS NULL", (name,))
    _sign_out_everywhere(name)
    return bool(changed)


def begin_session(operator_id: uuid.UUID, sha256: bytes, seconds: int) -> None:
    """Sign an operator in for so long, and forget the sessions that are over."""
    db.run("DELETE FROM operator_sessions WHERE expires_at <= now()")
    db.run(
        """INSERT INTO operator_sessions (sha256, operator_id, expires_at)
           VALUES (%s, %s, now() + %s * interval '1 second')""",
        (sha256, operator_id, seconds),
    )


def signed_in(sha256: bytes) -> SignedIn | None:
    """Who the session of this hash belongs to; None when there is none, it is over, or they are disabled."""
    found = db.rows(
        """SELECT operators.id, operators.name, operators.role
             FROM operator_sessions AS sessions JOIN operators ON operators.id = sessions.operator_id
            WHERE sessions.sha256 = %s AND sessions.expires_at > now() AND operators.disabled_at IS NULL""",
        (sha256,),
    )
    return SignedIn(**found[0]) if found else None


def end_session(sha256: bytes) -> None:
    """Sign out here."""
    db.run("DELETE FROM operator_sessions WHERE sha256 = %s", (sha256,))


def add_link(name: str, sha256: bytes, seconds: int) -> None:
    """Store a link that signs the operator of this name in, once, within so many seconds; the ones before it end."""
    db.run("DELETE FROM operator_links USING operators WHERE operators.id = operator_id AND name = %s", (name,))
    db.run(
        """INSERT INTO operator_links (sha256, operator_id, expires_at)
           SELECT %s, id, now() + %s * interval '1 second' FROM operators WHERE name = %s""",
        (sha256, seconds, name),
    )


def use_link(sha256: bytes) -> SignedIn | None:
    """Who the link of this hash signs in, this once; None when it was used, is over, or never was."""
    found = db.rows(
        """WITH used AS (DELETE FROM operator_links WHERE sha256 = %s RETURNING operator_id, expires_at)
           SELECT operators.id, operators.name, operators.role FROM used JOIN operators ON operators.id = used.operator_id
            WHERE used.expires_at > now() AND operators.disabled_at IS NULL""",
        (sha256,),
    )
    return SignedIn(**found[0]) if found else None


def _sign_out_everywhere(name: str) -> None:
    for table in ("operator_sessions", "operator_links"):
        db.run(f"DELETE FROM {table} USING operators WHERE operators.id = operator_id AND name = %s", (name,))
