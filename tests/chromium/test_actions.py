"""Every action of the console, done in a browser as somebody would."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.chromium.conftest import Console
from tests.processes import query

pytestmark = pytest.mark.slow


def said(page: Page) -> Any:
    """What the page says of the change before it."""
    return page.locator(".flash.good")


def dispatcher(console: Console, name: str) -> str:
    return console.at("dispatchers", console.shop.dispatchers[name])


def audited(console: Console, action: str) -> list[tuple[Any, ...]]:
    """What Olga did this on, with what else there is to know."""
    entries = "SELECT operator, subject, details FROM audit_entries WHERE operator = 'olga'"
    return query(console.database, f"{entries} AND action = '{action}' ORDER BY id")


class TestDispatchers:
    def test_a_list_is_filtered_and_the_filters_stand_in_the_url(self, page: Page, console: Console) -> None:
        page.goto(console.at("dispatchers"))
        expect(page.locator("tbody tr")).to_have_count(7)

        page.get_by_label("Hears the event").fill("order.paid")
        page.get_by_label("State").select_option("failing")
        page.get_by_role("button", name="Filter").click()

        assert "name=order.paid" in page.url
        assert "state=failing" in page.url
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody")).to_contain_text("/warehouse")
        expect(page.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"\d dead"))
        page.get_by_role("link", name="Clear").click()
        expect(page.locator("tbody tr")).to_have_count(7)

    def test_one_is_paused_and_resumed(self, page: Page, console: Console) -> None:
        page.goto(dispatcher(console, "crm"))

        page.get_by_role("button", name="Pause").click()
        expect(said(page)).to_contain_text("what it owes waits, and is kept")
        expect(page.locator(".headline .badge", has_text="paused")).to_be_visible()
        page.get_by_role("button", name="Resume").click()

        expect(said(page)).to_contain_text("It goes on")
        assert [row[:2] for row in audited(console, "dispatcher.pause")] == [
            ("olga", f"dispatcher {console.shop.dispatchers['crm']}")
        ]

    def test_one_is_disabled_behind_a_question_and_enabled(self, page: Page, console: Console) -> None:
        page.goto(dispatcher(console, "refund-order"))

        page.get_by_text("Disable", exact=True).click()
        expect(page.get_by_text("It will hear no event")).to_be_visible()
        page.get_by_role("button", name="Disable it").click()
        expect(said(page)).to_contain_text("It is disabled")
        page.get_by_role("button", name="Enable").click()

        expect(said(page)).to_contain_text("It is enabled")
        assert len(audited(console, "dispatcher.disable")) == len(audited(console, "dispatcher.enable")) == 1

    def test_ones_target_that_rests_is_tried_now(self, page: Page, console: Console) -> None:
        page.goto(dispatcher(console, "paused"))
        expect(page.get_by_text("3 in a row")).to_be_visible()

        page.get_by_role("button", name="Try its target now").click()

        expect(said(page)).to_have_text("It is enabled, and its target begins anew")
        expect(page.get_by_text("in a row")).to_have_count(0)
        expect(page.get_by_role("button", name="Try its target now")).to_have_count(0)
        # Its pause is somebody's own.
        expect(page.locator(".headline .badge", has_text="paused")).to_be_visible()

    def test_a_payload_is_explained_leaf_by_leaf(self, page: Page, console: Console) -> None:
        page.goto(dispatcher(console, "warehouse"))
        expect(page.get_by_role("textbox", name="Payload")).to_have_value(re.compile('"currency": "EUR"'))

        page.get_by_role("textbox", name="Payload").fill('{"items": 0}')
        page.get_by_role("button", name="Explain").click()

        expect(page.get_by_text("It does not take the event")).to_be_visible()
        expect(page.locator(".leaf:not(.holds)").last).to_have_text(re.compile(r"payload\.items .* found 0"))
        page.get_by_role("textbox", name="Payload").fill('{"items": 3}')
        page.get_by_role("button", name="Explain").click()
        expect(page.get_by_text("It takes the event")).to_be_visible()

    def test_a_stored_event_is_explained_and_viewers_may_ask(self, viewers_page: Page, console: Console) -> None:
        page = viewers_page
        page.goto(dispatcher(console, "warehouse"))

        page.get_by_label("A stored event").fill("order-1007")
        page.get_by_role("button", name="Explain").click()

        expect(page.get_by_text("It takes the event")).to_be_visible()
        expect(page.locator(".explained")).to_contain_text("dead")

    def test_a_test_event_is_sent(self, page: Page, console: Console) -> None:
        page.goto(dispatcher(console, "ledger"))

        page.get_by_role("button", name="Send a test event").click()

        expect(said(page)).to_contain_text("A test event is on its way")
        expect(page.locator("tbody tr").first.locator(".badge")).to_have_text("pending")
        [(_, subject, details)] = audited(console, "dispatcher.test")
        assert subject == f"dispatcher {console.shop.dispatchers['ledger']}"
        assert set(details) == {"invocation"}

    def test_a_secret_is_rotated_and_shown_once(self, page: Page, console: Console) -> None:
        page.goto(dispatcher(console, "ledger"))

        page.get_by_label("The old one goes on signing for").select_option("7 days")
        page.get_by_role("button", name="Rotate").click()

        expect(page.locator("#secret")).to_have_text(re.compile("^whsec_"))
        secret = page.locator("#secret").inner_text()
        page.get_by_role("link", name="I have it").click()
        assert secret not in page.content()
        [(_, _, details)] = audited(console, "webhook.rotate-secret")
        assert details == {"overlapInSeconds": 7 * 86_400}


class TestDeadLetters:
    def test_they_are_filtered(self, page: Page, console: Console) -> None:
        page.goto(console.at("dead"))

        page.get_by_label("Died of").select_option("timeout")
        page.get_by_role("button", name="Filter").click()

        expect(page.get_by_text("No dead letter like this")).to_be_visible()

    def test_one_is_redriven_and_one_dismissed(self, page: Page, console: Console) -> None:
        page.goto(console.at("dead"))
        rows = page.locator("table").first.locator("tbody tr")
        before = rows.count()

        rows.first.get_by_role("button", name="Redrive").click()
        expect(said(page)).to_contain_text("It has new attempts")
        expect(rows).to_have_count(before - 1)
        rows.first.get_by_text("Dismiss…").click()
        rows.first.get_by_role("button", name="Dismiss it").click()

        expect(said(page)).to_contain_text("It is dismissed")
        expect(rows).to_have_count(before - 2)
        assert len(audited(console, "dead-letter.redrive")) == len(audited(console, "dead-letter.dismiss")) == 1

    def test_an_event_that_was_not_delivered_is_redriven_and_one_dismissed(self, page: Page, console: Console) -> None:
        page.goto(console.at("dead"))
        page.get_by_role("link", name="Deliveries").click()
        redriven, dismissed = (page.locator("tr", has_text=f"order-undelivered-{number}") for number in "12")

        redriven.get_by_role("button", name="Redrive").click()
        expect(said(page)).to_contain_text("It has new attempts")
        expect(redriven).to_have_count(0)
        dismissed.get_by_text("Dismiss…").click()
        dismissed.get_by_role("button", name="Dismiss it").click()

        expect(said(page)).to_have_text("It is dismissed")
        expect(dismissed).to_have_count(0)
        assert ("olga", "event order-undelivered-2", None) in audited(console, "dead-letter.dismiss")

    def test_all_that_a_filter_finds_are_counted_redriven_and_the_redrive_stopped(
        self, page: Page, console: Console
    ) -> None:
        page.goto(console.at("dead?name=order.paid"))
        found = page.locator("table").first.locator("tbody tr").count()

        page.get_by_role("link", name="Redrive all of these").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Redrive {found} dead letters?")
        page.get_by_role("button", name=f"Redrive {found}").click()

        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.locator("main .badge").first).to_have_text("running")
        page.evaluate("document.querySelector('[hx-get]').dataset.old = 'yes'")
        # No scheduler carries it on here; the part of the page still comes anew, each second.
        expect(page.locator("[data-old]")).to_have_count(0)
        page.get_by_role("button", name="Stop").click()
        expect(said(page)).to_contain_text("It is stopped")
        expect(page.locator("main .badge").first).to_have_text("canceled")
        [(_, _, details)] = audited(console, "dead-letters.redrive")
        assert (details["name"], details["total"]) == ("order.paid", found)


class TestRuns:
    def test_a_run_is_found_and_cancelled(self, page: Page, console: Console) -> None:
        page.goto(console.at("runs"))
        page.get_by_label("Job").fill("refund-order")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("tbody tr")).to_have_count(1)

        page.get_by_role("link", name="refund-order").click()
        page.get_by_text("Cancel the run").click()
        page.get_by_role("button", name="Cancel it").click()

        expect(said(page)).to_have_text("The run is cancelled")
        expect(page.get_by_text("Cancel the run")).to_have_count(0)
        assert len(audited(console, "run.cancel")) == 1


class TestKeys:
    def test_a_key_is_made_shown_once_and_revoked(self, page: Page, console: Console) -> None:
        page.goto(console.at("keys"))

        page.get_by_label("Kind").select_option("public")
        page.get_by_label("Expires").select_option("in 30 days")
        page.get_by_role("button", name="Create a key").click()
        key = page.locator("#secret").inner_text()
        assert re.fullmatch("pk_prod_[A-Za-z0-9]{32}", key)
        page.get_by_role("link", name="I have it").click()

        assert key not in page.content()
        row = page.locator("tr", has_text=key[: len("pk_prod_") + 4])
        expect(row).to_contain_text("in 29 d")
        row.get_by_text("Revoke", exact=True).click()
        row.get_by_role("button", name="Revoke it").click()
        expect(row.locator(".badge")).to_have_text("revoked")
        assert len(audited(console, "key.create")) == len(audited(console, "key.revoke")) == 1
        assert key not in str(audited(console, "key.create"))

    def test_a_webhooks_secret_is_rotated_from_the_list(self, page: Page, console: Console) -> None:
        page.goto(console.at("keys"))
        row = page.locator("tr", has_text="/crm")

        row.get_by_text("Rotate", exact=True).click()
        row.get_by_role("button", name="Rotate it").click()
        expect(page.locator("#secret")).to_have_text(re.compile("^whsec_"))
        page.goto(console.at("keys"))

        expect(page.locator("tr", has_text="/crm")).to_contain_text("1, ending in 23 h")


class TestAudit:
    def test_who_did_what_is_found(self, page: Page, console: Console) -> None:
        page.goto(dispatcher(console, "paused"))
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="Pause").click()

        page.get_by_role("link", name="Audit log").click()
        page.get_by_label("What", exact=True).fill("dispatcher.resume")
        page.get_by_label("On what").fill(str(console.shop.dispatchers["paused"])[:20])
        page.get_by_role("button", name="Filter").click()

        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody tr")).to_contain_text("olga")
        expect(page.locator("tbody tr")).to_contain_text("shop/prod")


class TestRoles:
    @pytest.mark.parametrize("path", ["dispatchers", "dead", "runs", "keys", "audit", "dead/redrive"])
    def test_a_viewer_is_offered_no_change(self, viewers_page: Page, console: Console, path: str) -> None:
        viewers_page.goto(console.at(path))

        assert viewers_page.locator("main form[method=post]").count() == 0

    def test_a_viewer_may_only_ask_a_dispatcher(self, viewers_page: Page, console: Console) -> None:
        viewers_page.goto(dispatcher(console, "warehouse"))

        forms = viewers_page.locator("main form[method=post]")
        assert [one.get_attribute("action").rpartition("/")[2] for one in forms.all()] == ["explain#explain"]
