"""Who gets into the console: sign-in, sessions, roles, forms, and what the audit log says of it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from falcon import testing
from structlog.testing import capture_logs

from kongflow_events import models
from kongflow_events.services import operators, sign_in
from kongflow_events.store import db
from tests import factory
from tests.browser import HOST, PASSWORD, Browser


@pytest.fixture
def browser(client: testing.TestClient) -> Browser:
    """A browser in which nobody is signed in."""
    return Browser(client)


def audited() -> list[tuple[str, str, str]]:
    """Who did what on what, oldest first."""
    with db.unit():
        rows = list(models.AuditEntry.select().order_by(models.AuditEntry.id))
    return [(row.operator, row.action, row.subject) for row in rows]


def add(name: str = "olga", role: Any = "operator") -> None:
    with db.unit():
        operators.add_operator(name, role, PASSWORD)


class TestSignIn:
    def test_whoever_is_not_signed_in_is_sent_to_the_form_and_back_afterwards(self, browser: Browser) -> None:
        add()

        away = browser.get("/console/environments", params={"like": "shop"})
        assert (away.status_code, away.headers["location"]) == (
            303,
            "/console/sign-in?next=%2Fconsole%2Fenvironments%3Flike%3Dshop",
        )
        form = browser.get(away.headers["location"])
        assert 'value="/console/environments?like=shop"' in form.text
        again = browser.post("/console/sign-in", name="olga", password="wrong", next="/console/environments?like=shop")
        assert 'value="/console/environments?like=shop"' in again.text
        back = browser.post("/console/sign-in", name="olga", password=PASSWORD, next="/console/environments?like=shop")

        assert (back.status_code, back.headers["location"]) == (303, "/console/environments?like=shop")
        assert browser.get("/console/environments").status_code == 200

    @pytest.mark.parametrize(
        "elsewhere",
        ["https://evil.example", "//evil.example", "/console\\@evil.example", "/consolette", "/console/\r\nX: 1", ""],
    )
    def test_the_form_leads_to_no_other_site(self, browser: Browser, elsewhere: str) -> None:
        add()

        answer = browser.post("/console/sign-in", name="olga", password=PASSWORD, next=elsewhere)

        assert answer.headers["location"] == "/console"

    def test_an_unknown_name_a_wrong_password_and_a_disabled_operator_are_answered_alike(
        self, browser: Browser
    ) -> None:
        add()
        add("gone")
        with db.unit():
            operators.disable_operator("gone")
            sign_in.make_link("by link only")

        answers = [
            browser.post("/console/sign-in", name=name, password=password)
            for name, password in (
                ("nobody", PASSWORD),
                ("olga", "not her password"),
                ("gone", PASSWORD),
                ("by link only", PASSWORD),
            )
        ]

        assert {answer.status_code for answer in answers} == {401}
        assert len({re.sub('value="[^"]*"', "", answer.text) for answer in answers}) == 1
        assert "The name or the password is wrong" in answers[0].text
        assert not browser.cookies

    def test_the_cookie_is_out_of_reach_and_the_database_has_only_its_hash(self, browser: Browser) -> None:
        add()

        answer = browser.post("/console/sign-in", name="olga", password=PASSWORD)
        cookie = answer.cookies["kongflow_session"]
        assert (cookie.http_only, cookie.same_site, cookie.path, cookie.secure) == (True, "Lax", "/console", False)
        assert cookie.max_age == 12 * 3600
        behind_tls = browser.post(
            "/console/sign-in", {"X-Forwarded-Proto": "https"}, name="olga", password=PASSWORD
        ).cookies["kongflow_session"]
        assert behind_tls.secure

        with db.unit():
            stored = [bytes(row.sha256) for row in models.OperatorSession.select()]
            [password] = [row.password for row in models.Operator.select()]
        assert len(stored) == 2
        assert cookie.value.encode() not in stored
        assert password.startswith("$argon2id$")

    def test_a_name_can_be_tried_ten_times_and_then_has_to_wait_even_with_the_right_password(
        self, browser: Browser
    ) -> None:
        add("rita")

        tried = [browser.post("/console/sign-in", name="rita", password="wrong").status_code for _ in range(10)]
        refused = browser.post("/console/sign-in", name="rita", password=PASSWORD)

        assert tried == [401] * 10
        assert refused.status_code == 429
        assert "try again in" in refused.text
        assert not browser.cookies

    def test_an_address_can_try_twenty_names(self, browser: Browser) -> None:
        proxied = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}

        tried = [browser.post("/console/sign-in", proxied, name=f"n{n}", password="x").status_code for n in range(21)]

        assert tried == [401] * 20 + [429]
        # Another one is none the worse for it.
        assert browser.post("/console/sign-in", name="n", password="x").status_code == 401
        with db.unit():
            assert {row.address for row in models.AuditEntry.select()} == {"203.0.113.9", "127.0.0.1"}

    @pytest.mark.parametrize(
        ("beside", "status"), [("2001:db8:0:1:ffff::2", 429), ("2001:db8:0:2::1", 401), ("::ffff:192.0.2.2", 401)]
    )
    def test_addresses_of_one_network_of_ipv6_are_one(self, browser: Browser, beside: str, status: int) -> None:
        for at in ("2001:db8:0:1::1", "::ffff:192.0.2.1"):
            for n in range(20):
                browser.post("/console/sign-in", {"X-Forwarded-For": at}, name=f"n{n}", password="x")

        assert (
            browser.post("/console/sign-in", {"X-Forwarded-For": beside}, name="n", password="x").status_code == status
        )

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://[", f"http://{HOST}.evil.example"])
    def test_a_form_of_another_site_signs_nobody_in(self, browser: Browser, origin: str) -> None:
        add()

        answer = browser.post("/console/sign-in", {"Origin": origin}, name="olga", password=PASSWORD)

        assert answer.status_code == 403
        assert not browser.cookies


class TestSession:
    def test_it_ends_with_its_time(self, browser: Browser) -> None:
        browser.sign_in()
        with db.unit():
            table = models.OperatorSession
            table.update(expires_at=table.expires_at - timedelta(hours=12)).execute()

        assert browser.get("/console/environments").status_code == 303

    def test_signing_out_ends_it_for_every_copy_of_the_cookie(self, browser: Browser) -> None:
        browser.sign_in(role="viewer")
        copied = dict(browser.cookies)

        answer = browser.post("/console/sign-out")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
        assert "kongflow_session" not in browser.cookies

        browser.cookies = copied
        assert browser.get("/console/environments").status_code == 303

    def test_a_disabled_operator_and_one_with_a_new_password_are_out_at_once(self, browser: Browser) -> None:
        browser.sign_in()
        with db.unit():
            operators.set_password("olga", "another long password")
        assert browser.get("/console/environments").status_code == 303

        browser.post("/console/sign-in", name="olga", password="another long password")
        assert browser.get("/console/environments").status_code == 200
        with db.unit():
            operators.disable_operator("olga")
        assert browser.get("/console/environments").status_code == 303

    def test_a_part_of_a_page_sends_the_whole_page_to_the_form(self, browser: Browser) -> None:
        answer = browser.get("/console/environments", headers={"HX-Request": "true"})

        assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/console/sign-in")

    def test_a_made_up_cookie_is_nobody(self, browser: Browser) -> None:
        browser.cookies["kongflow_session"] = "x" * 43

        assert browser.get("/console/environments").status_code == 303


class TestLink:
    def test_it_signs_in_once(self, browser: Browser) -> None:
        with db.unit():
            token = sign_in.make_link("dev")

        first = browser.get(f"/console/link/{token}")
        assert (first.status_code, first.headers["location"]) == (303, "/console")
        assert "dev" in browser.get("/console/environments").text

        browser.cookies.clear()
        again = browser.get(f"/console/link/{token}")
        assert again.status_code == 401
        assert "used already" in again.text
        assert not browser.cookies
        assert audited() == [("dev", "sign-in.link", "console")]

    def test_it_ends_after_an_hour_and_with_the_next_one(self, browser: Browser) -> None:
        with db.unit():
            first, second = sign_in.make_link("dev"), sign_in.make_link("dev")
            [link] = models.OperatorLink.select()
            assert timedelta(minutes=59) < link.expires_at - db.now() <= timedelta(hours=1)
            models.OperatorLink.update(expires_at=db.now()).execute()

        assert browser.get(f"/console/link/{first}").status_code == 401
        assert browser.get(f"/console/link/{second}").status_code == 401

    def test_the_log_does_not_have_one_that_still_works(self, browser: Browser) -> None:
        with db.unit():
            token = sign_in.make_link("dev")
        at = {"X-Forwarded-For": "198.51.100.9"}
        for n in range(20):
            browser.post("/console/sign-in", at, name=f"n{n}", password="x")

        with capture_logs() as said:
            assert browser.get(f"/console/link/{token}", headers=at).status_code == 429

        assert "/console/link/{token}" in [line.get("path") for line in said]
        assert token not in str(said)


class TestForms:
    def test_without_the_sessions_token_nothing_is_done(self, browser: Browser) -> None:
        browser.sign_in()

        for token in ("", "0" * 64, "\u00e9"):
            assert browser.post("/console/sign-out", form_token=token).status_code == 403
        assert browser.get("/console/environments").status_code == 200

    def test_the_token_of_another_session_is_none(self, client: testing.TestClient, browser: Browser) -> None:
        browser.sign_in()
        other = Browser(client).sign_in("otto")

        assert browser.post("/console/sign-out", form_token=other.form_token).status_code == 403

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
    def test_another_sites_form_does_nothing_even_with_the_token(self, browser: Browser, origin: str) -> None:
        browser.sign_in()

        assert browser.post("/console/sign-out", {"Origin": origin}).status_code == 403
        assert browser.get("/console/environments").status_code == 200

    def test_a_url_that_asks_too_much_is_refused(self, browser: Browser) -> None:
        browser.sign_in()

        assert browser.get("/console/environments", query_string="&".join(["a=1"] * 201)).status_code == 400

    def test_what_is_no_form_is_refused(self, browser: Browser) -> None:
        origin = {"Origin": f"http://{HOST}"}

        for body, status in ((b"\xff", 400), (b"a=%00", 400), (b"&".join([b"a=1"] * 201), 400), (b"x" * 262_145, 413)):
            answer = browser.client.simulate_post("/console/sign-in", body=body, headers=origin)
            assert answer.status_code == status, answer.text


class TestPages:
    def test_every_answer_has_the_strict_headers(self, browser: Browser) -> None:
        nobody = [browser.get(path) for path in ("/console", "/console/sign-in", "/console/nowhere", "/console/link/x")]
        browser.sign_in()
        answers = [*nobody, browser.get("/console/environments"), browser.post("/console/theme", theme="dark")]

        for answer in answers:
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"

    def test_the_choice_of_colours_is_kept(self, browser: Browser) -> None:
        assert "data-theme" not in browser.get("/console/sign-in").text

        browser.post("/console/theme", theme="dark", next="/console/sign-in")
        assert '<html lang="en" data-theme="dark">' in browser.get("/console/sign-in").text
        browser.post("/console/theme", theme="<script>")
        assert '<html lang="en" data-theme="dark">' in browser.get("/console/sign-in").text

    @pytest.mark.parametrize(
        ("came", "back"),
        [
            (f"http://{HOST}/console/environments?like=a", "/console/environments?like=a"),
            ("https://evil.example/console/environments", "/console"),
            (f"http://{HOST}/docs", "/console"),
            ("http://[", "/console"),
        ],
    )
    def test_what_went_wrong_leads_back_to_a_page_of_ours(self, browser: Browser, came: str, back: str) -> None:
        answer = browser.get("/console/nowhere", headers={"Referer": came})

        assert answer.status_code == 404
        assert f'href="{back}">Back</a>' in answer.text

    def test_environments_are_found_by_a_part_of_their_name(self, browser: Browser) -> None:
        browser.sign_in()
        assert "No environment" in browser.get("/console/environments").text
        alice = factory.environment("alice")
        factory.environment("bob")

        everything = browser.get("/console/environments").text
        assert f"/console/env/{alice.id}/overview" in everything
        assert "<strong>bob</strong>" in everything
        found = browser.get("/console/environments", params={"like": "ALICE/dev"}).text
        assert ("<strong>alice</strong>" in found, "<strong>bob</strong>" in found) == (True, False)

    def test_the_first_page_is_the_only_environments(self, browser: Browser) -> None:
        alice = factory.environment("alice")
        assert browser.get("/").headers["location"] == "/console"
        assert browser.get("/console").headers["location"] == "/console/sign-in?next=%2Fconsole"
        browser.sign_in()
        assert browser.get("/console").headers["location"] == f"/console/env/{alice.id}/overview"

        factory.environment("bob")
        assert browser.get("/console").headers["location"] == "/console/environments"


class TestAudit:
    def test_coming_going_and_being_refused_are_written_down(self, browser: Browser) -> None:
        browser.sign_in()
        browser.post("/console/sign-out")
        browser.post("/console/sign-in", name="olga", password="guess")

        assert audited() == [
            ("shell", "operator.add", "operator olga"),
            ("olga", "sign-in", "console"),
            ("olga", "sign-out", "console"),
            ("olga", "sign-in.refused", "console"),
        ]
