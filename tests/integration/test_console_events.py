"""The console's list of events: what its filters find, how its pages go on, and what it costs."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from falcon import testing

from kongflow_events import models, words
from kongflow_events.services import cancel
from kongflow_events.store import console_events, db, events
from tests import factory
from tests.browser import Browser
from tests.console import built
from tests.integration.conftest import Api
from tests.plans import rows_read

ROW = re.compile(r'<td data-head="Event">.*?<span class="soft mono">([^<]+)</span>', re.DOTALL)


@pytest.fixture
def browser(client: testing.TestClient) -> Browser:
    """A viewer's."""
    return Browser(client).sign_in(role="viewer")


def listed(browser: Browser, api: Api, **asked: str) -> list[str]:
    """The senders' ids on the page."""
    answer = browser.get(f"/console/env/{api.environment.id}/events", params=asked)
    assert answer.status_code == 200, answer.text
    return ROW.findall(answer.text)


def store(environment: words.Environment, number: int, began: datetime, name: str = "order.paid") -> None:
    """So many delivered events, a millisecond apart from `began` on, each with an id of its time."""
    times = [began + timedelta(milliseconds=n) for n in range(number)]
    with db.unit():
        db.run(
            """INSERT INTO event_records (id, event_id, name, organization_id, project_id, environment_id, created_at,
                                          deliver_at, delivered_at)
               SELECT id, id::text, %(name)s, %(organization)s, %(project)s, %(environment)s, at, at, at
                 FROM unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) AS made(id, at)""",
            {
                "ids": [uuid.UUID(int=words.first_id_at(at).int + n) for n, at in enumerate(times)],
                "times": times,
                "name": name,
                "organization": environment.organization_id,
                "project": environment.project_id,
                "environment": environment.id,
            },
        )
        db.run("ANALYZE event_records")


class TestFilters:
    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({}, ["6", "5", "4", "3", "2", "1"]),
            ({"name": "order.late"}, ["2"]),
            ({"name": "order"}, []),
            ({"source": "shop"}, ["3"]),
            ({"id": "4"}, ["4"]),
            ({"id": " 4 "}, ["4"]),
            ({"state": "delivered"}, ["1"]),
            ({"state": "unmatched"}, ["5", "4", "3", "2"]),
            ({"state": "pending"}, []),
            ({"state": "cancelled"}, ["6"]),
            ({"test": "only"}, ["5"]),
            ({"test": "none"}, ["6", "4", "3", "2", "1"]),
            ({"since": "2020-01-01"}, ["6", "5", "4", "3", "2", "1"]),
            ({"until": "2020-01-01T09:30"}, []),
            ({"since": "2090-01-01T09:30:00Z"}, []),
            ({"since": "0001-01-01", "until": "9999-12-31T23:59:59Z"}, ["6", "5", "4", "3", "2", "1"]),
            ({"q": r'payload.user.name:"\\u0000"'}, []),
            ({"name": "order.paid", "q": "payload.user.id:42"}, ["4", "1"]),
            ({"q": 'payload.user.id:"42"'}, ["4"]),
            ({"q": "payload.tags:eu"}, ["1"]),
            ({"q": 'payload.user.name:"Ann Lee"'}, ["1"]),
            ({"q": "payload.user.id:42 payload.tags:eu"}, ["1"]),
            ({"q": "payload.gone:null"}, ["2"]),
            ({"q": "context.region:west"}, ["3"]),
            ({"q": "payload.user:42"}, []),
            ({"q": "payload.%:' OR true --"}, None),
        ],
    )
    def test_they_find_what_is_asked_for(
        self, browser: Browser, alice: Api, bob: Api, asked: dict[str, str], expected: list[str] | None
    ) -> None:
        job = factory.to_job(factory.job(alice.environment))
        factory.dispatcher(alice.environment, "order.paid", to=job, payload_filter={"user": {"id": [42]}})
        alice.send("order.paid", id="1", payload={"user": {"id": 42, "name": "Ann Lee"}, "tags": ["eu", "new"]})
        alice.send("order.late", id="2", payload={"gone": None})
        alice.send("order.gone", id="3", source="shop", context={"region": "west"})
        alice.send("order.paid", id="4", payload={"user": {"id": "42"}})
        alice.send("order.test", id="5")
        alice.send("order.gone", id="6")
        bob.send("order.paid", id="bobs", payload={"user": {"id": 42}})
        factory.work()
        with db.unit():
            models.EventRecord.update(is_test=True).where(models.EventRecord.event_id == "5").execute()
            cancel.cancel_event(alice.environment, "6")

        if expected is None:
            assert browser.get(f"/console/env/{alice.environment.id}/events", params=asked).status_code == 422
        else:
            assert listed(browser, alice, **asked) == expected

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"state": "lost"}, "A state is one of delivered"),
            ({"test": "maybe"}, "Test events are asked for by one of only, none"),
            ({"since": "yesterday"}, "A time is like 2026-06-17"),
            ({"q": "user:42"}, "Search like payload.user.id:42"),
            ({"q": "payload.a:1 " * 6}, "Search like payload.user.id:42"),
            ({"q": 'payload.a:"open'}, "Search like payload.user.id:42"),
            ({"q": r'payload.a:"\u0000"'}, "Search like payload.user.id:42"),
            ({"q": f"payload{'.a' * 65}:1"}, "Search like payload.user.id:42"),
        ],
    )
    def test_what_means_nothing_is_said_above_the_form_which_keeps_it(
        self, browser: Browser, alice: Api, asked: dict[str, str], said: str
    ) -> None:
        answer = browser.get(f"/console/env/{alice.environment.id}/events", params={"name": "kept", **asked})

        assert answer.status_code == 422
        assert said in built(answer).text
        assert 'value="kept"' in answer.text

    def test_a_day_is_found_by_its_times(self, browser: Browser, alice: Api) -> None:
        for day in (16, 17, 18):
            store(alice.environment, 1, datetime(2026, 6, day, 9, 30, tzinfo=UTC), name=f"day.{day}")

        page = browser.get(
            f"/console/env/{alice.environment.id}/events", params={"since": "2026-06-17T09:30", "until": "2026-06-18"}
        )

        assert re.findall(r"day\.\d+", page.text) == ["day.17"]

    def test_a_row_counts_its_invocations(self, browser: Browser, alice: Api) -> None:
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
        factory.dispatcher(alice.environment, to={"type": words.JOB_VERSION, "id": str(uuid.uuid4())})
        alice.send(id="1")
        factory.work()

        text = built(browser.get(f"/console/env/{alice.environment.id}/events")).text
        assert "1 dead 1 done" in text

    def test_nothing_is_said_in_words(self, browser: Browser, alice: Api) -> None:
        page = f"/console/env/{alice.environment.id}/events"

        assert "No events yet" in built(browser.get(page)).text
        assert "No events like this" in built(browser.get(page, params={"name": "x"})).text


class TestPages:
    def test_they_go_on_where_they_ended_whatever_comes_in_between(self, browser: Browser, alice: Api) -> None:
        for n in range(110):
            alice.send(id=f"{n}")
        page = f"/console/env/{alice.environment.id}/events"

        first = browser.get(page, params={"name": factory.JOB_EVENT})
        for n in range(110, 115):
            alice.send(id=f"{n}")
        found = [ROW.findall(first.text)]
        for _ in range(2):
            [older] = [lead for lead in built(first).leads if "before=" in lead]
            assert "name=order.paid" in older
            first = browser.get(older)
            found.append(ROW.findall(first.text))

        assert [len(ids) for ids in found] == [50, 50, 10]
        assert [one for ids in found for one in ids] == [str(n) for n in reversed(range(110))]
        assert not [lead for lead in built(first).leads if "before=" in lead]

    def test_a_page_looks_at_so_many_and_says_how_to_go_on(self, browser: Browser, alice: Api) -> None:
        began = datetime(2026, 6, 17, tzinfo=UTC)
        store(alice.environment, 1, began, name="needle")
        store(alice.environment, console_events.LOOKED + 5, began + timedelta(hours=1))
        page = f"/console/env/{alice.environment.id}/events"

        first = browser.get(page, params={"name": "needle"})
        assert "No event like this here" in built(first).text
        [older] = [lead for lead in built(first).leads if "before=" in lead]
        second = browser.get(older)

        assert "<strong>needle</strong>" in second.text
        assert not [lead for lead in built(second).leads if "before=" in lead]

    @pytest.mark.parametrize(
        "wanted",
        [
            console_events.Wanted(),
            console_events.Wanted(name="nothing"),
            console_events.Wanted(state="dead"),
            console_events.Wanted(is_test=True, source="nothing"),
            console_events.Wanted(inside=[console_events.Inside("payload", ('{"a": 1}',))]),
            console_events.Wanted(until=datetime(2026, 6, 17, 0, 0, 1, tzinfo=UTC)),
            console_events.Wanted(event_id="nothing"),
        ],
    )
    def test_it_reads_no_more_than_it_looks_at(self, alice: Api, wanted: console_events.Wanted) -> None:
        store(alice.environment, 30_000, datetime(2026, 6, 17, tzinfo=UTC))
        stretch, parameters = console_events._stretch(alice.environment.id, wanted, None)
        looked = console_events.LOOKED_INSIDE if wanted.inside else console_events.LOOKED
        conditions = " AND ".join(console_events._conditions(wanted, parameters))
        statement = console_events._LIST.format(
            state=events.STATE, stretch=stretch, looked=looked, counted=100, conditions=conditions
        )
        with db.unit():
            [explained] = db.rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", {**parameters, "limit": 51})

        assert rows_read(explained["QUERY PLAN"][0]["Plan"])["event_records"] <= looked
