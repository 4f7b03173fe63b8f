"""`operators`: who may sign in to the console, on the database itself; a password is typed or piped, never an argument."""

from __future__ import annotations

import sys
from typing import Any

import click

from kongflow_events.cli import output
from kongflow_events.cli.admin import database

_name = click.argument("name", metavar="NAME")
_role = click.Choice(["viewer", "operator"])


@click.group()
def operators() -> None:
    """Add people who may sign in to the console, and change how they do."""


@operators.command("add")
@_name
@click.option(
    "--role",
    type=_role,
    default="viewer",
    show_default=True,
    help="A viewer looks; an operator changes things too.",
)
@output.as_json
def add(name: str, role: Any, as_json: bool) -> None:
    """Add somebody, with a password of at least 12 characters that is asked for, or read from a pipe.

    Example: kongflow-events operators add olga --role operator
    """
    from kongflow_events.services import operators as service

    password = _password()
    with database():
        service.add_operator(name, role, password)
    _say(f"added {name} as {role}", {"name": name, "role": role}, as_json)


@operators.command("list")
@output.as_json
def list_operators(as_json: bool) -> None:
    """List them, newest first.

    Example: kongflow-events operators list
    """
    from kongflow_events.services import operators as service

    with database():
        found = service.list_operators()
    rows = [
        [one.name, one.role, "disabled" if one.disabled_at else "enabled", f"{one.created_at:%Y-%m-%d %H:%M:%S}"]
        for one in found
    ]
    head = ["NAME", "ROLE", "STATE", "CREATED"]
    if as_json:
        output.show_list([dict(zip(map(str.lower, head), row, strict=True)) for row in rows])
    else:
        output.show_table(head, rows)


@operators.command("role")
@_name
@click.argument("role", type=_role)
@output.as_json
def change_role(name: str, role: Any, as_json: bool) -> None:
    """Change what somebody may do, from their next page on; they stay signed in.

    Example: kongflow-events operators role olga viewer
    """
    from kongflow_events.services import operators as service

    with database():
        service.set_role(name, role)
    _say(f"{name} is {role} now", {"name": name, "role": role}, as_json)


@operators.command("disable")
@_name
@output.as_json
def disable(name: str, as_json: bool) -> None:
    """Let somebody in no more; they are signed out everywhere, at once.

    Example: kongflow-events operators disable olga
    """
    from kongflow_events.services import operators as service

    with database():
        service.disable_operator(name)
    _say(f"disabled {name}", {"name": name, "state": "disabled"}, as_json)


@operators.command("password")
@_name
@output.as_json
def password(name: str, as_json: bool) -> None:
    """Give somebody another password: they are signed out, and let in again if they were disabled.

    Example: kongflow-events operators password olga
    """
    from kongflow_events.services import operators as service

    chosen = _password()
    with database():
        service.set_password(name, chosen)
    _say(f"changed the password of {name}", {"name": name, "state": "enabled"}, as_json)


def _say(text: str, document: dict[str, str], as_json: bool) -> None:
    if as_json:
        output.show_json(document)
    else:
        click.echo(text)


def _password() -> str:
    """What is typed, twice and unseen; or the first line of what is piped in."""
    if sys.stdin.isatty():
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt="Again")
        return typed
    return sys.stdin.readline().rstrip("\r\n")
