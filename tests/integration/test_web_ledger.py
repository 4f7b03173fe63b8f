"""The ledger, redrives and replays over HTTP, and the commands for them."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from click.testing import CliRunner, Result

from kongflow_events import settings, words
from kongflow_events.cli import main
from kongflow_events.services import redrive, replay
from kongflow_events.store import db
from kongflow_events.web.app import create_app
from tests import factory
from tests.integration.conftest import Api

LEDGER = "/api/v1/invocations"


def nothing() -> dict[str, str]:
    """A target that does not exist."""
    return {"type": words.JOB_VERSION, "id": str(uuid.uuid4())}


@pytest.fixture
def dead(alice: Api) -> list[str]:
    """The ids of three dead invocations, newest first."""
    factory.dispatcher(alice.environment, "order.*", to=nothing())
    for event_id, name in (("1", "order.paid"), ("2", "order.paid"), ("3", "order.late")):
        alice.send(name, id=event_id)
        factory.work()
    return [one["id"] for one in alice.get(LEDGER, params={"status": "DEAD"}).json["data"]]


class TestLedger:
    def test_an_invocation_shows_its_state_and_its_attempts(self, alice: Api, dead: list[str]) -> None:
        told = alice.get(f"{LEDGER}/{dead[0]}").json

        assert (told["eventId"], told["eventName"], told["status"]) == ("3", "order.late", "DEAD")
        assert (told["errorClass"], told["attempts"], told["redrives"], told["replay"]) == ("missing", 1, 0, None)
        [attempt] = told["attemptList"]
        assert (attempt["round"], attempt["number"], attempt["outcome"]) == (0, 1, "missing")
        assert attempt["error"] == told["lastError"] == told["reason"]
        assert "does not exist" in told["reason"]

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({}, ["4", "3", "2", "1"]),
            ({"status": "DEAD"}, ["3", "2", "1"]),
            ({"status": "SUCCEEDED"}, ["4"]),
            ({"status": "PENDING"}, []),
            ({"name": "order.paid"}, ["2", "1"]),
            ({"event": "2"}, ["2"]),
            ({"errorClass": "missing"}, ["3", "2", "1"]),
            ({"errorClass": "timeout"}, []),
            ({"until": "2020-01-01"}, []),
            ({"since": "2020-01-01", "status": "DEAD", "name": "order.late"}, ["3"]),
            ({"dispatcher": "nonsense"}, []),
        ],
    )
    def test_they_are_listed_newest_first_by_what_is_asked(
        self, alice: Api, dead: list[str], asked: dict[str, str], expected: list[str]
    ) -> None:
        factory.dispatcher(alice.environment, "ok", to=factory.to_job(factory.job(alice.environment)))
        alice.send("ok", id="4")
        factory.work()

        assert [one["eventId"] for one in alice.get(LEDGER, params=asked).json["data"]] == expected

    def test_pages_go_on_where_they_ended(self, alice: Api, dead: list[str]) -> None:
        first = alice.get(LEDGER, params={"limit": 2}).json
        second = alice.get(LEDGER, params={"limit": 2, "cursor": first["nextCursor"]}).json

        assert [one["id"] for one in (*first["data"], *second["data"])] == dead
        assert second["nextCursor"] is None

    def test_one_is_redriven_once_and_dismissed_once(self, alice: Api, dead: list[str]) -> None:
        again = alice.post(f"{LEDGER}/{dead[0]}/redrive")
        assert (again.json["status"], again.json["redrives"], again.json["attempts"]) == ("PENDING", 1, 0)
        assert again.json["nextAttemptAt"] is not None
        assert alice.post(f"{LEDGER}/{dead[0]}/redrive").status_code == 409

        gone = alice.post(f"{LEDGER}/{dead[1]}/dismiss")
        assert (gone.json["status"], gone.json["reason"][:11]) == ("CANCELED", "dismissed: ")
        assert alice.post(f"{LEDGER}/{dead[1]}/dismiss").status_code == 409

    def test_a_dead_delivery_is_redriven_and_dismissed_by_its_event(self, alice: Api) -> None:
        alice.send(id="1")
        for verb in ("redrive", "dismiss"):
            assert alice.post(f"/api/v1/events/1/{verb}").status_code == 409
            with db.unit():
                db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity'")
            assert alice.post(f"/api/v1/events/1/{verb}").json["id"] == "1"

    def test_a_stranger_sees_and_changes_nothing(self, alice: Api, bob: Api, dead: list[str]) -> None:
        started = alice.post("/api/v1/redrives", {}).json["id"]

        assert bob.get(LEDGER).json["data"] == bob.get("/api/v1/redrives").json["data"] == []
        for answer in (
            bob.get(f"{LEDGER}/{dead[0]}"),
            bob.post(f"{LEDGER}/{dead[0]}/redrive"),
            bob.post(f"{LEDGER}/{dead[0]}/dismiss"),
            bob.get(f"/api/v1/redrives/{started}"),
            bob.post(f"/api/v1/redrives/{started}/cancel"),
        ):
            assert answer.status_code == 404
        assert bob.post("/api/v1/redrives/preview", {}).json == {"total": 0}
        assert bob.post("/api/v1/replays/preview", {}).json["total"] == 0


class TestBulk:
    def test_a_redrive_is_previewed_started_and_followed(self, alice: Api, dead: list[str]) -> None:
        asked = {"name": "order.paid", "errorClass": "missing", "since": "2020-01-01T00:00:00Z", "rate": 1000}
        assert alice.post("/api/v1/redrives/preview", asked).json == {"total": 2}
        begun = alice.post("/api/v1/redrives", asked).json
        assert (begun["state"], begun["total"], begun["done"]) == ("RUNNING", 2, 0)
        assert (begun["name"], begun["since"], begun["dispatcher"]) == ("order.paid", "2020-01-01T00:00:00.000Z", None)
        with db.unit():
            redrive.advance_redrives()

        ended = alice.get(f"/api/v1/redrives/{begun['id']}").json
        assert (ended["state"], ended["seen"], ended["done"]) == ("DONE", 2, 2)
        assert [one["id"] for one in alice.get("/api/v1/redrives").json["data"]] == [begun["id"]]
        assert alice.get(f"/api/v1/replays/{begun['id']}").status_code == 404

    def test_a_replay_is_previewed_started_listed_and_cancelled(self, alice: Api, dead: list[str]) -> None:
        late = str(factory.dispatcher(alice.environment, "order.*", to=nothing()))
        asked = {"filter": {"a": [{"$exists": False}]}, "dispatchers": [late], "name": "order.paid"}
        assert alice.post("/api/v1/replays/preview", asked).json == {
            "total": 2,
            "sampled": 2,
            "passing": 2,
            "invocations": 2,
        }
        first, second = (alice.post("/api/v1/replays", asked).json for _ in range(2))
        with db.unit():
            replay.advance_replays()
        assert alice.post(f"/api/v1/replays/{second['id']}/cancel").json["state"] == "CANCELED"

        assert alice.get(f"/api/v1/replays/{first['id']}").json["done"] == 2
        page = alice.get("/api/v1/replays", params={"limit": 1}).json
        assert [one["id"] for one in page["data"]] == [second["id"]]
        rest = alice.get("/api/v1/replays", params={"cursor": page["nextCursor"]}).json
        assert [one["id"] for one in rest["data"]] == [first["id"]]
        made = alice.get(LEDGER, params={"dispatcher": late}).json["data"]
        assert {one["replay"] for one in made} == {first["id"]}

    @pytest.mark.parametrize(
        ("path", "body", "issues"),
        [
            ("redrives", {"rate": 0, "of": "all"}, ["of", "rate"]),
            ("redrives", {"errorClass": "odd", "since": "x"}, ["errorClass", "since"]),
            ("redrives", {"dispatchers": ["x"]}, ["dispatchers"]),
            ("replays", {"dispatcher": "x", "filters": {}}, ["dispatcher", "filters"]),
            ("replays", {"filter": {"a": 1}, "dispatchers": ["nope"]}, ["dispatchers[0]", "filter.a"]),
            ("replays", {"dispatchers": []}, ["dispatchers"]),
            ("replays", {"dispatchers": ["x"] * 101, "rate": 10_001}, ["dispatchers", "rate"]),
        ],
    )
    def test_a_mistake_is_named(self, alice: Api, path: str, body: Any, issues: list[str]) -> None:
        for place in (path, f"{path}/preview"):
            answer = alice.post(f"/api/v1/{place}", body)
            assert answer.status_code == 422
            assert [issue["path"] for issue in answer.json["issues"]] == issues


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class TestCommands:
    @pytest.fixture(autouse=True)
    def _service(self, alice: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A running service whose operations are carried on, and a shell that knows where it is."""
        ended = threading.Event()

        def carry_on() -> None:
            while not ended.wait(0.05):
                with db.unit():
                    redrive.advance_redrives()
                    replay.advance_replays()

        with make_server("127.0.0.1", 0, create_app(settings.load({})), handler_class=Quiet) as server:
            threads = [
                threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True),
                threading.Thread(target=carry_on, daemon=True),
            ]
            for thread in threads:
                thread.start()
            monkeypatch.setenv("KONGFLOW_URL", f"http://127.0.0.1:{server.server_port}")
            monkeypatch.setenv("KONGFLOW_KEY", alice.key)
            yield
            ended.set()
            threads[1].join()
            server.shutdown()

    def run(self, *said: str, **options: Any) -> Result:
        return CliRunner().invoke(main, said, **options)

    def test_dead_letters_are_listed_shown_and_redriven(self, alice: Api, dead: list[str]) -> None:
        listed = self.run("dead", "list", "--error-class", "missing").stdout.splitlines()
        assert listed[0].split() == ["ID", "EVENT", "NAME", "CLASS", "ATTEMPTS", "DIED"]
        assert [line.split()[0] for line in listed[1:]] == dead
        shown = self.run("dead", "show", dead[0]).stdout
        assert "3 (order.late)" in shown
        assert "missing" in shown
        assert self.run("dead", "redrive", "--all", "--dry-run").stdout == "3 dead letters\n"

        one = self.run("dead", "redrive", dead[0])
        assert (one.exit_code, one.stdout) == (0, f"{dead[0]}  redriven\n")
        assert self.run("dead", "redrive", dead[0]).exit_code == 1
        assert self.run("dead", "dismiss", dead[1]).stdout == f"{dead[1]}  dismissed\n"
        rest = self.run("dead", "redrive", "--all", "--yes")
        assert (rest.exit_code, rest.stdout[-19:]) == (0, "  DONE  1 redriven\n")
        assert "redrives" in rest.stderr
        assert self.run("dead", "list").exit_code == 3

    def test_nothing_is_done_without_a_yes(self, alice: Api, dead: list[str]) -> None:
        unsure = self.run("dead", "redrive", "--all", input="n\n")

        assert unsure.exit_code == 2
        assert "nothing was done" in unsure.stderr
        assert len(alice.get(LEDGER, params={"status": "DEAD"}).json["data"]) == 3
        assert self.run("dead", "redrive").exit_code == self.run("dead", "redrive", "x", "--all").exit_code == 2

    def test_dead_deliveries_too(self, alice: Api) -> None:
        alice.send(id="1")
        with db.unit():
            db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity'")
        assert self.run("dead", "list", "--deliveries").stdout.splitlines()[1].split()[0] == "1"
        assert self.run("dead", "list", "--deliveries", "--dispatcher", "x").exit_code == 2
        assert self.run("dead", "redrive", "--deliveries", "1").stdout == "1  redriven\n"

    def test_past_events_are_replayed(self, alice: Api, dead: list[str]) -> None:
        words_ = ["replay", "start", "--name", "order.paid", "--filter", '{"a":[{"$exists":false}]}']
        assert self.run(*words_, "--dry-run").stdout == "2 events: 2 invocations\n"
        done = self.run(*words_, "--yes")
        assert (done.exit_code, done.stdout[-22:]) == (0, "  DONE  2 invocations\n")
        left = json.loads(self.run(*words_, "--yes", "--no-wait", "--rate", "1", "--json").stdout)
        assert (left["state"], left["total"]) == ("RUNNING", 2)
        listed = self.run("replay", "list").stdout.splitlines()
        assert listed[0].split() == ["ID", "STATE", "EVENTS", "INVOCATIONS", "BEGAN"]
        ended = self.run("replay", "cancel", listed[1].split()[0])
        assert ended.stdout.split()[1] in ("CANCELED", "DONE")
        assert self.run("replay", "start", "--filter", "{").exit_code == 2
