"""Pages that load a part of themselves again: whoever stands in it stays there, and what grows old says so."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from kongflow_events.store import bulk_operations, db
from tests.chromium.conftest import Console, Visitor

pytestmark = pytest.mark.slow

# Milliseconds in which a part that is loaded every five seconds has come anew, on a busy machine too.
_SOON = 30_000


def redrive(console: Console) -> str:
    return console.at("dead", "redrives", console.shop.redrive)


def loaded_again(page: Page, part: str) -> None:
    """Waits until this part of the page is another one."""
    page.evaluate("part => { document.querySelector(part).dataset.old = 'yes'; }", part)
    expect(page.locator("[data-old]")).to_have_count(0, timeout=_SOON)


class TestFocus:
    @pytest.mark.parametrize(
        "chosen",
        [
            lambda page: page.get_by_role("link", name="Dead letters").last,
            lambda page: page.get_by_role("link", name=re.compile("^unmatched")),
            lambda page: page.get_by_role("region", name="Processes"),
        ],
        ids=["figure", "state", "table"],
    )
    def test_it_stays_where_it_is_when_the_overview_is_loaded_again(
        self, page: Page, console: Console, chosen: Callable[[Page], Locator]
    ) -> None:
        page.goto(console.at("overview"))
        chosen(page).focus()

        loaded_again(page, "#live > *")

        expect(chosen(page)).to_be_focused()

    def test_whatever_can_have_it_in_the_overview_is_known_by_an_id(self, page: Page, console: Console) -> None:
        page.goto(console.at("overview"))

        expect(page.locator("#live a")).to_have_count(9)
        expect(page.locator("#live :is(a, button, input, [tabindex]):not([id])")).to_have_count(0)
        assert page.evaluate("document.querySelectorAll('[id]').length") == page.evaluate(
            "new Set([...document.querySelectorAll('[id]')].map(one => one.id)).size"
        )

    def test_it_stays_on_the_stop_of_a_redrive_and_what_is_read_out_is_the_same_element(
        self, page: Page, console: Console
    ) -> None:
        page.goto(redrive(console))
        stop = page.get_by_role("button", name="Stop")
        page.get_by_role("heading", level=1).click()
        page.keyboard.press("Tab")
        expect(stop).to_be_focused()
        page.evaluate("document.querySelector('[aria-live]').dataset.kept = 'yes'")

        loaded_again(page, "[hx-get]")

        expect(stop).to_be_focused()
        expect(page.locator("[aria-live][data-kept]")).to_have_count(1)

    def test_a_redrive_that_ends_cannot_be_stopped_any_more(self, page: Page, console: Console) -> None:
        db.connect(console.database)
        with db.unit():
            criteria = {"of": "invocations", "name": "nothing", "error_class": None}
            number = bulk_operations.start(console.shop.environment.id, "redrive", criteria, 10, 3).id
        page.goto(console.at("dead", "redrives", number))
        expect(page.get_by_role("button", name="Stop")).to_be_visible()

        with db.unit():
            db.run("UPDATE bulk_operations SET state = 'DONE', finished_at = now() WHERE id = %s", (number,))
        db.close()

        expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        expect(page.locator("main .badge").first).to_have_text("done")
        expect(page.locator("[hx-get]")).to_have_count(0)


class TestOutage:
    @pytest.mark.parametrize(
        ("path", "fail"),
        [
            ("overview", lambda route: route.abort()),
            ("redrive", lambda route: route.fulfill(status=503, body="<p>Not now</p>")),
            ("redrive", lambda route: None),
        ],
        ids=["overview-unreachable", "redrive-refused", "redrive-silent"],
    )
    def test_a_part_that_cannot_be_loaded_says_since_when_until_it_can(
        self,
        page: Page,
        console: Console,
        visitors: list[Visitor],
        path: str,
        fail: Callable[[Route], None],
    ) -> None:
        page.goto(console.at("overview") if path == "overview" else redrive(console))
        stale = page.locator("#stale")
        page.evaluate("htmx.config.timeout = 500")
        expect(stale).to_have_text("")
        page.route(re.compile("/(live|progress)$"), fail)

        expect(stale).to_have_text(
            re.compile(r"^Not updated since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: the service does not answer$"),
            timeout=_SOON,
        )
        expect(stale).to_have_role("status")
        page.unroute_all(behavior="ignoreErrors")

        expect(stale).to_have_text("", timeout=_SOON)
        # The browser's and htmx's own lines about the outage, and none about what the page did with it.
        assert not [one for one in visitors[-1].complaints if "Content Security Policy" in one]
        visitors[-1].complaints.clear()

    def test_the_service_is_not_waited_for_for_ever(self, page: Page, console: Console) -> None:
        page.goto(console.at("overview"))

        assert page.evaluate("htmx.config.timeout") == 10_000
