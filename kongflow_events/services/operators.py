"""Operators: who may sign in to the console, added and changed from a shell."""

from __future__ import annotations

from typing import Final

from kongflow_events import errors, passwords
from kongflow_events.store import audit, db, operators

_SHELL: Final = audit.Actor(None, "shell", "shell")


def add_operator(name: str, role: operators.Role, password: str) -> None:
    """Let somebody of this name sign in; raises Conflict when the name is taken, Invalid for a weak password."""
    hashed = passwords.hashed(password)
    with db.atomic():
        if operators.add(name, role, hashed) is None:
            raise errors.Conflict(f"There is an operator {name} already")
        audit.note(_SHELL, "operator.add", f"operator {name}", details={"role": role})


def list_operators() -> list[operators.Operator]:
    """Every operator, newest first."""
    return operators.newest()


def disable_operator(name: str) -> None:
    """Let an operator in no more; they are signed out everywhere. Raises NotFound."""
    with db.atomic():
        if not operators.disable(name):
            raise errors.NotFound(f"no operator {name} who may sign in")
        audit.note(_SHELL, "operator.disable", f"operator {name}")


def set_role(name: str, role: operators.Role) -> None:
    """Let an operator do what this role may, from their next page on. Raises NotFound."""
    with db.atomic():
        if not operators.set_role(name, role):
            raise errors.NotFound(f"no operator {name}")
        audit.note(_SHELL, "operator.role", f"operator {name}", details={"role": role})


def set_password(name: str, password: str) -> None:
    """Give an operator another password: they are signed out, and let in again if they were disabled.

    Raises NotFound, or Invalid for a weak password.
    """
    hashed = passwords.hashed(password)
    with db.atomic():
        if not operators.set_password(name, hashed):
            raise errors.NotFound(f"no operator {name}")
        audit.note(_SHELL, "operator.password", f"operator {name}")
