"""In and out of the console, by password, link and keyboard; its colours; and what it lets a browser do."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from kongflow_events.services import sign_in
from kongflow_events.store import db
from tests.chromium.conftest import PASSWORD, Console, Visitor

pytestmark = pytest.mark.slow


@pytest.fixture
def stranger(chromium: Browser, visitors: list[Visitor]) -> Page:
    """A page of a browser in which nobody is signed in."""
    visitors.append(Visitor(chromium.new_context()))
    return visitors[-1].page


def test_somebody_signs_in_by_keyboard_comes_to_the_page_asked_for_and_signs_out(
    stranger: Page, console: Console
) -> None:
    stranger.goto(console.at("keys"))
    expect(stranger.get_by_label("Name")).to_be_focused()

    stranger.keyboard.type("olga")
    stranger.keyboard.press("Tab")
    stranger.keyboard.type(PASSWORD)
    stranger.keyboard.press("Enter")
    expect(stranger.get_by_role("heading", level=1)).to_have_text("Keys and secrets")

    stranger.get_by_text("olga").first.click()
    stranger.get_by_role("button", name="Sign out").click()
    expect(stranger.get_by_role("heading", level=1)).to_have_text("Sign in")
    stranger.goto(console.at("keys"))
    expect(stranger.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_a_wrong_password_is_told_and_the_name_stays(stranger: Page, console: Console, visitors: list[Visitor]) -> None:
    stranger.goto(f"{console.url}/console/sign-in")
    stranger.get_by_label("Name").fill("olga")
    stranger.get_by_label("Password").fill("not this one")
    stranger.get_by_role("button", name="Sign in").click()

    expect(stranger.get_by_role("alert")).to_contain_text("is wrong")
    expect(stranger.get_by_label("Name")).to_have_value("olga")
    # The browser's own line about the 401.
    [complaint] = visitors[-1].complaints
    assert "401" in complaint
    visitors[-1].complaints.clear()


def test_a_link_signs_in_once(stranger: Page, console: Console, visitors: list[Visitor]) -> None:
    db.connect(console.database)
    with db.unit():
        link = f"{console.url}/console/link/{sign_in.make_link('by link')}"
    db.close()

    stranger.goto(link)
    expect(stranger.get_by_text("by link").first).to_be_visible()
    again = stranger.goto(link)

    assert again is not None
    assert again.status == 401
    visitors[-1].complaints.clear()


def test_colours_are_chosen_and_stay(page: Page, console: Console) -> None:
    page.goto(console.at("runs"))
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.get_by_text("olga").first.click()
    page.get_by_role("button", name="Dark").click()

    assert page.url == console.at("runs")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.goto(console.at("dead"))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_by_keyboard_alone_a_letter_is_dismissed(page: Page, console: Console) -> None:
    page.goto(console.at("dead"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.locator("table").first.locator("tbody tr").last.get_by_role("button", name="Redrive").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Dismiss it")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Dismiss it")).not_to_be_visible()

    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.locator(".flash.good")).to_have_text("It is dismissed")


def test_what_has_the_focus_can_be_seen(page: Page, console: Console) -> None:
    page.goto(console.at("dispatchers"))
    seen = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))

    assert seen == {"solid"}


def test_a_page_may_run_nothing_but_its_own_files(page: Page, console: Console, visitors: list[Visitor]) -> None:
    answer = page.goto(console.at("events"))
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy

    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<button id=attack onclick='window.ran = 1'>x</button>");
        document.getElementById("attack").click();
    }""")

    assert page.evaluate("window.ran") is None
    complaints = visitors[-1].complaints
    assert len(complaints) == 2
    assert all(re.search("Content Security Policy", one) for one in complaints)
    complaints.clear()


def test_a_form_of_another_site_changes_nothing(page: Page, console: Console, visitors: list[Visitor]) -> None:
    page.goto("about:blank")
    page.set_content(
        f"""<form method="post" action="{console.at("keys", "create")}"><button>Win a prize</button></form>"""
    )
    with page.expect_navigation():
        page.get_by_role("button").click()

    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#secret")).to_have_count(0)
    visitors[-1].complaints.clear()
