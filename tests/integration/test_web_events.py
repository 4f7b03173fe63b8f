"""The events routes, as upstream's client meets them."""

from __future__ import annotations

from typing import Any

import pytest
from falcon import testing

from kongflow_events import models
from kongflow_events.store import db
from tests import factory
from tests.integration.conftest import Api

KEYS = ["id", "name", "payload", "context", "timestamp", "deliverAt", "deliveredAt", "cancelledAt"]
DATE = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"


class TestSend:
    def test_the_answer_has_upstreams_keys_in_order_and_dates_in_its_form(self, alice: Api) -> None:
        answer = alice.post("/api/v1/events", {"event": {"name": "a", "timestamp": "2001-09-09T01:46:40Z"}})

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert list(answer.json) == KEYS
        assert answer.json["timestamp"] == "2001-09-09T01:46:40.000Z"
        assert (answer.json["payload"], answer.json["context"]) == ({}, {})
        assert (answer.json["deliveredAt"], answer.json["cancelledAt"]) == (None, None)

    def test_the_payload_comes_back_as_the_bytes_that_were_sent(self, alice: Api) -> None:
        body = b'{"event":{"name":"a","payload":{"b": 1.10,  "a":[1e2]}}}'

        assert b'"payload":{"b": 1.10,  "a":[1e2]}' in alice.post("/api/v1/events", body).content

    @pytest.mark.parametrize("payload", [0, False, "", [], "text", 12345678901234567890123, [None], {"a": None}])
    def test_any_json_is_a_payload(self, alice: Api, payload: Any) -> None:
        assert alice.send(payload=payload)["payload"] == payload

    def test_null_payload_and_context_are_absent(self, alice: Api) -> None:
        sent = alice.send(payload=None, context=None)

        assert (sent["payload"], sent["context"]) == ({}, {})

    def test_a_bare_key_works_too(self, client: testing.TestClient, alice: Api) -> None:
        answer = client.simulate_post(
            "/api/v1/events", json={"event": {"name": "a"}}, headers={"Authorization": alice.key}
        )

        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("body", "status", "error"),
        [
            ({}, 422, "Code: invalid_type ~ Path: event ~ Message: Required"),
            ({"event": {}}, 422, "Code: invalid_type ~ Path: event.name ~ Message: Required"),
            (
                {"event": {"name": 1}},
                422,
                "Code: invalid_type ~ Path: event.name ~ Message: Expected string, received number",
            ),
        ],
    )
    def test_a_breach_of_the_schema_is_said_in_upstreams_words(
        self, alice: Api, body: Any, status: int, error: str
    ) -> None:
        answer = alice.post("/api/v1/events", body)

        assert (answer.status_code, answer.json["error"], answer.json["message"]) == (status, error, error)
        assert answer.json["issues"][0]["code"] == "invalid_type"

    def test_a_malformed_body_is_a_400(self, alice: Api) -> None:
        answer = alice.post("/api/v1/events", b"{")

        assert (answer.status_code, answer.json) == (400, {"error": "Invalid JSON body"})

    def test_a_body_over_the_limit_is_a_413_that_names_it(self, alice: Api) -> None:
        answer = alice.post("/api/v1/events", {"event": {"name": "a", "payload": "x" * 20000}})

        assert (answer.status_code, answer.json) == (413, {"error": "The body is larger than 20000 bytes"})
        assert answer.headers["connection"] == "close"

    @pytest.mark.parametrize(
        ("number", "status"),
        [(b"1e-999", 200), (b"1e-20000", 400), (b"0." + b"0" * 5000 + b"1", 400), (b"0." + b"1" * 4000, 200)]
        + [(b"1e300", 200), (b"1e308", 200), (b"1e309", 400), (b"-0", 200), (b'"1e-20000"', 200), (b"1E-0001", 200)],
    )
    def test_a_number_is_one_that_can_be_stored_or_is_refused(self, alice: Api, number: bytes, status: int) -> None:
        for place in (b"payload", b"context"):
            body = b'{"event":{"name":"a","' + place + b'":{"n":' + number + b"}}}"
            assert alice.post("/api/v1/events", body).status_code == status

    @pytest.mark.parametrize("character", ["x", "\N{PILE OF POO}"])
    def test_an_id_may_have_512_characters_of_any_width(self, alice: Api, character: str) -> None:
        options = {"accountId": character * 512}
        assert alice.send(id=character * 512, options=options)["id"] == character * 512

        answer = alice.post(
            "/api/v1/events", {"event": {"name": "a", "id": "x" * 513}, "options": {"accountId": "x" * 513}}
        )
        assert [issue["path"] for issue in answer.json["issues"]] == ["event.id", "options.accountId"]

    def test_disabled_runs_are_a_403_and_nothing_is_stored(self, alice: Api) -> None:
        with db.unit():
            models.Organization.update(runs_enabled=False).execute()
        answer = alice.post("/api/v1/events", {"event": {"name": "a"}})

        assert (answer.status_code, answer.json) == (403, {"error": "Runs are disabled for this organization"})
        with db.unit():
            assert models.EventRecord.select().count() == 0


class TestBulk:
    def test_answers_come_in_the_order_of_the_request(self, alice: Api) -> None:
        events = [{"name": "a", "id": one} for one in "zam"]
        answer = alice.post("/api/v1/events/bulk", {"events": events, "options": {"accountId": "acme"}})

        assert [event["id"] for event in answer.json] == ["z", "a", "m"]

    def test_nothing_gives_nothing(self, alice: Api) -> None:
        assert alice.post("/api/v1/events/bulk", {"events": []}).json == []

    def test_too_many_are_a_413_that_names_the_limit(self, alice: Api) -> None:
        answer = alice.post("/api/v1/events/bulk", {"events": [{"name": "a"}] * 6})

        assert (answer.status_code, answer.json) == (413, {"error": "A bulk may hold 5 events; this one holds 6"})

    def test_a_mistake_in_one_refuses_all_and_says_which(self, alice: Api) -> None:
        answer = alice.post("/api/v1/events/bulk", {"events": [{"name": "a"}, {}]})

        assert answer.status_code == 422
        assert answer.json["issues"] == [{"code": "invalid_type", "path": "events[1].name", "message": "Required"}]


class TestLook:
    @pytest.fixture
    def ran(self, alice: Api) -> str:
        """An event that started one run."""
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
        alice.send(id="1")
        factory.work()
        return "1"

    def test_an_event_shows_its_runs(self, alice: Api, ran: str) -> None:
        answer = alice.get(f"/api/v2/events/{ran}")

        assert list(answer.json) == ["id", "name", "createdAt", "updatedAt", "runs"]
        [run] = answer.json["runs"]
        assert list(run) == ["id", "status", "startedAt", "completedAt"]
        assert (run["status"], run["startedAt"]) == ("PENDING", None)

    @pytest.mark.parametrize("status", ["EXECUTING", "WAITING_TO_CONTINUE", "WAITING_TO_EXECUTE"])
    def test_the_first_version_hides_the_newer_statuses(self, alice: Api, ran: str, status: str) -> None:
        with db.unit():
            models.JobRun.update(status=status).execute()

        assert alice.get(f"/api/v1/events/{ran}").json["runs"][0]["status"] == "STARTED"
        assert alice.get(f"/api/v2/events/{ran}").json["runs"][0]["status"] == status

    def test_a_public_key_may_look_but_not_send(self, alice: Api, ran: str) -> None:
        assert alice.get(f"/api/v2/events/{ran}", key=alice.public_key).status_code == 200
        assert alice.post("/api/v1/events", {"event": {"name": "a"}}, key=alice.public_key).status_code == 401

    @pytest.mark.parametrize("event_id", ["with space", "100%", "a+b", "ü", "%41", "\N{REPLACEMENT CHARACTER}"])
    def test_ids_are_decoded_as_one_segment(self, alice: Api, event_id: str) -> None:
        alice.send(id=event_id)
        encoded = event_id.replace("%", "%25").replace(" ", "%20")

        assert alice.get(f"/api/v2/events/{encoded}").json["id"] == event_id

    @pytest.mark.parametrize(
        "path", ["/api/v1/events/nope", "/api/v1/events/a/b", "/api/v1/events/%00", "/api/v1/events/%ff"]
    )
    def test_what_cannot_be_there_is_a_404(self, alice: Api, path: str) -> None:
        answer = alice.get(path)

        assert answer.status_code == 404
        assert isinstance(answer.json["error"], str)

    def test_head_is_a_get_without_its_body(self, alice: Api, ran: str) -> None:
        answer = alice("HEAD", f"/api/v2/events/{ran}")

        assert (answer.status_code, answer.content) == (200, b"")

    def test_another_tenants_event_does_not_exist(self, bob: Api, ran: str) -> None:
        assert bob.get(f"/api/v2/events/{ran}").json == {"error": "Event not found"}
        assert bob.post(f"/api/v1/events/{ran}/cancel").status_code == 404
        assert bob.post(f"/api/v1/events/{ran}/cancel-runs").status_code == 404
        assert bob.get("/api/v1/events").json["data"] == []


class TestCors:
    @pytest.mark.parametrize("path", ["/api/v1/events/x", "/api/v2/events/x", "/api/v1/runs/x", "/api/v1/jobs/x/runs"])
    def test_a_preflight_is_answered_without_a_key(self, client: testing.TestClient, path: str) -> None:
        headers = {"Origin": "https://app", "Access-Control-Request-Headers": "authorization, x-a"}
        answer = client.simulate_options(path, headers=headers)

        assert (answer.status_code, answer.json) == (200, {})
        assert answer.headers["access-control-allow-origin"] == "https://app"
        assert answer.headers["access-control-allow-methods"] == "GET,HEAD,PUT,PATCH,POST,DELETE"
        assert answer.headers["access-control-allow-headers"] == "authorization, x-a"
        assert answer.headers["access-control-max-age"] == "300"
        assert answer.headers["vary"] == "Origin, Access-Control-Request-Headers"

    def test_an_error_names_the_origin_too(self, client: testing.TestClient) -> None:
        answer = client.simulate_get("/api/v2/events/x", headers={"Origin": "https://app"})

        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "https://app")

    def test_without_an_origin_there_is_no_header(self, client: testing.TestClient, alice: Api) -> None:
        preflight = client.simulate_options("/api/v2/events/x")
        assert (preflight.status_code, preflight.json) == (200, {})
        assert not [name for name in preflight.headers if name.startswith("access-control")]
        assert "access-control-allow-origin" not in alice.get("/api/v2/events/x").headers

    def test_sending_is_not_for_pages(self, client: testing.TestClient, alice: Api) -> None:
        answer = alice.post("/api/v1/events", {"event": {"name": "a"}}, headers={"Origin": "https://app"})

        assert "access-control-allow-origin" not in answer.headers


class TestCancel:
    def test_a_cancelled_event_is_never_delivered(self, alice: Api) -> None:
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
        alice.send(id="1")
        cancelled = alice.post("/api/v1/events/1/cancel")
        factory.work()

        assert list(cancelled.json) == KEYS
        assert cancelled.json["cancelledAt"] is not None
        assert alice.send(id="1")["cancelledAt"] == cancelled.json["cancelledAt"]
        factory.work()
        assert alice.get("/api/v2/events/1").json["runs"] == []

    def test_cancelling_twice_changes_nothing(self, alice: Api) -> None:
        alice.send(id="1")

        assert alice.post("/api/v1/events/1/cancel").json == alice.post("/api/v1/events/1/cancel").json

    def test_its_runs_are_cancelled_unless_they_have_ended(self, alice: Api) -> None:
        for slug in ("ended", "executing"):
            factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment, slug)))
        alice.send(id="1")
        factory.work()
        with db.unit():
            ended, executing = models.JobRun.select().order_by(models.JobRun.id)
            models.JobRun.update(status="SUCCESS").where(models.JobRun.id == ended.id).execute()
            models.JobRun.update(status="EXECUTING").where(models.JobRun.id == executing.id).execute()

        answer = alice.post("/api/v1/events/1/cancel-runs")

        assert answer.json == {"cancelledRunIds": [str(executing.id)], "failedToCancelRunIds": []}
        statuses = {run["id"]: run["status"] for run in alice.get("/api/v2/events/1").json["runs"]}
        assert statuses == {str(ended.id): "SUCCESS", str(executing.id): "CANCELED"}

    @pytest.mark.parametrize("verb", ["cancel", "cancel-runs"])
    def test_what_is_not_there_is_a_404(self, alice: Api, verb: str) -> None:
        assert alice.post(f"/api/v1/events/nope/{verb}").json == {"error": "Event not found"}


class TestList:
    def test_the_newest_come_first_and_pages_go_on_where_they_ended(self, alice: Api) -> None:
        for number in range(5):
            alice.send(id=str(number))
        seen = []
        cursor = None
        while True:
            page = alice.get("/api/v1/events", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json
            seen += [event["id"] for event in page["data"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break

        assert seen == ["4", "3", "2", "1", "0"]

    def test_filters_narrow_it_down(self, alice: Api) -> None:
        factory.dispatcher(alice.environment, "heard", to=factory.to_job(factory.job(alice.environment)))
        alice.send("heard", id="delivered")
        alice.send("unheard", id="unmatched", source="elsewhere", options={"accountId": "acme"})
        factory.work()
        alice.send("later", id="pending", options={"deliverAfter": 60})
        alice.send("later", id="cancelled", options={"deliverAfter": 60})
        alice.post("/api/v1/events/cancelled/cancel")

        def ids(**asked: str) -> list[str]:
            return [event["id"] for event in alice.get("/api/v1/events", params=asked).json["data"]]

        for state in ("delivered", "unmatched", "pending", "cancelled"):
            assert ids(state=state) == [state]
        assert ids(name="later") == ["cancelled", "pending"]
        assert ids(source="elsewhere") == ids(account="acme") == ["unmatched"]
        assert ids(account="nobody") == ids(until="2020-01-01") == []
        assert len(ids(since="2020-01-01")) == 4

    @pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/event-dispatchers"])
    def test_a_parameter_that_nobody_knows_is_named_with_every_other_mistake(self, alice: Api, path: str) -> None:
        answer = alice.get(path, params={"limit": "x", "stat": "dead", "a b": ""})

        assert (answer.status_code, [issue["path"] for issue in answer.json["issues"]]) == (
            422,
            ["limit", "stat", "a b"],
        )
        assert answer.json["issues"][1]["code"] == "unrecognized_keys"
        assert "known are limit, cursor" in answer.json["issues"][1]["message"]

    def test_upstreams_own_routes_let_unknown_parameters_pass(self, alice: Api) -> None:
        factory.job(alice.environment, "ship")

        assert alice.get("/api/v1/jobs/ship/runs", params={"odd": "1", "take": "50"}).status_code == 200
        assert alice.get("/api/v1/jobs/ship/runs", params={"take": "51"}).status_code == 422

    def test_of_a_parameter_that_is_given_twice_the_last_one_counts(self, alice: Api) -> None:
        assert alice.get("/api/v1/events?limit=x&limit=1").status_code == 200
        assert alice.get("/api/v1/events?limit=1&limit=x").status_code == 422

    @pytest.mark.parametrize("time", ["1000000000000", "-1", "2001-09-09", "2001-09-09T01:46:40Z"])
    def test_times_are_written_as_in_bodies(self, alice: Api, time: str) -> None:
        alice.send(id="1")

        assert [one["id"] for one in alice.get("/api/v1/events", params={"since": time}).json["data"]] == ["1"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("limit", "0"), ("limit", "101"), ("limit", "x"), ("limit", "9" * 5000), ("cursor", "?"), ("cursor", "AAAA")]
        + [("state", "odd"), ("since", "yesterday"), ("name", "\0")]
        + [("limit", "²"), ("limit", "1.0"), ("cursor", "A" * 21 + "="), ("cursor", "A" * 24), ("since", "9" * 19)],
    )
    def test_a_parameter_that_is_wrong_is_named(self, alice: Api, name: str, value: str) -> None:
        answer = alice.get("/api/v1/events", params={name: value})

        assert answer.status_code == 422
        assert answer.json["issues"][0]["path"] == name
