"""Dispatchers, jobs, dynamic triggers and runs over HTTP, and the answers that all routes share."""

from __future__ import annotations

import socket
import threading
import uuid
from typing import Any

import pytest
from falcon import testing

from kongflow_events import models
from kongflow_events.services import deliver, post
from kongflow_events.store import db
from tests import factory, receiver
from tests.integration.conftest import Api
from tests.receiver import Receiver

RULES = "/api/v1/event-dispatchers"


def job(slug: str = "ship", version: str = "1.0.0", **trigger: Any) -> dict[str, Any]:
    return {"id": slug, "name": slug, "version": version, "trigger": {"event": "order.paid", **trigger}}


class TestDispatchers:
    def test_one_that_calls_a_url_shows_how_its_receiver_is_doing(self, alice: Api) -> None:
        with Receiver(receiver.status(503, Retry_After="600")) as hook:
            path = f"{RULES}/{factory.dispatcher(alice.environment, to=factory.to_url(hook.url))}"
            assert alice.get(path).json["target"] is None
            alice.send(id="1")
            with db.unit():
                record = models.EventRecord.get(models.EventRecord.event_id == "1").id
            post.post(deliver.deliver([record])["post"])

        target = alice.get(path).json["target"]
        assert (target["state"], target["consecutiveFailures"], target["openedAt"]) == ("closed", 1, None)
        [waiting] = alice.get("/api/v1/invocations").json["data"]
        assert target["resumesAt"] <= waiting["nextAttemptAt"]
        assert alice.get(RULES).json["data"][0]["target"] == target
        enabled = alice("PATCH", path, {"enabled": True}).json["target"]
        assert (enabled["consecutiveFailures"], enabled["resumesAt"]) == (0, None)

    def test_a_rule_is_written_read_changed_and_deleted(self, alice: Api) -> None:
        version = factory.job(alice.environment)
        made = alice.post(
            RULES,
            {
                "event": ["a", "b", "a"],
                "payloadFilter": {"n": [1]},
                "dispatchable": factory.to_job(version),
                "accountId": "acme",
            },
        )
        assert made.status_code == 200
        assert made.json["event"] == ["a", "b"]
        assert made.json["dispatchableId"] == str(version.job_id)
        assert made.json["accountId"] == "acme"

        path = f"{RULES}/{made.json['id']}"
        assert alice.get(path).json == made.json

        changed = alice("PATCH", path, {"event": "c", "payloadFilter": None, "enabled": False, "source": "x"}).json
        assert (changed["event"], changed["payloadFilter"], changed["enabled"]) == (["c"], None, False)
        with db.unit():
            [name] = models.EventDispatcherName.select()
            assert (name.name, name.source) == ("c", "x")

        assert alice("DELETE", path).json == {"id": made.json["id"]}
        assert alice.get(path).json == {"error": "Dispatcher not found"}
        with db.unit():
            assert models.EventDispatcherName.select().count() == 0

    def test_changing_the_source_alone_keeps_all_names(self, alice: Api) -> None:
        rule = factory.dispatcher(alice.environment, "b", "a", to=factory.to_job(factory.job(alice.environment)))
        changed = alice("PATCH", f"{RULES}/{rule}", {"source": "x"}).json

        assert changed["event"] == ["b", "a"]
        with db.unit():
            assert {(row.name, row.source) for row in models.EventDispatcherName.select()} == {("a", "x"), ("b", "x")}

    def test_the_longest_names_of_the_widest_characters_fit_and_longer_ones_are_refused(self, alice: Api) -> None:
        wide = "\N{PILE OF POO}"
        to = factory.to_job(factory.job(alice.environment))
        body = {"event": wide * 512, "source": wide * 128, "dispatchable": to, "dispatchableId": wide * 512}
        assert alice.post(RULES, body).status_code == 200

        longer = {"event": ["x" * 513], "source": "x" * 129, "dispatchable": to, "dispatchableId": "x" * 513}
        answer = alice.post(RULES, longer)
        assert {issue["path"] for issue in answer.json["issues"]} == {"event", "source", "dispatchableId"}
        far = {"type": "EPHEMERAL", "url": "http://127.0.0.1/" + "x" * 2048}
        assert alice.post(RULES, {"event": "a", "dispatchable": far}).status_code == 422
        assert alice("PUT", f"/api/v1/dynamic-triggers/{'x' * 513}", {"jobs": []}).status_code == 422

    def test_an_invalid_filter_is_refused_with_every_path(self, alice: Api) -> None:
        body = {
            "event": "a",
            "dispatchable": factory.to_job(factory.job(alice.environment)),
            "payloadFilter": {"a": [{"$foo": 1}], "b": {"c": 1}},
            "contextFilter": {"d": "x"},
        }
        answer = alice.post(RULES, body)

        assert answer.status_code == 422
        assert [issue["path"] for issue in answer.json["issues"]] == [
            "payloadFilter.a[0].$foo",
            "payloadFilter.b.c",
            "contextFilter.d",
        ]

    def test_a_filter_that_can_never_match_is_accepted_with_a_warning(self, alice: Api) -> None:
        body = {
            "event": "a",
            "dispatchable": factory.to_job(factory.job(alice.environment)),
            "payloadFilter": {"n": [{"$gt": 5, "$lt": 1}]},
        }
        answer = alice.post(RULES, body)

        assert answer.status_code == 200
        assert answer.json["warnings"] == ["payloadFilter.n: no value can pass all of these operators"]

    def test_a_pattern_that_cannot_be_is_refused_beside_the_filters_mistakes(self, alice: Api) -> None:
        deep = ".".join(["a"] * 16 + ["*"])
        to = factory.to_job(factory.job(alice.environment))
        body = {"event": ["a.*", "*.a.*", deep], "dispatchable": to, "payloadFilter": {"b": 1}}

        issues = alice.post(RULES, body).json["issues"]
        assert [(issue["path"], issue["message"]) for issue in issues[:2]] == [
            ("event[1]", "A pattern has one * in place of a segment, not several"),
            ("event[2]", "A pattern must not have more than 16 segments"),
        ]
        assert issues[2]["path"] == "payloadFilter.b"

    def test_a_star_inside_a_segment_is_accepted_with_a_warning(self, alice: Api) -> None:
        rule = alice.post(RULES, {"event": "order*", "dispatchable": factory.to_job(factory.job(alice.environment))})
        said = "event: order* is an exact name: a star stands for something only in place of a whole segment, as in order.*"

        assert rule.json["warnings"] == [said]
        changed = alice("PATCH", f"{RULES}/{rule.json['id']}", {"event": ["order.*"]})
        assert (changed.json["event"], changed.json["warnings"]) == (["order.*"], [])

    @pytest.mark.parametrize(
        ("dispatchable", "path"),
        [
            ({"type": "JOB_VERSION", "id": str(uuid.uuid4())}, "dispatchable.id"),
            ({"type": "DYNAMIC_TRIGGER", "id": "x"}, "dispatchable.id"),
            ({"type": "JOB_VERSION"}, "dispatchable.id"),
            ({"type": "EPHEMERAL"}, "dispatchable.url"),
            ({"type": "EPHEMERAL", "url": "/relative"}, "dispatchable.url"),
            ({"type": "EPHEMERAL", "url": "http://10.0.0.1/"}, "dispatchable.url"),
            ({"type": "EPHEMERAL", "url": "http://169.254.169.254/latest"}, "dispatchable.url"),
            ({"type": "FAX", "id": "1"}, "dispatchable.type"),
        ],
    )
    def test_a_target_that_cannot_be_is_refused(self, alice: Api, dispatchable: Any, path: str) -> None:
        answer = alice.post(RULES, {"event": "a", "dispatchable": dispatchable})

        assert (answer.status_code, answer.json["issues"][0]["path"]) == (422, path)

    def test_another_environments_job_is_no_target(self, alice: Api, bob: Api) -> None:
        version = factory.job(bob.environment)

        assert alice.post(RULES, {"event": "a", "dispatchable": factory.to_job(version)}).status_code == 422

    def test_a_second_rule_for_a_target_needs_an_id_of_its_own(self, alice: Api) -> None:
        body = {"event": "a", "dispatchable": factory.to_job(factory.job(alice.environment))}
        assert alice.post(RULES, body).status_code == 200

        assert alice.post(RULES, body).status_code == 409
        assert alice.post(RULES, {**body, "dispatchableId": "second"}).status_code == 200

    def test_they_are_listed_newest_first_and_by_name(self, alice: Api) -> None:
        to = factory.to_job(factory.job(alice.environment))
        old, new = (str(factory.dispatcher(alice.environment, name, "both", to=to)) for name in ("old", "new"))
        factory.dispatcher(alice.environment, "off", to=to, enabled=False)

        def ids(**asked: str) -> list[str]:
            return [rule["id"] for rule in alice.get(RULES, params=asked).json["data"]]

        assert ids(event="both") == [new, old]
        assert ids(event="old") == [old]
        pattern = str(factory.dispatcher(alice.environment, "new.*", to=to))
        assert ids(event="new.one") == [pattern]
        alice("DELETE", f"{RULES}/{pattern}")
        assert ids(source="elsewhere") == []
        assert ids(enabled="true") == [new, old]
        first = alice.get(RULES, params={"limit": 1, "enabled": "true"}).json
        assert ids(cursor=first["nextCursor"]) == [old]

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    def test_a_stranger_finds_nothing_and_changes_nothing(self, alice: Api, bob: Api, method: str) -> None:
        rule = factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
        answer = bob(method, f"{RULES}/{rule}", {"enabled": False} if method == "PATCH" else None)

        assert (answer.status_code, answer.json) == (404, {"error": "Dispatcher not found"})
        assert alice.get(f"{RULES}/{rule}").json["enabled"] is True
        assert alice(method, f"{RULES}/not-a-uuid", {} if method == "PATCH" else None).status_code == 404


class TestEphemeral:
    BODY = {"url": "http://127.0.0.1:9/cb", "name": ["a", "b"], "filter": {"n": [1]}, "timeoutInSeconds": 60}

    def test_it_waits_once_for_a_url(self, alice: Api) -> None:
        first = alice.post(f"{RULES}/ephemeral", self.BODY)
        again = alice.post(f"{RULES}/ephemeral", {**self.BODY, "filter": {"n": [2]}})

        assert first.status_code == 200
        assert first.json == again.json == {"id": first.json["id"]}
        stored = alice.get(f"{RULES}/{first.json['id']}").json
        assert (stored["payloadFilter"], stored["oneShot"], stored["event"]) == ({"n": [1]}, True, ["a", "b"])
        assert stored["expiresAt"] is not None

    @pytest.mark.parametrize(
        "change",
        [
            {"url": 1},
            {"url": "not a url"},
            {"url": "http://10.0.0.1/"},
            {"name": None},
            {"filter": None},
            {"filter": {"a": 1}},
            {"contextFilter": []},
            {"timeoutInSeconds": 9},
            {"timeoutInSeconds": 31_536_001},
        ],
    )
    def test_a_mistake_is_upstreams_400_with_the_issues(self, alice: Api, change: dict[str, Any]) -> None:
        answer = alice.post(f"{RULES}/ephemeral", {**self.BODY, **change})

        assert (answer.status_code, answer.json["error"]) == (400, "Invalid request body")
        assert answer.json["issues"]

    def test_its_401_spells_the_key_in_capitals(self, alice: Api) -> None:
        answer = alice.post(f"{RULES}/ephemeral", self.BODY, key=alice.public_key)

        assert (answer.status_code, answer.json) == (401, {"error": "Invalid or Missing API Key"})


class TestJobs:
    def test_registering_makes_job_version_alias_and_rule(self, alice: Api) -> None:
        made = alice.post("/api/v1/jobs", job(filter={"n": [1]})).json

        rule = alice.get(f"{RULES}/{made['dispatcherId']}").json
        assert (rule["event"], rule["payloadFilter"]) == (["order.paid"], {"n": [1]})
        assert rule["dispatchable"] == {"type": "JOB_VERSION", "id": made["versionId"]}
        assert made["latest"] == "1.0.0"

    def test_latest_goes_by_semantic_version_and_the_rule_goes_with_it(self, alice: Api) -> None:
        alice.post("/api/v1/jobs", job(version="1.9.0"))
        newest = alice.post("/api/v1/jobs", job(version="1.10.0", event="order.refunded")).json
        older = alice.post("/api/v1/jobs", job(version="1.10.0-beta.1")).json

        assert (newest["latest"], older["latest"]) == ("1.10.0", "1.10.0")
        rule = alice.get(f"{RULES}/{newest['dispatcherId']}").json
        assert (rule["event"], rule["dispatchable"]["id"]) == (["order.refunded"], newest["versionId"])
        assert older["dispatcherId"] == newest["dispatcherId"]

    def test_the_same_version_again_is_taken_as_corrected_and_stays_disabled(self, alice: Api) -> None:
        first = alice.post("/api/v1/jobs", job()).json
        alice("PATCH", f"{RULES}/{first['dispatcherId']}", {"enabled": False})
        again = alice.post("/api/v1/jobs", job(event=["x", "y"])).json

        assert (again["versionId"], again["dispatcherId"]) == (first["versionId"], first["dispatcherId"])
        rule = alice.get(f"{RULES}/{first['dispatcherId']}").json
        assert (rule["event"], rule["enabled"]) == (["x", "y"], False)

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            (job(version="1"), "version"),
            (job(slug=""), "id"),
            (job(event=[]), "trigger.event"),
            (job(filter={"a": "x"}), "trigger.filter.a"),
            (job(contextFilter={"a": [{}]}), "trigger.contextFilter.a[0]"),
        ],
    )
    def test_a_mistake_is_named(self, alice: Api, body: Any, path: str) -> None:
        answer = alice.post("/api/v1/jobs", body)

        assert (answer.status_code, answer.json["issues"][0]["path"]) == (422, path)
        with db.unit():
            assert models.Job.select().count() == 0

    def test_the_mistakes_of_both_filters_are_named(self, alice: Api) -> None:
        answer = alice.post("/api/v1/jobs", job(filter={"a": 1}, contextFilter={"b": 2}))

        assert [issue["path"] for issue in answer.json["issues"]] == ["trigger.filter.a", "trigger.contextFilter.b"]

    def test_two_registrations_at_once_end_as_if_one_came_after_the_other(self, alice: Api) -> None:
        together = threading.Barrier(4)
        latest: list[str] = []

        def register(version: str) -> None:
            together.wait()
            latest.append(alice.post("/api/v1/jobs", job(version=version)).json["latest"])

        threads = [threading.Thread(target=register, args=(f"{number}.0.0",)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert "4.0.0" in latest
        with db.unit():
            assert models.JobVersion.select().count() == 4
            [alias], [rule] = models.JobAlias.select(), models.EventDispatcher.select()
            assert rule.dispatchable["id"] == str(alias.version_id)

    def test_a_dynamic_trigger_takes_the_jobs_it_is_given(self, alice: Api) -> None:
        for slug in ("one", "two"):
            alice.post("/api/v1/jobs", job(slug))
        first = alice("PUT", "/api/v1/dynamic-triggers/my trigger", {"jobs": ["one", "two", "one"]}).json
        second = alice("PUT", "/api/v1/dynamic-triggers/my trigger", {"jobs": ["two"]}).json

        assert (first["id"], first["jobs"], second["jobs"]) == ("my trigger", ["one", "two"], ["two"])
        assert first["triggerId"] == second["triggerId"]
        rule = alice.post(RULES, {"event": "a", "dispatchable": {"type": "DYNAMIC_TRIGGER", "id": first["triggerId"]}})
        assert rule.status_code == 200

    def test_a_job_that_does_not_exist_is_named(self, alice: Api) -> None:
        alice.post("/api/v1/jobs", job("one"))
        answer = alice("PUT", "/api/v1/dynamic-triggers/t", {"jobs": ["one", "nope"]})

        assert (answer.status_code, answer.json["issues"][0]["path"]) == (422, "jobs[1]")


class TestRuns:
    @pytest.fixture
    def run(self, alice: Api) -> models.JobRun:
        """An executing run."""
        version = factory.job(alice.environment, "ship")
        with db.unit():
            record = models.EventRecord.create(
                event_id="1",
                name="a",
                organization_id=alice.environment.organization_id,
                project_id=alice.environment.project_id,
                environment_id=alice.environment.id,
            )
            return models.JobRun.create(
                environment_id=alice.environment.id,
                job_id=version.job_id,
                version_id=version.id,
                event_record_id=record.id,
                status="EXECUTING",
            )

    def test_a_run_is_read_in_both_versions(self, alice: Api, run: models.JobRun) -> None:
        first, second = (alice.get(f"/api/v{number}/runs/{run.id}").json for number in (1, 2))

        assert (first["status"], second["status"]) == ("STARTED", "EXECUTING")
        assert list(second) == ["id", "status", "startedAt", "updatedAt", "completedAt", "output", "tasks", "statuses"]
        statuses = alice.get(f"/api/v2/runs/{run.id}/statuses", key=alice.public_key).json
        assert statuses == {"run": {"id": str(run.id), "status": "EXECUTING", "output": None}, "statuses": []}

    def test_a_run_is_cancelled_once(self, alice: Api, run: models.JobRun) -> None:
        first = alice.post(f"/api/v1/runs/{run.id}/cancel").json
        again = alice.post(f"/api/v1/runs/{run.id}/cancel").json

        assert first["status"] == "CANCELED"
        assert again == first

    def test_a_run_that_has_ended_stays_as_it_is(self, alice: Api, run: models.JobRun) -> None:
        with db.unit():
            models.JobRun.update(status="SUCCESS").execute()

        assert alice.post(f"/api/v1/runs/{run.id}/cancel").json["status"] == "SUCCESS"

    def test_a_jobs_runs_are_listed(self, alice: Api, run: models.JobRun) -> None:
        listed = alice.get("/api/v1/jobs/ship/runs", params={"take": 1}).json

        assert [one["id"] for one in listed["runs"]] == [str(run.id)]
        assert "nextCursor" not in listed
        assert alice.get("/api/v1/jobs/nope/runs").json == {"error": "Job not found"}

    def test_a_stranger_finds_nothing_and_cancels_nothing(self, alice: Api, bob: Api, run: models.JobRun) -> None:
        for path in (f"/api/v1/runs/{run.id}", f"/api/v2/runs/{run.id}", f"/api/v2/runs/{run.id}/statuses"):
            assert bob.get(path).json == {"error": "Run not found"}
        assert bob.post(f"/api/v1/runs/{run.id}/cancel").status_code == 404
        assert bob.get("/api/v1/jobs/ship/runs").status_code == 404
        assert alice.get(f"/api/v2/runs/{run.id}").json["status"] == "EXECUTING"


class TestEveryRoute:
    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("PUT", "/api/v1/events", "GET, HEAD, POST, OPTIONS"),
            ("GET", "/api/v1/events/bulk", "POST, OPTIONS"),
            ("POST", "/api/v2/events/x", "GET, HEAD, OPTIONS"),
            ("GET", "/api/v1/jobs", "POST, OPTIONS"),
        ],
    )
    def test_a_wrong_method_is_a_405_that_names_the_right_ones(
        self, client: testing.TestClient, method: str, path: str, allow: str
    ) -> None:
        answer = client.simulate_request(method, path)

        assert (answer.status_code, answer.json) == (405, {"error": "Method Not Allowed"})
        assert answer.headers["allow"] == allow

    def test_a_route_that_is_none_is_a_404(self, client: testing.TestClient) -> None:
        answer = client.simulate_get("/nope")

        assert (answer.status_code, answer.json) == (404, {"error": "Not Found"})

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer tr_dev_unknown", "tr_dev_unknown", "Basic x", "é"])
    def test_no_good_key_is_a_401_before_the_body_is_read(self, client: testing.TestClient, header: str | None) -> None:
        headers = {} if header is None else {"Authorization": header}
        answer = client.simulate_post("/api/v1/events", body=b"{", headers=headers)

        assert (answer.status_code, answer.json) == (401, {"error": "Invalid or Missing API key"})

    def test_a_request_id_is_kept_or_made(self, alice: Api) -> None:
        kept = alice.get("/healthz", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"]
        made = alice.get("/healthz", headers={"X-Request-Id": "two words"}).headers["x-request-id"]

        assert kept == "mine-1"
        assert made != "two words"

    def test_a_database_that_is_away_is_a_503_with_when_to_come_again(self, alice: Api) -> None:
        db.connect("postgresql://nobody@127.0.0.1:1/none")
        answer = alice.post("/api/v1/events", {"event": {"name": "a"}})

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "error" in answer.json

    def test_an_exhausted_pool_is_a_503_too(self, alice: Api, store: str) -> None:
        db.connect(store, pool_size=1, wait_seconds=0.05)
        with db.unit():
            seen = []
            thread = threading.Thread(
                target=lambda: seen.append(alice.post("/api/v1/events", {"event": {"name": "a"}}))
            )
            thread.start()
            thread.join()

        assert seen[0].status_code == 503

    def test_anything_unforeseen_is_a_500_that_says_nothing_of_its_cause(self, alice: Api) -> None:
        with db.unit():
            db.run("ALTER TABLE event_records DROP COLUMN source_context")
        answer = alice.post("/api/v1/events", {"event": {"name": "a"}})

        assert answer.status_code == 500
        assert answer.json == {"error": "Internal Server Error", "requestId": answer.headers["x-request-id"]}


class TestHealth:
    def test_alive_is_alive(self, client: testing.TestClient) -> None:
        assert client.simulate_get("/healthz").json == {"status": "ok"}

    def test_ready_needs_a_relay_that_ticked_lately(self, client: testing.TestClient) -> None:
        missing = client.simulate_get("/readyz")
        with db.unit():
            db.run("INSERT INTO process_heartbeats (kind, instance) VALUES ('scheduler', 'a')")
        there = client.simulate_get("/readyz")
        with db.unit():
            db.run("UPDATE process_heartbeats SET beat_at = now() - interval '31 s'")
        late = client.simulate_get("/readyz")

        assert (missing.status_code, missing.json["checks"]["relay"]) == (503, "no scheduler has run yet")
        assert (there.status_code, there.json["ready"]) == (200, True)
        assert 0 <= there.json["relayAgeSeconds"] < 20
        assert (late.status_code, late.json["checks"]["relay"]) == (503, "no scheduler for 31 s")

    def test_ready_needs_a_database(self, client: testing.TestClient) -> None:
        db.connect("postgresql://nobody@127.0.0.1:1/none")

        answer = client.simulate_get("/readyz")
        assert (answer.status_code, answer.json) == (
            503,
            {"ready": False, "checks": {"database": "away"}, "relayAgeSeconds": None},
        )
        assert client.simulate_get("/healthz").status_code == 200

    def test_ready_needs_this_versions_schema(self, client: testing.TestClient, empty_database: str) -> None:
        db.connect(empty_database)

        assert (
            client.simulate_get("/readyz").json["checks"]["schema"] == "run kongflow-events migrate: schema.sql missing"
        )


class TestLookUp:
    """A name server may take its time, and all that while nobody else's connection."""

    def test_no_connection_waits_for_the_name_of_a_url(
        self, alice: Api, store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked_up: list[str] = []

        def resolve(host: str, port: int, **_: Any) -> list[Any]:
            with db.unit():
                looked_up.append(f"{host} {db.rows('SELECT 1 AS one')[0]['one']}")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", port))]

        db.connect(store, pool_size=1, wait_seconds=0.1)
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        webhook = {"type": "WEBHOOK", "url": "http://one.example/"}
        waiting = {"name": "a", "source": "trigger.dev", "url": "http://two.example/", "timeoutInSeconds": 60}

        made = alice.post(RULES, {"event": "a", "dispatchable": webhook})
        waits = alice.post(f"{RULES}/ephemeral", waiting)
        other = {"dispatchable": {"url": "http://three.example/"}}
        changed = alice("PATCH", f"{RULES}/{made.json['id']}", other)

        assert [answer.status_code for answer in (made, waits, changed)] == [200, 200, 200]
        assert looked_up == ["one.example 1", "two.example 1", "three.example 1"]
