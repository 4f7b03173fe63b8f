"""`kongflow-events operators`: who may sign in to the console, from a shell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kongflow_events import passwords, settings
from kongflow_events.cli import main
from kongflow_events.store import operators
from tests import factory
from tests.processes import query

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _shell(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A shell that knows the database."""
    monkeypatch.setenv("DATABASE_URL", database)
    settings.current.cache_clear()
    yield
    settings.current.cache_clear()


def run(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(main, ["operators", *words], input=given)


def listed() -> list[dict[str, Any]]:
    result = run("list", "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_they_are_added_with_a_piped_password_and_listed_newest_first(database: str) -> None:
    assert run("add", "vera", given=f"{PASSWORD}\n").output == "added vera as viewer\n"
    assert run("add", "olga", "--role", "operator", given=f"{PASSWORD}\r\n").exit_code == 0

    assert [(one["name"], one["role"], one["state"]) for one in listed()] == [
        ("olga", "operator", "enabled"),
        ("vera", "viewer", "enabled"),
    ]
    stored = [row[0] for row in query(database, "SELECT password FROM operators")]
    assert all(passwords.fits(PASSWORD, one) for one in stored)
    assert not any(passwords.fits(PASSWORD + "\n", one) or PASSWORD in one for one in stored)


def test_a_name_is_given_once() -> None:
    run("add", "olga", given=PASSWORD)
    again = run("add", "olga", given=PASSWORD)

    assert (again.exit_code, again.stderr) == (1, "error: There is an operator olga already\n")


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 513])
def test_a_weak_password_is_refused(password: str) -> None:
    refused = run("add", "olga", given=password)

    assert refused.exit_code == 1
    assert "A password has 12 to 512 characters" in refused.stderr
    assert run("list").exit_code == run("list", "--json").exit_code == 3


def test_a_password_is_no_argument() -> None:
    assert run("add", "olga", PASSWORD).exit_code == 2
    assert run("password", "olga", PASSWORD).exit_code == 2


def test_one_is_disabled_and_let_in_again_with_another_password(database: str) -> None:
    run("add", "olga", given=PASSWORD)

    assert run("disable", "olga").output == "disabled olga\n"
    assert listed()[0]["state"] == "disabled"
    assert run("disable", "olga").exit_code == 3
    assert run("password", "olga", given="another long password").exit_code == 0
    assert listed()[0]["state"] == "enabled"
    [[stored]] = query(database, "SELECT password FROM operators")
    assert passwords.fits("another long password", stored)
    assert run("password", "nobody", given=PASSWORD).exit_code == 3


def test_one_gets_another_role_and_keeps_the_rest(database: str) -> None:
    run("add", "olga", given=PASSWORD)
    run("add", "vera", given=PASSWORD)
    before = query(database, "SELECT password, disabled_at FROM operators ORDER BY name")

    assert run("role", "olga", "operator").output == "olga is operator now\n"
    assert [(one["name"], one["role"]) for one in listed()] == [("vera", "viewer"), ("olga", "operator")]
    assert json.loads(run("role", "olga", "viewer", "--json").stdout) == {"name": "olga", "role": "viewer"}
    assert {one["role"] for one in listed()} == {"viewer"}
    assert query(database, "SELECT password, disabled_at FROM operators ORDER BY name") == before
    assert run("role", "nobody", "viewer").exit_code == 3
    assert run("role", "olga", "emperor").exit_code == 2


def test_another_role_holds_also_where_somebody_is_signed_in(database: str) -> None:
    run("add", "olga", "--role", "operator", given=PASSWORD)
    with factory.connected(database):
        somebody = operators.secret("olga")
        assert somebody is not None
        operators.begin_session(somebody.operator.id, b"session", 60)
    run("role", "olga", "viewer")

    with factory.connected(database):
        signed_in = operators.signed_in(b"session")
    assert signed_in is not None
    assert signed_in.role == "viewer"


def test_the_audit_log_tells_of_it_and_never_of_a_password(database: str) -> None:
    run("add", "olga", given=PASSWORD)
    run("password", "olga", given=PASSWORD)
    run("role", "olga", "operator")
    run("role", "nobody", "operator")
    run("disable", "olga")

    entries = query(database, "SELECT operator, address, action, subject, details FROM audit_entries ORDER BY id")
    assert entries == [
        ("shell", "shell", "operator.add", "operator olga", {"role": "viewer"}),
        ("shell", "shell", "operator.password", "operator olga", None),
        ("shell", "shell", "operator.role", "operator olga", {"role": "operator"}),
        ("shell", "shell", "operator.disable", "operator olga", None),
    ]
