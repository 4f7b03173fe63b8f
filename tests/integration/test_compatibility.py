"""Upstream's event API as its clients meet it, where no other test shows it; docs/compatibility.md has the whole of it."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime
from typing import Any

import pytest
from falcon import testing

from kongflow_events import models
from kongflow_events.services import deliver, environments, keys, post
from kongflow_events.store import db
from tests import factory
from tests.integration.conftest import Api
from tests.receiver import Receiver

RULES = "/api/v1/event-dispatchers"
EPHEMERAL = f"{RULES}/ephemeral"
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# What the client asks of a key before it sends anything.
KEY = re.compile(r"tr_[a-z]+_[a-zA-Z0-9]+")
# 26 characters of Crockford's alphabet, in capitals.
ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def ran(alice: Api) -> list[str]:
    """The runs that the event `1` started, in the order of their dispatchers."""
    for slug in ("one", "two", "three"):
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment, slug)))
    alice.send(id="1")
    factory.work()
    with db.unit():
        return [str(run.id) for run in models.JobRun.select().order_by(models.JobRun.created_at, models.JobRun.id)]


class TestStatuses:
    def test_every_success_is_exactly_200(self, alice: Api) -> None:
        job = {"id": "j", "name": "j", "version": "1.0.0", "trigger": {"event": "a"}}
        made = alice.post("/api/v1/jobs", job)
        rule = f"{RULES}/{made.json['dispatcherId']}"
        wait = {"url": "http://127.0.0.1:9/", "name": "a"}
        answers = [
            made,
            alice.post("/api/v1/events", {"event": {"name": "a", "id": "1"}}),
            alice.post("/api/v1/events", {"event": {"name": "a", "id": "1"}}),
            alice.post("/api/v1/events/bulk", {"events": [{"name": "a"}]}),
            alice.get("/api/v1/events"),
            alice.get("/api/v1/events/1"),
            alice.get("/api/v2/events/1"),
            alice.post("/api/v1/events/1/cancel"),
            alice.post("/api/v1/events/1/cancel-runs"),
            alice.post(EPHEMERAL, wait),
            alice.post(EPHEMERAL, wait),
            alice("PATCH", rule, {}),
            alice.get(rule),
            alice("PUT", "/api/v1/dynamic-triggers/t", {"jobs": ["j"]}),
            alice.get("/api/v1/jobs/j/runs"),
            alice("DELETE", rule),
        ]

        assert [answer.status_code for answer in answers] == [200] * len(answers)
        assert {answer.headers["content-type"] for answer in answers} == {"application/json; charset=utf-8"}

    def test_method_key_json_schema_and_ingest_are_looked_at_in_this_order(self, alice: Api) -> None:
        with db.unit():
            models.Organization.update(runs_enabled=False).execute()
        good = b'{"event":{"name":"a"}}'
        asked = [
            alice("PUT", "/api/v1/events", b"{", key="tr_dev_unknown"),
            alice.post("/api/v1/events", b"{", key="tr_dev_unknown"),
            alice.post("/api/v1/events", b"{"),
            alice.post("/api/v1/events", b"{}"),
            alice.post("/api/v1/events", good),
        ]

        assert [answer.status_code for answer in asked] == [405, 401, 400, 422, 403]

    def test_head_has_the_headers_of_get_and_no_body(self, alice: Api) -> None:
        alice.send(id="1")
        for path in ("/api/v1/events/1", "/api/v2/events/1", "/api/v1/events", RULES):
            headers = {"X-Request-Id": "mine", "Origin": "https://app"}
            head, get = alice("HEAD", path, headers=headers), alice.get(path, headers=headers)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers == get.headers


class TestKeys:
    @pytest.mark.parametrize(
        ("type_", "slug"), [("DEVELOPMENT", "dev"), ("STAGING", "stg"), ("PRODUCTION", "prod"), ("PREVIEW", "prev")]
    )
    def test_a_key_carries_the_slug_of_its_environment_in_the_form_that_the_client_wants(
        self, client: testing.TestClient, type_: str, slug: str
    ) -> None:
        with db.unit():
            environment = environments.create_environment("acme", "shop", type_)
            private, public = (keys.create_key(environment, kind).key for kind in (keys.PRIVATE, keys.PUBLIC))

        assert KEY.fullmatch(private)
        assert re.fullmatch(rf"tr_{slug}_[a-zA-Z0-9]{{32}}", private)
        assert re.fullmatch(rf"pk_{slug}_[a-zA-Z0-9]{{32}}", public)

    def test_what_a_key_may_do_is_stored_with_it_and_not_read_from_it(
        self, client: testing.TestClient, alice: Api
    ) -> None:
        with db.unit():
            models.ApiKey.update(kind=keys.PUBLIC).where(models.ApiKey.kind == keys.PRIVATE).execute()
        keys._verified.clear()

        assert alice.key.startswith("tr_")
        assert alice.post("/api/v1/events", {"event": {"name": "a"}}).status_code == 401
        assert alice.get("/api/v2/events/x").json == {"error": "Event not found"}


class TestSend:
    def test_a_real_send_of_the_client_gets_exactly_upstreams_answer(self, alice: Api) -> None:
        body = {
            "event": {
                "id": "01HX0000000000000000000000",
                "name": "user.created",
                "payload": {"userId": "u", "when": "1970-01-01T00:00:00.000Z"},
                "timestamp": "2001-09-09T01:46:40.000Z",
            },
            "options": {"deliverAt": "2033-05-18T03:33:20.000Z", "accountId": "acc_1"},
        }
        # What JSON.stringify writes.
        raw = json.dumps(body, separators=(",", ":")).encode()

        assert alice.post("/api/v1/events", raw).content == (
            b'{"id":"01HX0000000000000000000000","name":"user.created",'
            b'"payload":{"userId":"u","when":"1970-01-01T00:00:00.000Z"},"context":{},'
            b'"timestamp":"2001-09-09T01:46:40.000Z","deliverAt":"2033-05-18T03:33:20.000Z",'
            b'"deliveredAt":null,"cancelledAt":null}'
        )

    def test_what_is_left_out_has_its_default(self, alice: Api) -> None:
        sent = alice.send()

        assert ULID.fullmatch(sent["id"])
        assert DATE.fullmatch(sent["timestamp"])
        assert sent["timestamp"] == sent["deliverAt"]
        assert (sent["payload"], sent["context"]) == ({}, {})
        with db.unit():
            record = models.EventRecord.get()
            assert (record.event_id, record.source, record.payload_type) == (sent["id"], "trigger.dev", "JSON")
            assert record.external_account_id is None

    def test_two_sends_without_an_id_are_two_events(self, alice: Api) -> None:
        assert alice.send()["id"] != alice.send()["id"]

    @pytest.mark.parametrize("context", [0, False, "", [], {"a": None}])
    def test_any_json_but_null_is_kept_as_a_context(self, alice: Api, context: Any) -> None:
        assert alice.send(context=context)["context"] == context

    def test_options_are_read_in_camel_case_and_no_other(self, alice: Api) -> None:
        at = "2033-05-18T03:33:20.000Z"
        snake = alice.send(options={"account_id": "acme", "deliver_at": at, "deliver_after": 60})
        camel = alice.send(options={"accountId": "acme", "deliverAt": at})

        assert (snake["deliverAt"], camel["deliverAt"]) == (snake["timestamp"], at)
        with db.unit():
            assert [
                row.external_account_id is None for row in models.EventRecord.select().order_by(models.EventRecord.id)
            ] == [
                True,
                False,
            ]

    @pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense"])
    def test_the_content_type_of_a_body_does_not_matter(
        self, client: testing.TestClient, alice: Api, content_type: str | None
    ) -> None:
        headers = {"Authorization": f"Bearer {alice.key}", **({"Content-Type": content_type} if content_type else {})}
        answer = client.simulate_post(
            "/api/v1/events", body=b'{"event":{"id":"1","name":"a","payload":{}}}', headers=headers
        )

        assert (answer.status_code, answer.json["id"]) == (200, "1")

    @pytest.mark.parametrize(
        ("options", "deliver_at"),
        [
            ({"deliverAt": 0}, "1970-01-01T00:00:00.000Z"),
            ({"deliverAt": "1970-01-01"}, "1970-01-01T00:00:00.000Z"),
            ({"deliverAt": 1_000_000_000_000}, "2001-09-09T01:46:40.000Z"),
            ({"deliverAt": "2001-09-09T03:46:40.123456789+02:00"}, "2001-09-09T01:46:40.123Z"),
            ({"deliverAt": "2001-09-09T01:46:40Z", "deliverAfter": 60}, "2001-09-09T01:46:40.000Z"),
        ],
    )
    def test_a_time_in_the_past_is_shown_as_it_is_and_due_at_once(
        self, alice: Api, options: dict[str, Any], deliver_at: str
    ) -> None:
        assert alice.send(options=options)["deliverAt"] == deliver_at
        with db.unit():
            assert db.rows("SELECT due_at <= now() AS due FROM outbox") == [{"due": True}]

    @pytest.mark.parametrize("options", [{}, {"deliverAt": None}, {"deliverAfter": 0}, {"accountId": ""}])
    def test_what_counts_as_left_out_is_delivered_now(self, alice: Api, options: dict[str, Any]) -> None:
        sent = alice.send(options=options)

        assert sent["deliverAt"] == sent["timestamp"]
        with db.unit():
            assert models.ExternalAccount.select().count() == 0

    def test_deliver_after_is_seconds_either_way(self, alice: Api) -> None:
        for seconds in (60, -60):
            sent = alice.send(options={"deliverAfter": seconds})
            assert (instant(sent["deliverAt"]) - instant(sent["timestamp"])).total_seconds() == seconds

    def test_a_whole_number_may_be_written_in_any_form(self, alice: Api) -> None:
        for number in (b"60.0", b"6e1"):
            body = b'{"event":{"name":"a"},"options":{"deliverAfter":' + number + b"}}"
            answer = alice.post("/api/v1/events", body)

            assert answer.status_code == 200
            later = datetime.fromisoformat(answer.json["deliverAt"]) - datetime.fromisoformat(answer.json["timestamp"])
            assert later.total_seconds() == 60

    @pytest.mark.parametrize("kind", ["JSON", "REQUEST"])
    def test_the_type_of_a_payload_is_kept(self, alice: Api, kind: str) -> None:
        alice.send(payloadType=kind, payload={"url": "http://a/", "method": "GET", "headers": {}, "rawBody": ""})

        with db.unit():
            assert models.EventRecord.get().payload_type == kind

    def test_names_and_sources_match_to_the_letter(self, alice: Api) -> None:
        to = factory.to_job(factory.job(alice.environment))
        for name, source in (("order.paid", "shop"), ("Order.paid", "shop"), ("order.paid", "Shop"), ("order", "shop")):
            factory.dispatcher(alice.environment, name, to=to, source=source)
        alice.send("order.paid", source="shop")
        factory.work()

        with db.unit():
            [made] = models.Invocation.select()
            heard = models.EventDispatcher.get_by_id(made.dispatcher_id)
            assert (heard.event, heard.source) == ("order.paid", "shop")


class TestBulk:
    def test_the_options_are_for_every_event(self, alice: Api) -> None:
        options = {"deliverAt": "2033-05-18T03:33:20.000Z", "accountId": "acme"}
        events = [{"name": "a", "odd": 1}, {"name": "b"}]
        sent = alice.post("/api/v1/events/bulk", {"events": events, "options": options, "odd": 1}).json

        assert [one["name"] for one in sent] == ["a", "b"]
        assert {one["deliverAt"] for one in sent} == {options["deliverAt"]}
        with db.unit():
            [account] = models.ExternalAccount.select()
            assert {row.external_account_id for row in models.EventRecord.select()} == {account.id}

    def test_an_id_that_stands_twice_is_answered_twice_with_the_first_event(self, alice: Api) -> None:
        twice = [{"name": "a", "id": "1", "payload": 1}, {"name": "b", "id": "1", "payload": 2}]
        first, second = alice.post("/api/v1/events/bulk", {"events": twice}).json

        assert first == second
        assert (first["name"], first["payload"]) == ("a", 1)

    def test_one_event_of_a_batch_that_cannot_be_stored_leaves_none_of_it(self, alice: Api) -> None:
        with db.unit():
            db.run("ALTER TABLE event_records ADD CONSTRAINT no_bad CHECK (name <> 'bad')")
        answer = alice.post("/api/v1/events/bulk", {"events": [{"name": "a"}, {"name": "bad"}]})

        assert answer.status_code == 500
        with db.unit():
            assert models.EventRecord.select().count() == models.Outbox.select().count() == 0


class TestLook:
    def test_an_event_is_shown_with_its_runs_in_the_order_they_were_made(self, alice: Api, ran: list[str]) -> None:
        shown = alice.get("/api/v2/events/1").json

        assert list(shown) == ["id", "name", "createdAt", "updatedAt", "runs"]
        assert (shown["id"], shown["name"]) == ("1", factory.JOB_EVENT)
        assert DATE.fullmatch(shown["createdAt"])
        assert DATE.fullmatch(shown["updatedAt"])
        assert shown["runs"] == [
            {"id": run, "status": "PENDING", "startedAt": None, "completedAt": None} for run in ran
        ]

    def test_the_two_versions_differ_in_nothing_but_statuses(self, alice: Api, ran: list[str]) -> None:
        with db.unit():
            models.JobRun.update(started_at=db.rows("SELECT now() AS it")[0]["it"]).execute()

        assert alice.get("/api/v1/events/1").content == alice.get("/api/v2/events/1").content

    def test_nothing_of_its_id_is_upstreams_404(self, alice: Api) -> None:
        for version in (1, 2):
            answer = alice.get(f"/api/v{version}/events/nope")
            assert (answer.status_code, answer.content) == (404, b'{"error":"Event not found"}')

    def test_the_empty_id_is_an_id_like_any_other(self, alice: Api) -> None:
        assert alice.get("/api/v1/events/").json == {"error": "Event not found"}
        alice.send(id="")

        assert alice.get("/api/v1/events/").json["id"] == ""


class TestCors:
    READ = ("/api/v1/events/x", "/api/v2/events/x", "/api/v1/runs/x", "/api/v2/runs/x", "/api/v2/runs/x/statuses")
    PATHS = (*READ, "/api/v1/jobs/x/runs")

    def test_a_preflight_has_upstreams_headers_and_no_more(self, client: testing.TestClient) -> None:
        for path in self.PATHS:
            headers = {
                "Origin": "https://app",
                "Access-Control-Request-Headers": "authorization",
                "X-Request-Id": "mine",
            }
            answer = client.simulate_options(path, headers=headers)

            assert (answer.status_code, answer.content) == (200, b"{}")
            assert dict(answer.headers) == {
                "x-request-id": "mine",
                "access-control-allow-origin": "https://app",
                "access-control-allow-methods": "GET,HEAD,PUT,PATCH,POST,DELETE",
                "access-control-allow-headers": "authorization",
                "access-control-max-age": "300",
                "vary": "Origin, Access-Control-Request-Headers",
                "content-type": "application/json; charset=utf-8",
                "content-length": "2",
            }

    def test_every_answer_names_the_origin_and_credentials_are_never_asked_for(
        self, client: testing.TestClient, alice: Api
    ) -> None:
        for path in self.PATHS:
            for key in (alice.key, "tr_dev_unknown"):
                headers = {"Origin": "https://app"}
                answer = alice.get(path, key=key, headers=headers)
                assert answer.headers["access-control-allow-origin"] == "https://app"
                assert answer.headers["vary"] == "Origin"
                assert "access-control-allow-credentials" not in answer.headers

    def test_no_other_route_is_for_pages(self, client: testing.TestClient, alice: Api) -> None:
        paths = ("/api/v1/events", "/api/v1/events/bulk", "/api/v1/events/x/cancel", RULES, EPHEMERAL, "/api/v1/jobs")
        for path in paths:
            for method in ("OPTIONS", "GET", "POST"):
                answer = alice(method, path, headers={"Origin": "https://app"})
                assert not [name for name in answer.headers if name.startswith("access-control")], (method, path)


class TestCancel:
    def test_the_body_of_a_cancel_is_not_looked_at(self, client: testing.TestClient, alice: Api) -> None:
        alice.send(id="1")
        for body in (b"", b"{", b"\xff" * 30_000):
            for verb in ("cancel", "cancel-runs"):
                headers = {"Authorization": f"Bearer {alice.key}", "Content-Type": "application/json"}
                answer = client.simulate_post(f"/api/v1/events/1/{verb}", body=body, headers=headers)
                assert answer.status_code == 200

    def test_an_event_that_was_delivered_is_marked_and_its_runs_go_on(self, alice: Api, ran: list[str]) -> None:
        cancelled = alice.post("/api/v1/events/1/cancel").json

        assert DATE.fullmatch(cancelled["deliveredAt"])
        assert DATE.fullmatch(cancelled["cancelledAt"])
        assert [run["status"] for run in alice.get("/api/v2/events/1").json["runs"]] == ["PENDING"] * 3

    def test_cancelling_runs_names_them_and_then_has_none_left(self, alice: Api, ran: list[str]) -> None:
        first = alice.post("/api/v1/events/1/cancel-runs")
        again = alice.post("/api/v1/events/1/cancel-runs")

        assert list(first.json) == ["cancelledRunIds", "failedToCancelRunIds"]
        assert (sorted(first.json["cancelledRunIds"]), first.json["failedToCancelRunIds"]) == (sorted(ran), [])
        assert again.content == b'{"cancelledRunIds":[],"failedToCancelRunIds":[]}'


class TestEphemeral:
    URL = "http://127.0.0.1:9/api/v1/tasks/task_7/callback/sec"

    def stored(self, alice: Api, **body: Any) -> dict[str, Any]:
        made = alice.post(EPHEMERAL, {"url": self.URL, "name": "payment.done", **body})
        assert made.status_code == 200, made.text
        assert made.content == b'{"id":"%b"}' % str(uuid.UUID(made.json["id"])).encode()
        shown: dict[str, Any] = alice.get(f"{RULES}/{made.json['id']}").json
        return shown

    def lasts(self, shown: dict[str, Any]) -> float:
        return (instant(shown["expiresAt"]) - instant(shown["createdAt"])).total_seconds()

    def test_a_real_wait_of_the_client(self, alice: Api) -> None:
        shown = self.stored(alice, filter={"orderId": ["o1"]}, timeoutInSeconds=60)

        assert (shown["event"], shown["payloadFilter"], shown["contextFilter"]) == (
            ["payment.done"],
            {"orderId": ["o1"]},
            None,
        )
        assert (shown["dispatchableId"], shown["dispatchable"]) == (self.URL, {"type": "EPHEMERAL", "url": self.URL})
        assert (shown["enabled"], shown["manual"], shown["oneShot"], self.lasts(shown)) == (True, False, True, 60)

    def test_what_is_left_out_has_its_default(self, alice: Api) -> None:
        shown = self.stored(alice)

        assert (shown["source"], shown["payloadFilter"], shown["contextFilter"]) == ("trigger.dev", None, None)
        assert (shown["accountId"], self.lasts(shown)) == (None, 3600)

    @pytest.mark.parametrize("seconds", [10, 31_536_000])
    def test_the_shortest_and_the_longest_wait(self, alice: Api, seconds: int) -> None:
        assert self.lasts(self.stored(alice, timeoutInSeconds=seconds)) == seconds

    @pytest.mark.parametrize(("name", "event"), [("", [""]), ([], []), (["b", "a"], ["b", "a"])])
    def test_one_name_or_several_or_none(self, alice: Api, name: Any, event: list[str]) -> None:
        assert self.stored(alice, name=name)["event"] == event

    def test_everything_else_is_kept(self, alice: Api) -> None:
        shown = self.stored(alice, source="shop", contextFilter={"a": [1]}, accountId="acme", odd=1)

        assert (shown["source"], shown["contextFilter"], shown["accountId"]) == ("shop", {"a": [1]}, "acme")

    def test_the_event_that_was_waited_for_is_posted_without_the_account_that_it_has_not(self, alice: Api) -> None:
        with Receiver() as target:
            alice.post(EPHEMERAL, {"url": target.url, "name": "a"})
            alice.send("a", id="1", timestamp="2001-09-09T01:46:40Z")
            with db.unit():
                [owed] = [row.subject_id for row in models.Outbox.select()]
            post.post(deliver.deliver([owed])["post"])

        assert [call.body for call in target.calls] == [
            b'{"id":"1","source":"trigger.dev","name":"a","payload":{},"context":{},"timestamp":"2001-09-09T01:46:40.000Z"}'
        ]


class TestDates:
    def test_every_date_of_an_answer_has_one_form_or_is_null(self, alice: Api, ran: list[str]) -> None:
        def dates(value: Any, key: str = "") -> list[Any]:
            if isinstance(value, dict):
                return [one for name, below in value.items() for one in dates(below, name)]
            if isinstance(value, list):
                return [one for below in value for one in dates(below)]
            return [value] if key == "timestamp" or key.endswith("At") else []

        alice.post(EPHEMERAL, {"url": "http://127.0.0.1:9/", "name": "a"})
        answers = ["/api/v1/events", "/api/v2/events/1", RULES, "/api/v1/jobs/one/runs", f"/api/v2/runs/{ran[0]}"]
        found = [one for path in answers for one in dates(alice.get(path).json)]

        assert None in found
        assert [one for one in found if one is not None and not DATE.fullmatch(one)] == []

    def test_a_date_is_cut_to_milliseconds_on_its_way_out(self, alice: Api) -> None:
        assert alice.send(timestamp="2001-09-09T01:46:40.999999Z")["timestamp"] == "2001-09-09T01:46:40.999Z"
