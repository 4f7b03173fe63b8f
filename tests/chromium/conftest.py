"""The console as people see it: a web process over a shop with a past, and a real Chromium in front of it."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import psycopg2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, sync_playwright

from kongflow_events.services import operators
from kongflow_events.store import db
from tests.chromium.shop import Shop
from tests.conftest import url_of
from tests.processes import Http, procfile, running
from tests.servers import free_port

_CURE = "Chromium is missing: apt-get install -y chromium"
PASSWORD = "correct horse battery staple"


class Console(NamedTuple):
    """A running console."""

    url: str
    database: str
    shop: Shop

    def at(self, *parts: object, attacked: bool = False) -> str:
        """The URL of a page of the shop, or of the attackers' environment."""
        environment = self.shop.attacked if attacked else self.shop.environment
        return "/".join((f"{self.url}/console/env", str(environment.id), *map(str, parts)))


@pytest.fixture(scope="session")
def console(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The shop's console. Tests of one session share it: each changes what no other looks at."""
    database = url_of(server, f"kf_{uuid.uuid4().hex[:12]}")
    _execute(server, f"CREATE DATABASE {_name(database)} TEMPLATE {template}")
    db.connect(database, pool_size=24)
    shop = Shop()
    with db.unit():
        operators.add_operator("olga", "operator", PASSWORD)
        operators.add_operator("otto", "operator", PASSWORD)
        operators.add_operator("victor", "viewer", PASSWORD)
    db.close()
    port = free_port()
    environ = {"DATABASE_URL": database, "PORT": str(port)}
    with running([procfile()["web"]], environ, tmp_path_factory.mktemp("web") / "web.log"):
        url = f"http://127.0.0.1:{port}"
        Http(url, "").wait("/healthz")
        yield Console(url, database, shop)
    _execute(server, f"DROP DATABASE {_name(database)} WITH (FORCE)")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        sys.exit(_CURE)
    # Chromium's own sandbox is not to be had for root, as which containers run tests.
    sandbox = os.geteuid() != 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, chromium_sandbox=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def sessions(console: Console, chromium: Browser) -> dict[str, StorageState]:
    """Somebody of each role, and Otto, whose changes no test counts, signed in: the cookies of each."""
    found = {}
    for name in ("olga", "otto", "victor"):
        context = chromium.new_context()
        page = context.new_page()
        page.goto(f"{console.url}/console/sign-in")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console/environments")
        found[name] = context.storage_state()
        context.close()
    return found


class Visitor:
    """Somebody in front of a browser, which is to have nothing to complain about."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))

    def _hear(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)


@pytest.fixture
def visitors(chromium: Browser, sessions: dict[str, StorageState]) -> Iterator[list[Visitor]]:
    """All that come in a test; at its end none of their browsers may have complained, nor run a script of an attacker."""
    found: list[Visitor] = []
    yield found
    complaints = [complaint for one in found for complaint in one.complaints]
    ran = [one.page.url for one in found if one.page.evaluate("window.ran")]
    for one in found:
        one.context.close()
    assert (complaints, ran) == ([], [])


@pytest.fixture
def page(chromium: Browser, sessions: dict[str, StorageState], visitors: list[Visitor]) -> Page:
    """A page of an operator's."""
    visitors.append(Visitor(chromium.new_context(storage_state=sessions["olga"])))
    return visitors[-1].page


@pytest.fixture
def viewers_page(chromium: Browser, sessions: dict[str, StorageState], visitors: list[Visitor]) -> Page:
    """A page of somebody's who may only look."""
    visitors.append(Visitor(chromium.new_context(storage_state=sessions["victor"])))
    return visitors[-1].page


def _name(url: str) -> str:
    name: str = psycopg2.extensions.parse_dsn(url)["dbname"]
    return name


def _execute(server: str, statement: str) -> None:
    connection = psycopg2.connect(server)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()
