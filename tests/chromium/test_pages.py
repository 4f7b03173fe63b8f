"""Every page of the console, light and dark: it can be used by anybody, fits a phone, and no browser complains of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests import node
from tests.chromium.conftest import Console, Visitor
from tests.chromium.shop import ATTACK, SCRIPTS
from tests.processes import query

pytestmark = pytest.mark.slow

DESK = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}

# The pages of an environment, by what they are called.
PAGES: dict[str, Callable[[Console], str]] = {
    "overview": lambda console: console.at("overview"),
    "events": lambda console: console.at("events"),
    "event": lambda console: console.at("events", console.shop.records["order-1003"]),
    "unmatched-event": lambda console: console.at("events", console.shop.records["order-1007"]),
    "dispatchers": lambda console: console.at("dispatchers"),
    "dispatcher": lambda console: console.at("dispatchers", console.shop.dispatchers["warehouse"]),
    "dead-letters": lambda console: console.at("dead"),
    "dead-deliveries": lambda console: console.at("dead?of=deliveries"),
    "dead-letters-counted": lambda console: console.at("dead", "redrive"),
    "redrive": lambda console: console.at("dead", "redrives", console.shop.redrive),
    "runs": lambda console: console.at("runs"),
    "run": lambda console: console.at("runs", console.shop.run),
    "keys": lambda console: console.at("keys"),
    "audit-log": lambda console: console.at("audit"),
    "environments": lambda console: f"{console.url}/console/environments",
    "sign-in": lambda console: f"{console.url}/console/sign-in",
    "nothing-there": lambda console: console.at("nothing"),
}
# What docs/console.md shows of each, but for these, which it only speaks of; some of them in the dark too.
UNSEEN = frozenset({"dead-deliveries", "nothing-there"})
SEEN_IN_THE_DARK = frozenset({"overview", "event", "dispatcher"})
# Pixels of a long page that a picture shows.
_TALLEST = 1500


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker, as a script."""
    return node.file_of("axe-core/axe.min.js")


@pytest.fixture
def open_page(chromium: Browser, sessions: dict[str, StorageState], visitors: list[Visitor]) -> Callable[..., Page]:
    """Opens a page in a window of its own."""

    def opened(url: str, viewport: dict[str, int], scheme: str = "light", name: str = "olga") -> Page:
        context = chromium.new_context(storage_state=sessions[name], viewport=viewport, color_scheme=scheme)
        visitors.append(Visitor(context))
        page = visitors[-1].page
        answer = page.goto(url)
        assert answer is not None
        assert answer.status == (404 if url.endswith("/nothing") else 200)
        if answer.status != 200:
            visitors[-1].complaints.clear()
        return page

    return opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_anybody_from_using_it(
    console: Console,
    open_page: Callable[..., Page],
    axe: str,
    name: str,
    scheme: str,
    request: pytest.FixtureRequest,
) -> None:
    page = open_page(PAGES[name](console), DESK, scheme)
    folder = request.config.getoption("--screenshots")
    if folder and name not in UNSEEN and (scheme == "light" or name in SEEN_IN_THE_DARK):
        _take(page, Path(folder) / f"{name}-{scheme}.png")

    assert serious(page, axe) == []


def _take(page: Page, path: Path) -> None:
    if path.name.startswith("unmatched-event"):
        # What it is about is below its attempts.
        page.evaluate("document.querySelectorAll('details[open]').forEach((each) => { each.open = false })")
    height = min(page.evaluate("document.documentElement.scrollHeight"), _TALLEST)
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": DESK["width"], "height": height})


def _explained(page: Page) -> None:
    page.get_by_role("textbox", name="Payload").fill('{"items": 0}')
    page.get_by_role("button", name="Explain").click()
    expect(page.locator(".explained")).to_be_visible()


def _stale(page: Page) -> None:
    page.route("**/live", lambda route: route.abort())
    expect(page.locator("#stale p")).to_be_visible(timeout=30_000)


def _dead_event(console: Console) -> str:
    """The page of an event with a dead letter that nobody has redriven by now."""
    [(record,)] = query(
        console.database,
        f"""SELECT event_record_id FROM invocations JOIN invocation_attempts ON invocation_id = invocations.id
             WHERE environment_id = '{console.shop.environment.id}' AND died_at IS NOT NULL AND request_headers IS NOT NULL
             ORDER BY event_record_id DESC LIMIT 1""",
    )
    return console.at("events", record)


def _refused(page: Page) -> None:
    page.get_by_label("Name").fill("somebody")
    page.get_by_label("Password").fill("not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()


# What a page becomes when somebody does this on it.
STATES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "overview-stale": ("overview", _stale),
    "event-replay": ("event", lambda page: page.get_by_text("Replay…").click()),
    "event-dismiss": ("dead-event", lambda page: page.get_by_text("Dismiss…").first.click()),
    "event-headers": ("dead-event", lambda page: page.locator("[open] .fold > summary").last.click()),
    "dispatcher-explained": ("dispatcher", _explained),
    "dispatcher-disable": ("dispatcher", lambda page: page.get_by_text("Disable", exact=True).click()),
    "dead-letters-dismiss": ("dead-letters", lambda page: page.get_by_text("Dismiss…").first.click()),
    "key-shown-once": ("keys", lambda page: page.get_by_role("button", name="Create a key").click()),
    "menu": ("runs", lambda page: page.locator(".menu > summary").click()),
    "sign-in-refused": ("sign-in", _refused),
}


@pytest.mark.parametrize(("viewport", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light")])
@pytest.mark.parametrize("name", STATES)
def test_nothing_keeps_anybody_from_using_what_becomes_of_it(
    console: Console,
    open_page: Callable[..., Page],
    axe: str,
    visitors: list[Visitor],
    name: str,
    viewport: dict[str, int],
    scheme: str,
) -> None:
    path, change = STATES[name]
    page = open_page(_dead_event(console) if path == "dead-event" else PAGES[path](console), viewport, scheme, "otto")

    change(page)

    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert serious(page, axe) == []
    # The browser's own lines about what was refused here.
    if name in {"overview-stale", "sign-in-refused"}:
        visitors[-1].complaints.clear()


@pytest.mark.parametrize("name", PAGES)
def test_it_fits_a_phone(console: Console, open_page: Callable[..., Page], axe: str, name: str) -> None:
    page = open_page(PAGES[name](console), PHONE)

    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert serious(page, axe) == []


def test_on_a_phone_it_can_be_read_where_one_is(console: Console, open_page: Callable[..., Page]) -> None:
    page = open_page(console.at("audit"), PHONE)

    cut = "(place) => place.scrollWidth > place.clientWidth"
    assert not page.locator(".switch .place").evaluate(cut)
    for tab in page.locator("nav.pages a").all():
        expect(tab).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize(
    "name",
    [
        "overview",
        "events",
        f"events?{urlencode({'name': ATTACK, 'id': ATTACK})}",
        "dispatchers",
        f"dispatchers?{urlencode({'name': ATTACK, 'source': ATTACK})}",
        "dead",
        f"dead/redrive?{urlencode({'name': ATTACK})}",
        "dead?of=deliveries",
        "runs",
        f"runs?{urlencode({'job': ATTACK})}",
        "keys",
        "audit",
        f"audit?{urlencode({'operator': ATTACK})}",
    ],
)
def test_what_attackers_write_is_only_shown(console: Console, open_page: Callable[..., Page], name: str) -> None:
    page = open_page(console.at(name, attacked=True), DESK)

    harmless(page)


def test_what_attackers_write_is_only_shown_where_there_is_all_of_it(
    console: Console, open_page: Callable[..., Page]
) -> None:
    attacks = [record for event_id, record in console.shop.records.items() if event_id.startswith("attack")]
    assert len(attacks) == len(SCRIPTS)
    page = open_page(console.at("dispatchers", console.shop.dispatchers["attacked"], attacked=True), DESK)
    harmless(page)
    for record in attacks:
        page.goto(console.at("events", record, attacked=True))
        harmless(page)


def harmless(page: Page) -> None:
    """Nothing of the page's content is more than a text."""
    assert (
        page.locator("main script, main img, main iframe, main [onerror], main [onload], main [onfocus]").count() == 0
    )
    assert page.locator('a[href^="javascript"]').count() == 0
    assert page.evaluate("window.ran") is None


def serious(page: Page, axe: str) -> list[Any]:
    """What axe-core finds that is serious or critical: the rule, and where."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], [each["html"] for each in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
