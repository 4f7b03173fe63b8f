"""The way of somebody new beside `kongflow-events dev`: from the link that it prints to a dead letter that is tried again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chromium.conftest import Visitor
from tests.integration.test_dev import dev, printed_link
from tests.processes import Http
from tests.receiver import Receiver, status
from tests.servers import eventually, free_port

pytestmark = pytest.mark.slow

JOB = {
    "id": "ship-order",
    "name": "Ship an order",
    "version": "1.0.0",
    "trigger": {"event": "order.paid", "filter": {"amount": [{"$gt": 10}]}},
}


@contextmanager
def somebody(chromium: Browser) -> Iterator[Page]:
    """A page of a browser that knows nothing yet, and has nothing to complain about."""
    visitor = Visitor(chromium.new_context())
    yield visitor.page
    visitor.context.close()
    assert visitor.complaints == []


def send(http: Http, event_id: str, amount: int) -> None:
    http("POST", "/api/v1/events", {"event": {"id": event_id, "name": "order.paid", "payload": {"amount": amount}}})


def called(http: Http, state: str) -> list[Any]:
    """The calls that are in this state."""
    found = http("GET", f"/api/v1/invocations?status={state}")["data"]
    return [one for one in found if one["dispatchable"]["type"] == "WEBHOOK"]


def find(page: Page, event_id: str) -> None:
    """Open an event's page by way of the list."""
    page.get_by_role("link", name="Events", exact=True).click()
    page.get_by_label("Sender's id").fill(event_id)
    page.get_by_role("button", name="Find").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="order.paid").click()


def loaded_anew(page: Page, text: str) -> bool:
    """Whether the page says this by now."""
    page.reload()
    return page.get_by_text(text).is_visible()


def test_from_the_printed_link_to_a_dead_letter_that_is_tried_again(home: Path, chromium: Browser) -> None:
    # It is gone, says the receiver, for which a call is dead at once and its dispatcher is disabled; then it is there again.
    with Receiver(status(410), status(200)) as shop, dev(home, free_port()) as (http, _), somebody(chromium) as page:
        page.goto(printed_link(home))
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

        http("POST", "/api/v1/jobs", JOB)
        send(http, "order-small", 5)
        find(page, "order-small")
        eventually(lambda: loaded_anew(page, "No dispatcher took it"))
        expect(page.locator(".leaf:not(.holds)").last).to_have_text(re.compile(r"payload\.amount \$gt 10, found 5"))

        rule = {"event": "order.paid", "dispatchable": {"type": "WEBHOOK", "url": shop.url}}
        http("POST", "/api/v1/event-dispatchers", rule)
        send(http, "order-1", 42)
        eventually(lambda: called(http, "DEAD"))
        page.get_by_role("link", name="Overview", exact=True).click()
        page.locator("#to-dead-letters").click()
        expect(page.locator("tbody tr")).to_contain_text("410")

        page.locator("td[data-head=Dispatcher] a").click()
        page.get_by_role("button", name="Enable").click()
        expect(page.locator(".flash.good")).to_contain_text("It is enabled")
        page.get_by_role("link", name="Dead letters", exact=True).click()
        page.get_by_role("button", name="Redrive").click()
        expect(page.locator(".flash.good")).to_contain_text("It has new attempts")
        expect(page.get_by_text("Nothing has used up its attempts.")).to_be_visible()

        eventually(lambda: called(http, "SUCCEEDED"))
        find(page, "order-1")
        expect(page.get_by_text("redriven once")).to_be_visible()
        page.get_by_text("2 attempts").click()
        expect(page.locator(".attempts .badge")).to_have_text(["refused", "succeeded"])
        assert len(shop.calls) == 2
