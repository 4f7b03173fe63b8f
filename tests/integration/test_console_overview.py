"""The console's first page, and what holds for every page: it only reads, and waits for no long statement."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import psycopg2
import pytest
from falcon import testing

from kongflow_events import models, words
from kongflow_events.console import charts
from kongflow_events.services import health
from kongflow_events.store import console_overview, db, readers
from tests import factory
from tests.browser import Browser
from tests.console import built
from tests.integration.conftest import Api

HOOK = {"type": words.WEBHOOK, "url": "https://shop.example/hooks"}


@pytest.fixture
def browser(client: testing.TestClient) -> Browser:
    """A viewer's."""
    return Browser(client).sign_in(role="viewer")


def figures(browser: Browser, api: Api) -> dict[str, str]:
    """The tiles: what each says, by its label."""
    page = browser.get(f"/console/env/{api.environment.id}/overview")
    assert page.status_code == 200, page.text
    found = re.findall(
        r"<dt>(?:<a [^>]*>)?([^<]+)(?:</a>)?</dt>\s*<dd><span class=\"figure\">([^<]*)</span>", page.text
    )
    return {label: value.strip() for label, value in found}


class TestFigures:
    def test_they_say_how_much_came_and_what_became_of_it(self, browser: Browser, alice: Api, bob: Api) -> None:
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
        factory.dispatcher(alice.environment, "order.bad", to={"type": words.JOB_VERSION, "id": str(uuid.uuid4())})
        for name in (factory.JOB_EVENT, factory.JOB_EVENT, "order.bad"):
            alice.send(name)
        factory.work()
        alice.send(options={"deliverAfter": 3600})
        alice.send()
        bob.send()

        said = figures(browser, alice)

        assert (said["Received"], said["Delivered"], said["Dead letters"], said["Due now"]) == ("5", "3", "1", "1")
        assert said["Oldest due"] != "–"
        assert said["95 of 100 within"].endswith(("ms", " s"))
        text = built(browser.get(f"/console/env/{alice.environment.id}/overview")).text
        assert "5 received, 3 of them delivered; 1 invocations with a failed attempt, 1 dead." in text
        assert "delivered 3 cancelled 0 pending 2 dead 0 unmatched 0" in text
        assert "pending 0 succeeded 2 dead 1 skipped 0 canceled 0" in text
        assert "No process has said that it lives" in text

    def test_an_empty_environment_has_none(self, browser: Browser, alice: Api) -> None:
        said = figures(browser, alice)

        assert set(said.values()) == {"0", "–"}

    def test_calls_that_are_owed_are_in_the_backlog(self, alice: Api) -> None:
        factory.dispatcher(alice.environment, to=HOOK)
        alice.send()
        factory.work()

        with readers.reading():
            found = {kind.kind: (kind.owed, kind.due) for kind in console_overview.backlog(alice.environment.id)}

        assert found == {"deliver": (0, 0), "invoke": (0, 0), "post": (1, 1)}

    @pytest.mark.parametrize("waits", ["rests_until = now() + interval '1 hour'", "paused_at = now()"])
    def test_calls_that_wait_for_a_target_are_not_late(self, browser: Browser, alice: Api, waits: str) -> None:
        resting, other = (factory.dispatcher(alice.environment, name, to=HOOK) for name in ("a", "b"))
        for name in "aab":
            alice.send(name)
        factory.work()
        with db.unit():
            for dispatcher in (resting, other):
                models.Target.insert(dispatcher_id=dispatcher).on_conflict_ignore().execute()
            db.run(f"UPDATE targets SET {waits} WHERE dispatcher_id = %s", (resting,))
            db.run("UPDATE outbox SET due_at = now() - interval '10 minutes' WHERE lane = %s", (resting,))

        said = figures(browser, alice)

        assert said["Due now"] == "1"
        assert "min" not in said["Oldest due"]
        text = built(browser.get(f"/console/env/{alice.environment.id}/overview")).text
        assert "of 3 owed, 2 for a target that rests" in text
        assert "calls to make 2 wait for a target that rests or is paused 3 1" in text

    def test_what_is_due_leads_to_what_it_is(self, browser: Browser, alice: Api) -> None:
        page = browser.get(f"/console/env/{alice.environment.id}/overview").text

        assert '<a id="to-due-now" href="#backlog">' in page
        assert page.count('id="backlog"') == 1

    def test_a_busy_minute_is_estimated_from_its_end(self, alice: Api) -> None:
        with db.unit():
            now = db.now().replace(second=0, microsecond=0)
            owner = {
                "name": "order.paid",
                "organization_id": alice.environment.organization_id,
                "project_id": alice.environment.project_id,
                "environment_id": alice.environment.id,
            }
            # Ten a second, through one whole minute.
            began = now - timedelta(minutes=5)
            for n in range(600):
                at = words.first_id_at(began + timedelta(milliseconds=100 * n))
                models.EventRecord.create(id=at, event_id=str(n), **owner)
        with readers.reading():
            [quiet, busy] = console_overview.minutes(
                alice.environment.id, [began - timedelta(minutes=1), began], [began, began + timedelta(minutes=1)]
            )

        assert (quiet.received, quiet.estimated) == (0, False)
        assert (busy.received, busy.states["unmatched"], busy.estimated) == (600, 600, True)

    def test_processes_are_shown_by_their_signs_of_life(self, browser: Browser, alice: Api) -> None:
        with db.unit():
            for instance in ("old:1", "new:2"):
                health.beat("scheduler", instance)
            health.beat("worker", "lost:3")
            db.run("UPDATE process_heartbeats SET beat_at = now() - interval '5 minutes' WHERE instance <> 'new:2'")
        with readers.reading():
            states = {process.instance: process.state for process in console_overview.processes()}

        assert states == {"new:2": "live", "old:1": "gone", "lost:3": "silent"}
        assert "worker lost:3 silent 5 min" in built(browser.get(f"/console/env/{alice.environment.id}/overview")).text

    def test_the_page_is_refreshed_until_it_is_paused(self, browser: Browser, alice: Api) -> None:
        page = f"/console/env/{alice.environment.id}/overview"

        live = browser.get(page)
        assert f'hx-get="{page}/live"' in live.text
        part = browser.get(f"{page}/live")
        assert part.text.lstrip().startswith("<dl")
        paused = browser.get(page, params={"paused": "1"})
        assert "hx-get" not in paused.text
        assert "Go on" in built(paused).text


class TestChart:
    @pytest.mark.parametrize(
        ("most", "top"), [(0, 4), (3, 4), (5, 8), (8, 8), (9, 20), (61, 80), (99, 100), (101, 200), (7_500, 8_000)]
    )
    def test_its_axis_ends_in_a_round_figure(self, most: int, top: int) -> None:
        chart = charts.lines([("received", [0, most])], ["a", "b"])

        assert chart.rows[-1].text.replace("k", "000") == str(top)

    def test_its_lines_go_through_their_values(self) -> None:
        chart = charts.lines([("received", [0, 4, 2])], ["", "09:30", ""])

        assert chart.lines[0].path == f"M48.0 {chart.bottom}.0L498.0 12.0L{chart.right}.0 103.0"
        assert [(mark.at, mark.text) for mark in chart.columns] == [(498.0, "09:30")]


class TestReading:
    def test_a_page_can_write_nothing(self, store: str) -> None:
        with readers.reading(), pytest.raises(db.ReadOnly):
            db.run("INSERT INTO process_heartbeats (kind, instance) VALUES ('a', 'b')")

    def test_every_room_of_the_store_goes_this_way_inside_and_no_other_outside(self, alice: Api) -> None:
        def reader() -> str:
            return str(db.rows("SELECT current_setting('default_transaction_read_only') AS said")[0]["said"])

        with db.unit():
            before = reader()
            with readers.reading():
                inside = reader()
                with db.unit():
                    nested = reader()
                with pytest.raises(Exception, match="read-only"):
                    models.Operator.update(role="viewer").execute()
            after = reader()

        assert (before, inside, nested, after) == ("off", "on", "on", "off")

    def test_a_page_that_needs_too_long_says_so(self, browser: Browser, alice: Api, store: str) -> None:
        readers.close()
        readers.connect(store, statement_seconds=0.3)
        blocker = psycopg2.connect(store)
        with blocker, blocker.cursor() as cursor:
            cursor.execute("LOCK TABLE event_records")
            answer = browser.get(f"/console/env/{alice.environment.id}/events")
        blocker.close()

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert "content-security-policy" in answer.headers
        text = built(answer).text
        assert "The database cannot answer now" in text or "The database needed too long" in text

    def test_a_slow_statement_is_told_from_an_absent_database(self, browser: Browser, alice: Api, store: str) -> None:
        readers.close()
        readers.connect(store, statement_seconds=0.05)
        with db.unit():
            db.run("CREATE FUNCTION slow(uuid) RETURNS boolean LANGUAGE sql AS 'SELECT pg_sleep(1) IS NOT NULL'")
            db.run("ALTER TABLE runtime_environments RENAME TO there")
            db.run("CREATE VIEW runtime_environments AS SELECT * FROM there WHERE slow(id)")

        answer = browser.get("/console/environments")

        assert answer.status_code == 503
        assert "The database needed too long for this page" in built(answer).text

    def test_with_the_database_away_a_page_says_so_without_its_name(self, browser: Browser, alice: Api) -> None:
        readers.close()
        readers.connect("postgresql://nobody:secret@127.0.0.1:1/nothing", statement_seconds=1)

        answer = browser.get("/console/environments")

        assert answer.status_code == 503
        assert "The database cannot answer now" in built(answer).text
        assert "secret" not in answer.text
        assert "nobody" not in answer.text
