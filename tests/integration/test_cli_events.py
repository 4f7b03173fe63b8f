"""The commands that watch, count, move and switch: tail, stats, import, export, invocations, dispatchers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kongflow_events import models
from kongflow_events.cli.importing import parse
from kongflow_events.cli.stats import bars
from kongflow_events.cli.tail import Watched
from kongflow_events.store import db
from tests import factory, receiver
from tests.integration.test_cli import from_json, run, service
from tests.receiver import Receiver

__all__ = ["service"]


def stored() -> dict[str, models.EventRecord]:
    with db.unit():
        return {record.event_id: record for record in models.EventRecord.select()}


@pytest.mark.usefixtures("service")
class TestEvents:
    def test_an_event_is_shown_with_what_became_of_it_and_one_can_be_cancelled(self) -> None:
        run("send", factory.JOB_EVENT, "--id", "1")
        factory.work()
        shown = run("events", "show", "1")
        assert shown.exit_code == 0, shown.output
        assert shown.stdout.split("\n\n")[1].startswith("INVOCATION")
        assert "SUCCEEDED" in shown.stdout
        assert "PENDING" in shown.stdout.split("RUN")[1]

        [invocation] = from_json("events", "show", "1")["invocations"]
        assert "no attempts" in run("invocations", "show", invocation["id"]).stdout
        assert invocation["id"] in run("invocations", "list", "--event", "1", "--status", "succeeded").stdout
        assert from_json("invocations", "show", invocation["id"])["eventId"] == "1"
        assert run("invocations", "list", "--event", "nope").exit_code == 3

        run("send", factory.JOB_EVENT, "--id", "2", "--deliver-after", "60")
        assert run("events", "cancel", "2").stdout == "2  cancelled\n"
        assert from_json("events", "cancel", "2")["cancelledAt"]

    def test_a_dispatcher_is_shown_switched_and_deleted(self) -> None:
        made = from_json("dispatchers", "add", "--event", "a", "--url", "http://127.0.0.1:9/")["id"]
        shown = run("dispatchers", "show", made).stdout
        assert ("EPHEMERAL http://127.0.0.1:9/" in shown, "enabled" in shown) == (True, True)
        assert run("dispatchers", "disable", made).stdout == f"{made}  disabled\n"
        assert from_json("dispatchers", "show", made)["enabled"] is False
        assert run("dispatchers", "enable", made).stdout == f"{made}  enabled\n"
        assert from_json("dispatchers", "disable", made)["enabled"] is False
        assert run("dispatchers", "delete", made).stdout == f"{made}  deleted\n"
        assert run("dispatchers", "show", made).exit_code == 3

    def test_a_webhook_is_shown_with_how_its_target_is(self) -> None:
        made = from_json("webhooks", "create", "http://127.0.0.1:9/", "--event", "a")["id"]

        assert "target" not in run("dispatchers", "show", made).stdout
        with db.unit():
            models.Target.create(dispatcher_id=made, failures=3)

        assert "closed, 3 failures in a row" in run("dispatchers", "show", made).stdout

    def test_tail_shows_events_as_they_come_and_what_became_of_them(self) -> None:
        run("send", factory.JOB_EVENT, "--id", "before")
        factory.work()

        watched = Watched(lambda event: event["name"].startswith("order."))
        assert list(watched.begin(0)) == []
        run("send", factory.JOB_EVENT, "--id", "heard")
        run("send", "order.unheard", "--id", "unheard")
        run("send", "else", "--id", "else")
        assert [(line["type"], line["id"]) for line in watched.look()] == [("event", "heard"), ("event", "unheard")]
        factory.work()
        told = list(watched.look())
        assert [(line["type"], line.get("eventId", line["id"])) for line in told] == [
            ("end", "unheard"),
            ("invocation", "heard"),
        ]
        assert list(watched.look()) == []

        lines = run("tail", "--name", "order.un*", "--last", "5", "--for", "0", "--json").stdout.splitlines()
        assert [json.loads(line)["type"] for line in lines] == ["event", "end"]
        last = run("tail", "--last", "4", "--for", "0").stdout
        assert [word in last for word in ("before", "heard", "SUCCEEDED", "unmatched")] == [True] * 4
        assert last.splitlines()[0].endswith(f"{factory.JOB_EVENT}  before")
        assert run("tail", "--for", "0").stdout == ""

    def test_tail_says_when_each_event_came_and_not_when_it_was_looked_at(self) -> None:
        run("send", factory.JOB_EVENT, "--id", "old")
        with db.unit():
            db.run("UPDATE event_records SET created_at = '2026-01-02T03:04:05Z'")

        assert run("tail", "--last", "1", "--for", "0").stdout.startswith("03:04:05  ")

    def test_who_sends_an_id_again_is_told_that_nothing_was_stored(self) -> None:
        first = run("send", factory.JOB_EVENT, "--id", "again", "--payload", "1")
        factory.work()
        second = run("send", factory.JOB_EVENT, "--id", "again", "--payload", "2")

        said = "an event of this id was there already: nothing was stored\n"
        assert (first.stderr, second.stderr) == ("", said)

    def test_what_strangers_write_commands_no_terminal(self) -> None:
        name, written = "e\x1b]0;taken\x07\x9b2J", r"e\u001b]0;taken\u0007\u009b2J"
        sent = run("send", name, "--id", name, "--payload", json.dumps({"a": name}))
        made = from_json("dispatchers", "add", "--event", name, "--url", "http://127.0.0.1:9/")["id"]

        said = [
            sent,
            run("events", "list"),
            run("events", "show", name),
            run("events", "show", name, "--json"),
            run("events", "cancel", name),
            run("tail", "--last", "10", "--for", "1"),
            run("explain", made, "--event", "other", "--payload", json.dumps({name: 1})),
            run("events", "show", f"{name}?"),
        ]

        assert [bool({"\x1b", "\x07", "\x9b"} & set(one.output)) for one in said] == [False] * len(said)
        assert all(written in one.output for one in said[:6])

    def test_stats_count_and_draw(self) -> None:
        for _ in range(3):
            run("send", factory.JOB_EVENT)
        factory.work()

        table = run("stats", "--last", "30m", "--slots", "3").stdout.splitlines()
        assert table[0].split() == ["FROM", "RECEIVED", "DELIVERED", "FAILED", "DEAD"]
        assert table[-1].split() == ["total", "3", "3", "0", "0"]
        assert len(table) == 5
        charts = run("--no-color", "stats", "--plot").stdout
        assert "received  3, at most 3 in" in charts
        assert "█" in charts
        assert sum(slot["received"] for slot in from_json("stats")["slots"]) == 3
        assert run("stats", "--last", "never").exit_code == 2

    def test_what_is_exported_is_imported_as_it_was(self, tmp_path: Path) -> None:
        file = tmp_path / "events.jsonl"
        words = ["--context", '{"c": 1}', "--source", "shop", "--account", "acme"]
        run("send", "exact", "--id", "1", "--payload", '{"b": 1.10,\n "a": [1e2]}', *words)
        run("send", "later", "--id", "2", "--deliver-at", "2999-01-01T00:00:00Z")
        run("send", "gone", "--id", "3")
        run("events", "cancel", "3")
        assert run("export", "--output", str(file)).stderr.splitlines()[-1] == "3 exported"
        assert len(file.read_text().splitlines()) == 3
        assert run("export", "--name", "nope").exit_code == 3
        before = stored()
        with db.unit():
            models.Outbox.delete().execute()
            models.EventRecord.delete().execute()

        assert run("import", str(file)).stdout == "2 accepted, 0 refused, 1 skipped\n"
        assert from_json("import", str(file))["accepted"] == 2
        after = stored()
        assert set(after) == {"1", "2"}
        assert after["1"].payload_raw == '{"b": 1.10,  "a": [1e2]}'
        for event_id, record in after.items():
            for field in ("name", "source", "context", "external_account_id"):
                assert getattr(record, field) == getattr(before[event_id], field)
        assert after["2"].deliver_at == before["2"].deliver_at

    def test_lines_that_are_refused_are_told_with_their_number_and_the_others_are_sent(self, tmp_path: Path) -> None:
        file = tmp_path / "events.jsonl"
        good = [json.dumps({"id": f"good-{number}", "name": "a"}) for number in range(20)]
        bad = ["{not json", '{"id": "no-name"}', '{"name": "a", "payload": {"x": "\\u0000"}}', "[1]"]
        file.write_text("\n".join([*good[:10], *bad, "", *good[10:]]) + "\n")

        result = run("import", str(file), "--batch", "7")
        assert result.exit_code == 1
        assert result.stdout == f"20 accepted, 4 refused, 0 skipped: see {file}.refused.jsonl\n"
        refused = [json.loads(line) for line in Path(f"{file}.refused.jsonl").read_text().splitlines()]
        assert sorted(one["line"] for one in refused) == [11, 12, 13, 14]
        assert all(one["reason"] for one in refused)
        assert {one["text"] for one in refused} == set(bad)
        assert set(stored()) == {f"good-{number}" for number in range(20)}

    def test_a_second_run_sends_nothing_twice_also_where_lines_have_no_id(self) -> None:
        lines = '{"name": "a"}\n{"name": "a"}\n{"name": "b", "id": "1"}\n'
        for _ in range(2):
            assert run("import", "-", input=lines).stdout == "3 accepted, 0 refused, 0 skipped\n"
        assert len(stored()) == 3
        assert run("import", "-", "--from-line", "3", input=lines).stdout == "1 accepted, 0 refused, 0 skipped\n"

    def test_a_wrong_key_ends_an_import_and_says_where_to_go_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KONGFLOW_KEY", "tr_dev_wrong")
        result = run("import", "-", input='{"name": "a"}\n')

        assert result.exit_code == 1
        assert "0 accepted, 0 refused, 0 skipped; go on with --from-line 1" in result.stderr


def test_an_import_waits_while_the_service_is_full_and_away(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(429, "0"), (503, "0"), (200, None)])

    def busy(handler: BaseHTTPRequestHandler) -> None:
        status, after = next(answers)
        receiver.status(status, **({"Retry_After": after} if after else {}))(handler)

    with Receiver(busy) as target:
        monkeypatch.setenv("KONGFLOW_URL", target.url.rstrip("/"))
        monkeypatch.setenv("KONGFLOW_KEY", "tr_dev_x")
        assert run("import", "-", input='{"name": "a", "id": "1"}\n').stdout == "1 accepted, 0 refused, 0 skipped\n"

    bodies: list[Any] = [json.loads(call.body) for call in target.calls]
    assert bodies == [{"events": [{"name": "a", "id": "1"}], "options": {}}] * 3


def test_a_redrive_is_named_and_watched_on_while_the_service_is_full_and_away(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = {"id": "7", "state": "RUNNING", "total": 2, "seen": 0, "done": 0}
    ended = {"id": "7", "state": "DONE", "total": 2, "seen": 2, "done": 2}
    said = iter([(200, {"total": 2}), (200, begun), (503, {}), (429, {}), (200, ended)])

    class Wavering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = next(said)
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Wavering) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("KONGFLOW_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("KONGFLOW_KEY", "tr_dev_x")
        result = run("dead", "redrive", "--all", "--yes")
        server.shutdown()

    assert (result.exit_code, result.stdout) == (0, "7  DONE  2 redriven\n")
    assert result.stderr.startswith("begun as redrives/7\n")
    assert list(said) == []


def test_times_that_are_over_are_not_asked_for_again() -> None:
    line = parse(1, b'{"name": "a", "id": "1", "deliverAt": "2020-01-01T00:00:00.000Z", "state": "delivered"}')

    assert not isinstance(line, str)
    assert line is not None
    assert (json.loads(line.event), line.options.deliver_at) == ({"name": "a", "id": "1"}, None)


def test_a_chart_shows_what_is_there_however_small_beside_the_highest() -> None:
    assert bars([0, 1, 1000], 1000) == ["  █", "  █", "  █", " ▁█"]
