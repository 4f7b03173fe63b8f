"""The overview, the list of events and one event, used in a browser as somebody would."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.chromium.conftest import Console, Visitor
from tests.processes import query

pytestmark = pytest.mark.slow


def event(console: Console, event_id: str) -> str:
    return console.at("events", console.shop.records[event_id])


class TestOverview:
    def test_it_is_loaded_again_by_itself_until_it_is_paused(self, page: Page, console: Console) -> None:
        page.goto(console.at("overview"))
        expect(page.get_by_role("img", name="Events of the last hour")).to_be_visible()

        with page.expect_response(re.compile("/overview/live$"), timeout=30_000) as answer:
            page.evaluate("document.querySelector('#live > *').dataset.old = 'yes'")
        assert answer.value.status == 200
        expect(page.locator("[data-old]")).to_have_count(0)
        page.get_by_role("link", name="Pause").click()

        assert "paused=1" in page.url
        expect(page.locator("[hx-get]")).to_have_count(0)
        page.get_by_role("link", name="Go on").click()
        expect(page.locator("[hx-get]")).to_have_count(1)

    def test_its_figures_lead_to_what_they_count(self, page: Page, console: Console) -> None:
        page.goto(console.at("overview"))

        page.get_by_role("link", name="Due now").click()
        assert page.url.endswith("/overview#backlog")
        expect(page.get_by_role("heading", name="What is owed")).to_be_in_viewport()
        page.get_by_role("link", name="Dead letters").last.click()

        expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")


class TestEvents:
    def test_one_is_found_by_what_is_inside_it(self, page: Page, console: Console) -> None:
        page.goto(console.at("events"))

        page.get_by_label("Inside payload").fill("payload.customer.id:42 payload.amount:14.5")
        page.get_by_role("button", name="Find").click()

        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("link", name="order.paid").click()
        expect(page.get_by_text("order-1002").first).to_be_visible()

    def test_older_ones_are_a_page_away_and_the_filters_stay(self, page: Page, console: Console) -> None:
        page.goto(console.at("events"))
        page.get_by_label("State").select_option("delivered")
        page.get_by_role("button", name="Find").click()
        first = page.locator("tbody tr").first.inner_text()

        page.get_by_role("link", name="Older").click()

        assert "state=delivered" in page.url
        expect(page.get_by_label("State")).to_have_value("delivered")
        assert page.locator("tbody tr").first.inner_text() != first
        page.get_by_role("link", name="Newest").click()
        expect(page.locator("tbody tr").first).to_contain_text(first.splitlines()[0])

    def test_a_filter_that_means_nothing_is_told(self, page: Page, console: Console, visitors: list[Visitor]) -> None:
        page.goto(console.at("events"))

        page.get_by_label("From (UTC)").fill("yesterday")
        page.get_by_role("button", name="Find").click()

        expect(page.get_by_role("alert")).to_contain_text("A time is like 2026-06-17")
        expect(page.locator("tbody tr")).to_have_count(0)
        expect(page.get_by_label("From (UTC)")).to_have_value("yesterday")
        # The browser's own line about the 422.
        [complaint] = visitors[-1].complaints
        assert "422" in complaint
        visitors[-1].complaints.clear()
        page.get_by_label("From (UTC)").fill("2026-06-17T09:30")
        page.get_by_role("button", name="Find").click()
        expect(page.locator("tbody tr").first).to_be_visible()


class TestEvent:
    def test_it_tells_why_a_dispatcher_did_not_take_it(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-1007"))

        expect(page.locator(".leaf:not(.holds)").last).to_have_text(re.compile(r"payload\.amount \$gt 10, found 4"))

    def test_it_tells_every_attempt_and_what_was_answered(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-1009"))

        expect(page.get_by_text("10 attempts")).to_be_visible()
        expect(page.locator(".attempts pre").last).to_have_text('{"error": "the warehouse is being counted"}')

    def test_it_is_copied_as_a_command_without_a_key(self, page: Page, console: Console) -> None:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(event(console, "order-1004"))

        page.get_by_role("button", name="Copy as curl").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()

        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith('curl -s "$KONGFLOW_URL/api/v1/events"')
        assert '"amount": 16.5' in copied
        assert "$KONGFLOW_KEY" in copied

    @pytest.mark.parametrize(("works", "says"), [("true", "Copied"), ("false", "Selected")])
    def test_without_a_clipboard_it_is_selected_and_copied_as_far_as_that_works(
        self, page: Page, console: Console, works: str, says: str
    ) -> None:
        # As over plain HTTP from another host.
        page.add_init_script(
            f"""Object.defineProperty(Navigator.prototype, "clipboard", {{ get: () => undefined }});
                document.execCommand = (command) => {{ window.asked = command; return {works}; }};"""
        )
        page.goto(event(console, "order-1004"))

        page.get_by_role("button", name="Copy as curl").click()
        expect(page.get_by_role("button", name=says)).to_be_visible()

        assert page.evaluate("window.asked") == "copy"
        assert page.evaluate("getSelection().toString()").startswith('curl -s "$KONGFLOW_URL/api/v1/events"')
        expect(page.get_by_role("button", name="Copy as curl")).to_be_visible()

    def test_it_is_replayed_to_one_dispatcher(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-1004"))

        page.get_by_text("Replay…").click()
        page.locator("form.sheet select").select_option(str(console.shop.dispatchers["ledger"]))
        page.get_by_role("button", name="Replay it").click()

        expect(page.locator(".flash.good")).to_contain_text("delivers it to dispatcher")
        assert query(console.database, "SELECT count(*) FROM bulk_operations WHERE kind = 'replay'") == [(1,)]

    def test_one_that_is_delayed_is_cancelled(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-later"))

        page.get_by_text("Cancel…", exact=True).click()
        page.get_by_role("button", name="Cancel the event").click()

        expect(page.locator(".flash.good")).to_have_text("Cancelled.")
        expect(page.locator("h1 .badge")).to_have_text("cancelled")
        expect(page.get_by_text("Cancel…", exact=True)).to_have_count(0)

    def test_its_dead_delivery_is_redriven(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-undelivered-3"))
        expect(page.locator("h1 .badge")).to_have_text("dead")

        page.get_by_role("button", name="Redrive delivery").click()

        expect(page.locator(".flash.good")).to_have_text("It is delivered again now.")
        expect(page.locator("h1 .badge")).to_have_text("pending")

    def test_its_dead_delivery_is_dismissed(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-undelivered-4"))

        page.get_by_text("Dismiss…").click()
        page.get_by_role("button", name="Dismiss it").click()

        expect(page.locator(".flash.good")).to_have_text("Dismissed: it is owed no longer.")
        expect(page.get_by_text("Dismiss…")).to_have_count(0)

    def test_its_runs_are_cancelled(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-1012"))

        page.get_by_text("Cancel runs…").click()
        page.get_by_role("button", name="Cancel its runs").click()

        expect(page.locator(".flash.good")).to_have_text("Cancelled runs: 1.")

    def test_its_dead_invocation_is_redriven(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-1001"))
        expect(page.locator(".timeline .badge", has_text="dead")).to_be_visible()

        page.get_by_role("button", name="Redrive").click()

        expect(page.locator(".flash.good")).to_have_text("It is tried again now.")
        expect(page.locator(".timeline .badge", has_text="dead")).to_have_count(0)

    def test_its_dead_invocation_is_dismissed(self, page: Page, console: Console) -> None:
        page.goto(event(console, "order-1003"))

        page.get_by_text("Dismiss…").click()
        page.get_by_role("button", name="Dismiss it").click()

        expect(page.locator(".flash.good")).to_have_text("Dismissed: it ends here.")
