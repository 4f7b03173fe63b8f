"""Counts over time, as a chart needs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kongflow_events import models
from kongflow_events.store import db
from tests import factory
from tests.integration.conftest import Api


def sums(answer: Any) -> dict[str, int]:
    names = ("received", "delivered", "invocations", "failed", "dead")
    return {name: sum(slot[name] for slot in answer.json["slots"]) for name in names}


def test_what_came_in_is_counted_where_it_came_in(alice: Api, bob: Api) -> None:
    factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
    for _ in range(3):
        alice.send()
    alice.send("unheard")
    factory.work()
    with db.unit():
        models.Invocation.update(last_outcome="refused").where(
            models.Invocation.id == models.Invocation.select(models.Invocation.id).limit(1)
        ).execute()

    answer = alice.get("/api/v1/statistics?slots=6")
    assert (len(answer.json["slots"]), answer.json["seconds"]) == (6, 600.0)
    assert sums(answer) == {"received": 4, "delivered": 3, "invocations": 3, "failed": 1, "dead": 0}
    assert answer.json["slots"][-1]["received"] == 4
    assert sums(bob.get("/api/v1/statistics"))["received"] == 0


def test_a_window_in_the_past_is_empty(alice: Api) -> None:
    alice.send()
    since = (datetime.now(UTC) - timedelta(hours=3)).isoformat().replace("+00:00", "Z")
    until = (datetime.now(UTC) - timedelta(hours=2)).isoformat().replace("+00:00", "Z")

    answer = alice.get(f"/api/v1/statistics?since={since}&until={until}")
    assert sums(answer)["received"] == 0
    assert len(answer.json["slots"]) == 60


@pytest.mark.parametrize(
    "query", ["since=2026-01-01&until=2025-01-01", "since=2020-01-01&until=2021-01-01", "slots=0", "slots=501", "x=1"]
)
def test_a_window_that_cannot_be_is_refused(alice: Api, query: str) -> None:
    assert alice.get(f"/api/v1/statistics?{query}").status_code == 422


def test_a_list_of_events_says_how_each_stands_and_whose_it_is(alice: Api) -> None:
    factory.dispatcher(alice.environment, "heard", to=factory.to_job(factory.job(alice.environment)))
    alice.send("heard", id="1", source="trigger.dev")
    alice.send("unheard", id="2", source="shop")
    factory.work()
    alice.send("heard", {"accountId": "acme"}, id="3")
    alice.send("heard", id="4")
    alice.post("/api/v1/events/4/cancel")
    alice.send("heard", id="5")
    with db.unit():
        dead = models.EventRecord.get(event_id="5").id
        models.Outbox.update(died_at=db.now()).where(models.Outbox.subject_id == dead).execute()

    listed = {one["id"]: one for one in alice.get("/api/v1/events").json["data"]}
    assert {key: one["state"] for key, one in listed.items()} == {
        "1": "delivered",
        "2": "unmatched",
        "3": "pending",
        "4": "cancelled",
        "5": "dead",
    }
    assert (listed["2"]["source"], listed["3"]["accountId"], listed["1"]["accountId"]) == ("shop", "acme", None)
