"""Why an event reached a dispatcher or did not: over HTTP, leaf by leaf, and as the command tells it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from kongflow_events.store import db
from tests import factory
from tests.integration.conftest import Api

RULES = "/api/v1/event-dispatchers"


def rule(alice: Api, *names: str, **columns: Any) -> uuid.UUID:
    job = factory.job(alice.environment, uuid.uuid4().hex)
    return factory.dispatcher(alice.environment, *names, to=factory.to_job(job), **columns)


def explain(api: Api, dispatcher: uuid.UUID, **asked: Any) -> Any:
    answer = api.post(f"{RULES}/{dispatcher}/explain", asked)
    assert answer.status_code == 200, answer.text
    return answer.json


def codes(told: Any) -> list[str]:
    return [reason["code"] for reason in told["reasons"]]


def leaves(check: Any) -> list[Any]:
    if "checks" not in check:
        return [check]
    return [leaf for below in check["checks"] for leaf in leaves(below)]


class TestLeaves:
    def test_each_says_whether_it_held_and_on_what_value(self, alice: Api) -> None:
        asked = {
            "status": ["paid", "refunded"],
            "amount": [{"$gt": 10, "$lte": 500}],
            "customer": {"email": [{"$endsWith": "@example.com"}]},
        }
        made = rule(alice, payload_filter=asked)
        told = explain(alice, made, event={"name": factory.JOB_EVENT, "payload": {"status": "paid", "amount": 5}})

        assert told["matches"] is False
        assert told["contextFilter"] is None
        shown = [
            (leaf["filter"], leaf["at"], leaf["test"], leaf["expected"], leaf["kind"], leaf.get("value"), leaf["holds"])
            for leaf in leaves(told["payloadFilter"])
        ]
        assert shown == [
            ("payloadFilter.amount[0].$gt", "payload.amount", "$gt", 10, "number", 5, False),
            ("payloadFilter.amount[0].$lte", "payload.amount", "$lte", 500, "number", 5, True),
            ("payloadFilter.status", "payload.status", "one of", ["paid", "refunded"], "string", "paid", True),
            (
                "payloadFilter.customer.email[0].$endsWith",
                "payload.customer.email",
                "$endsWith",
                "@example.com",
                "missing",
                None,
                False,
            ),
        ]
        assert told["reasons"] == [
            {"code": "payloadFilter", "message": "payload.amount: $gt 10 does not hold for 5"},
        ]
        [missing] = [group for group in told["payloadFilter"]["checks"] if group["at"] == "payload.customer"]
        assert (missing["kind"], missing["holds"]) == ("missing", False)
        assert missing["note"] == "there is nothing here, and only a filter without keys takes that"

    def test_of_a_list_the_element_that_comes_nearest_is_shown(self, alice: Api) -> None:
        made = rule(alice, payload_filter={"items": {"sku": ["a"], "qty": [{"$gte": 2}]}})
        items = [{"sku": "b"}, {"sku": "a", "qty": 1}, {"sku": "c", "qty": 1}]
        told = explain(alice, made, event={"name": factory.JOB_EVENT, "payload": {"items": items}})

        [below] = told["payloadFilter"]["checks"]
        assert (below["test"], below["note"]) == ("any element", "of 3 elements, payload.items[1] comes nearest")
        assert [(leaf["at"], leaf["holds"]) for leaf in leaves(below)] == [
            ("payload.items[1].qty", False),
            ("payload.items[1].sku", True),
        ]
        passing = [*items, {"sku": "a", "qty": 2}]
        told = explain(alice, made, event={"name": factory.JOB_EVENT, "payload": {"items": passing}})
        assert told["payloadFilter"]["checks"][0]["note"] == "of 4 elements, payload.items[3] passes"
        assert told["matches"] is True

    @pytest.mark.parametrize(
        ("payload_filter", "said"),
        [
            ({"$or": [{"a": ["x"]}, {"b": [1]}]}, "payload: none of payloadFilter.$or holds"),
            ({"$nor": [{"a": ["y"]}]}, "payloadFilter.$nor[0] holds, and of payloadFilter.$nor none may"),
            ({"$and": [{"a": ["y"]}, {"b": [1]}]}, "payload.b: one of [1] does not hold for a missing value"),
            ({"l": {"n": [1]}}, "payload.l: the list is empty"),
            ({"c": {"d": ["x"]}}, "payload.c: there is nothing here, and only a filter without keys takes that"),
            ({"s": [{"$size": 1}]}, "payload.s: $size 1 does not hold for [1,2]"),
        ],
    )
    def test_the_reason_names_what_is_to_blame(self, alice: Api, payload_filter: Any, said: str) -> None:
        made = rule(alice, payload_filter=payload_filter)
        payload = {"a": "y", "l": [], "s": [1, 2]}
        told = explain(alice, made, event={"name": factory.JOB_EVENT, "payload": payload})

        assert told["reasons"] == [{"code": "payloadFilter", "message": said}]

    def test_a_long_value_is_cut(self, alice: Api) -> None:
        made = rule(alice, payload_filter={"a": ["x"]}, context_filter={"b": [{"$size": 1}]})
        event = {"name": factory.JOB_EVENT, "payload": {"a": "y" * 5000}, "context": {"b": list(range(1500))}}
        answer = alice.post(f"{RULES}/{made}/explain", {"event": event})

        assert len(answer.content) < 2500
        assert [leaf["value"][-1] for leaf in leaves(answer.json["payloadFilter"])] == ["…"]

    def test_a_request_is_seen_as_delivery_sees_it(self, alice: Api) -> None:
        made = rule(alice, payload_filter={"body": {"a": [1]}})
        request = {"url": "u", "method": "POST", "headers": {"content-type": "application/json"}, "rawBody": '{"a":1}'}
        event = {"name": factory.JOB_EVENT, "payload": request, "payloadType": "REQUEST"}

        assert explain(alice, made, event=event)["matches"] is True
        told = explain(alice, made, event={**event, "payload": {"no": "request"}})
        assert (codes(told), told["payloadFilter"]) == (["request"], None)

    def test_a_dispatcher_without_filters_takes_what_cannot_be_read_as_delivery_does(self, alice: Api) -> None:
        made = rule(alice)
        alice.send(id="1", payload="no request", payloadType="REQUEST")
        factory.work()

        told = explain(alice, made, eventId="1")
        assert (told["matches"], told["reasons"], told["invocation"]["status"]) == (True, [], "SUCCEEDED")

    def test_a_broken_filter_is_a_reason(self, alice: Api) -> None:
        told = explain(alice, rule(alice, payload_filter={"a": 5}), event={"name": factory.JOB_EVENT})

        assert (told["matches"], codes(told), told["payloadFilter"]) == (False, ["brokenFilter"], None)


class TestReasons:
    @pytest.mark.parametrize(
        ("columns", "event", "code"),
        [
            ({}, {"name": "order.late"}, "name"),
            ({}, {"source": "elsewhere"}, "source"),
            ({"enabled": False}, {}, "disabled"),
            ({"manual": True}, {}, "manual"),
            ({"payload_filter": {"a": [1]}}, {}, "payloadFilter"),
            ({"context_filter": {"a": [1]}}, {}, "contextFilter"),
        ],
    )
    def test_one_reason_against_a_described_event(self, alice: Api, columns: Any, event: Any, code: str) -> None:
        told = explain(alice, rule(alice, **columns), event={"name": factory.JOB_EVENT, **event})

        assert (told["matches"], codes(told), told["invocation"], told["eventId"]) == (False, [code], None, None)

    def test_another_account(self, alice: Api) -> None:
        made = rule(alice, external_account_id=factory.account(alice.environment, "acme"))
        event = {"name": factory.JOB_EVENT}

        assert codes(explain(alice, made, event=event)) == ["account"]
        assert codes(explain(alice, made, event=event, options={"accountId": "other"})) == ["account"]
        assert explain(alice, made, event=event, options={"accountId": "acme"})["matches"] is True

    def test_all_reasons_are_said_at_once(self, alice: Api) -> None:
        made = rule(alice, "a.*", enabled=False, payload_filter={"a": [1]}, source="here")
        told = explain(alice, made, event={"name": "b"})

        assert codes(told) == ["name", "source", "disabled", "payloadFilter"]
        assert told["reasons"][0]["message"] == "it listens to a.*, the event is called b"

    def test_an_expired_one_says_when(self, alice: Api) -> None:
        with db.unit():
            past = db.rows("SELECT now() - interval '1 second' AS past")[0]["past"]

        assert codes(explain(alice, rule(alice, expires_at=past), event={"name": factory.JOB_EVENT})) == ["expired"]


class TestStories:
    """What became of a stored event."""

    def test_one_that_reached_it_shows_its_invocation(self, alice: Api) -> None:
        made = rule(alice)
        alice.send(id="1")
        factory.work()
        told = explain(alice, made, eventId="1")

        assert (told["matches"], told["reasons"], told["eventId"]) == (True, [], "1")
        assert told["invocation"]["status"] == "SUCCEEDED"

    def test_registered_later(self, alice: Api) -> None:
        rule(alice)
        alice.send(id="1")
        alice.send("unheard", id="2")
        factory.work()
        late, late_too = rule(alice), rule(alice, "unheard")

        assert explain(alice, late, eventId="1")["reasons"] == [
            {"code": "registeredLater", "message": "it was made after the event had been delivered"}
        ]
        [reason] = explain(alice, late_too, eventId="2")["reasons"]
        assert reason["code"] == "registeredLater"
        assert reason["message"] == (
            "it was made after the event had found nobody to take it; "
            "sending its id again delivers it to those who listen by then"
        )

    def test_changed_later(self, alice: Api) -> None:
        made = rule(alice, payload_filter={"a": [1]})
        alice.send(id="1")
        factory.work()
        assert codes(explain(alice, made, eventId="1")) == ["payloadFilter"]
        alice("PATCH", f"{RULES}/{made}", {"payloadFilter": None})

        assert codes(explain(alice, made, eventId="1")) == ["changedLater"]

    def test_pending_cancelled_and_dead(self, alice: Api) -> None:
        made = rule(alice)
        alice.send(id="later", options={"deliverAfter": 60})
        alice.send(id="cancelled", options={"deliverAfter": 60})
        alice.send(id="dead")
        alice.post("/api/v1/events/cancelled/cancel")
        with db.unit():
            db.run(
                "UPDATE outbox SET died_at = now(), hint_at = 'infinity', last_error = 'odd' "
                "WHERE subject_id = (SELECT id FROM event_records WHERE event_id = 'dead')"
            )

        told = {event_id: explain(alice, made, eventId=event_id) for event_id in ("later", "cancelled", "dead")}
        assert [codes(one) for one in told.values()] == [["pending"], ["cancelled"], ["dead"]]
        assert told["later"]["reasons"][0]["message"].startswith("the event's delivery is due at 20")
        assert told["dead"]["reasons"][0]["message"] == "the event's delivery used up its attempts: odd"
        assert all(one["matches"] for one in told.values())

    def test_a_delivery_that_failed_says_when_it_is_tried_again(self, alice: Api) -> None:
        made = rule(alice)
        alice.send(id="1")
        with db.unit():
            db.run("UPDATE outbox SET due_at = '2100-01-01', attempts = 3, last_error = 'odd'")

        [reason] = explain(alice, made, eventId="1")["reasons"]
        assert reason["message"] == "the event's delivery is due at 2100-01-01T00:00:00.000Z, after 3 attempts: odd"

    def test_the_account_of_a_stored_event_counts(self, alice: Api) -> None:
        made = rule(alice, external_account_id=factory.account(alice.environment, "acme"))
        alice.send(id="1", options={"accountId": "acme"})
        alice.send(id="2", options={"accountId": "other"})
        factory.work()

        assert explain(alice, made, eventId="1")["invocation"] is not None
        told = explain(alice, made, eventId="2")
        assert told["reasons"] == [
            {"code": "account", "message": "it is for the account acme, the event is of the account other"}
        ]


class TestRefusals:
    @pytest.mark.parametrize("body", [{}, {"eventId": "1", "event": {"name": "a"}}])
    def test_one_event_is_asked_for(self, alice: Api, body: Any) -> None:
        answer = alice.post(f"{RULES}/{rule(alice)}/explain", body)

        assert (answer.status_code, answer.json["issues"][0]["message"]) == (
            422,
            "Give either event, as it would be sent, or eventId",
        )

    def test_what_is_not_there_is_a_404(self, alice: Api, bob: Api) -> None:
        made = rule(alice)
        alice.send(id="1")

        assert alice.post(f"{RULES}/{made}/explain", {"eventId": "nope"}).json == {"error": "Event not found"}
        assert alice.post(f"{RULES}/{uuid.uuid4()}/explain", {"eventId": "1"}).json == {"error": "Dispatcher not found"}
        assert bob.post(f"{RULES}/{made}/explain", {"eventId": "1"}).json == {"error": "Dispatcher not found"}
        assert bob.post(f"{RULES}/{rule(bob)}/explain", {"eventId": "1"}).json == {"error": "Event not found"}

    def test_a_public_key_is_not_enough(self, alice: Api) -> None:
        answer = alice.post(f"{RULES}/{rule(alice)}/explain", {"eventId": "1"}, key=alice.public_key)

        assert answer.status_code == 401
