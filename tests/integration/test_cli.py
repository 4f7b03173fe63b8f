"""The command, as a person and as a program meet it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import click
import pytest
from click.testing import CliRunner, Result

from kongflow_events import models, settings
from kongflow_events.cli import main
from kongflow_events.services import keys
from kongflow_events.store import db
from kongflow_events.web.app import create_app
from tests import factory
from tests.processes import BIN, end, query


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running service, and a shell that knows where it is."""
    environment = factory.environment("alice")
    factory.dispatcher(environment, to=factory.to_job(factory.job(environment)))
    with db.unit():
        key = keys.create_key(environment).key
    with make_server("127.0.0.1", 0, create_app(settings.load({})), handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("KONGFLOW_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("KONGFLOW_KEY", key)
        yield
        server.shutdown()


def run(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(main, words, **options)


def from_json(*words: str, **options: Any) -> Any:
    result = run(*words, "--json", **options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("service")
class TestApi:
    def test_an_event_is_sent_shown_and_listed(self) -> None:
        sent = run("send", factory.JOB_EVENT, "--payload", '{"n": 1}', "--id", "a b/c")
        assert (sent.exit_code, sent.stdout) == (0, f"a b/c  {factory.JOB_EVENT}  accepted\n")

        words = ["--account", "acme", "--deliver-after", "60", "--context", "1"]
        later = from_json("send", "later", "--payload", "-", *words, input='{"n": 2}')
        assert (later["payload"], later["context"]) == ({"n": 2}, 1)
        listed = run("events", "list", "--name", "later").stdout.splitlines()
        assert listed[0].split() == ["ID", "NAME", "STATE", "DELIVER", "AT"]
        assert listed[1].split()[:3] == [later["id"], "later", "pending"]
        assert [event["id"] for event in from_json("events", "list", "--account", "acme")["data"]] == [later["id"]]
        assert "no runs" in run("events", "show", later["id"]).stdout

    def test_a_payload_is_sent_as_it_was_written(self) -> None:
        text = '{"b": 1.10, "a": 1e2, "n": 123456789012345678901234567890}'
        run("send", "exact", "--payload", text, "--context", '{"c": [1]}', "--id", "exact")

        with db.unit():
            assert models.EventRecord.get().payload_raw == text
        assert run("send", "exact", "--payload", "NaN").exit_code == 1

    def test_a_dispatcher_explains_itself(self) -> None:
        words = ["--event", "order.*", "--filter", '{"amount":[{"$gt":10}],"$or":[{"vip":[true]}]}']
        made = from_json("dispatchers", "add", *words, "--url", "http://1.1.1.1/")
        told = run("explain", made["id"], "--event", factory.JOB_EVENT, "--payload", '{"amount": 5}')

        assert told.exit_code == 3
        assert told.stdout.splitlines() == [
            "it does not match",
            "  payloadFilter: payload.amount: $gt 10 does not hold for 5",
            "",
            "payload filter",
            "  ✗ payload: all of",
            "    ✗ payload.amount $gt 10, found 5",
            "    ✗ payload: $or",
            "      ✗ payload: all of",
            "        ✗ payload.vip one of [true], found nothing",
        ]
        run("send", factory.JOB_EVENT, "--id", "1", "--payload", '{"amount": 42, "vip": true}')
        told = run("explain", made["id"], "--event-id", "1")
        assert (told.exit_code, told.stdout.splitlines()[:2]) == (
            0,
            ["it matches", "  pending: the event's delivery is under way"],
        )
        assert from_json("explain", made["id"], "--event-id", "1")["matches"] is True
        assert run("explain", made["id"]).exit_code == 2
        assert run("explain", made["id"], "--event-id", "nope").exit_code == 3

    def test_a_list_that_goes_on_says_how(self) -> None:
        for _ in range(2):
            run("send", "a")
        first = run("events", "list", "--limit", "1")

        cursor = first.stderr.split()[-1]
        assert len(run("events", "list", "--limit", "1", "--cursor", cursor).stdout.splitlines()) == 2

    def test_dispatchers_are_added_and_listed(self) -> None:
        added = run(
            "dispatchers",
            "add",
            "--event",
            "a",
            "--event",
            "b",
            "--filter",
            '{"n":[{"$gt":2,"$lt":1}]}',
            "--url",
            "http://127.0.0.1:9/",
        )
        assert added.exit_code == 0, added.output
        assert "a, b → EPHEMERAL http://127.0.0.1:9/" in added.stdout
        assert added.stderr == "warning: payloadFilter.n: no value can pass all of these operators\n"
        assert "a, b" in run("dispatchers", "list", "--event", "b").stdout
        assert len(from_json("dispatchers", "list")["data"]) == 2

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["events", "show", "nope"], 3, "error: Event not found (404)\n"),
            (["events", "list", "--name", "nope"], 3, "nothing found\n"),
            (["events", "list", "--limit", "1000"], 1, "error: limit: "),
            (["send", "a", "--payload", "{a"], 2, "column 2"),
            (["dispatchers", "add", "--event", "a"], 2, "give one of --job-version"),
            (["dispatchers", "add", "--event", "a", "--url", "nonsense"], 1, "error: dispatchable.url: "),
            (["send"], 2, "Missing argument 'NAME'"),
        ],
    )
    def test_what_goes_wrong_has_its_code_and_one_clear_line(self, words: list[str], code: int, said: str) -> None:
        result = run(*words)

        assert (result.exit_code, said in result.stderr) == (code, True), result.stderr

    @pytest.mark.parametrize(
        "path", ["dispatchers", "events", "invocations", "dead", "dead --deliveries", "replay", "webhooks"]
    )
    def test_a_list_with_nothing_in_it_ends_with_3_also_as_json(self, path: str) -> None:
        group, *options = path.split()
        words = [group, "list", *options, *(["--event", "nope"] if group == "dispatchers" else [])]
        table, document = run(*words), run(*words, "--json")

        assert (table.exit_code, table.stdout, table.stderr) == (3, "", "nothing found\n")
        found = json.loads(document.stdout)
        assert (document.exit_code, document.stderr) == (3, "")
        assert (found if group == "webhooks" else found["data"]) == []

    def test_a_wrong_key_is_said_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KONGFLOW_KEY", "tr_dev_wrong")
        result = run("send", "a")

        assert (result.exit_code, result.stderr) == (1, "error: Invalid or Missing API key (401)\n")


class TestWhere:
    def test_a_service_that_is_not_there_is_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KONGFLOW_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("KONGFLOW_KEY", "tr_dev_x")
        result = run("send", "a")

        assert result.exit_code == 4
        assert result.stderr.startswith("error: no answer from http://127.0.0.1:1")

    def test_without_a_key_the_cure_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        result = run("send", "a")

        assert (result.exit_code, "KONGFLOW_KEY" in result.stderr) == (2, True)

    @pytest.mark.usefixtures("service")
    def test_the_variables_of_dev_are_found_where_it_was_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".kongflow").mkdir()
        (tmp_path / ".kongflow" / "dev.env").write_text(
            f"KONGFLOW_URL={os.environ['KONGFLOW_URL']}\nKONGFLOW_KEY={os.environ['KONGFLOW_KEY']}\n"
        )
        monkeypatch.delenv("KONGFLOW_URL")
        monkeypatch.delenv("KONGFLOW_KEY")
        monkeypatch.chdir(tmp_path)

        assert run("send", "a").exit_code == 0

    def test_commands_that_speak_http_load_nothing_of_the_server(self) -> None:
        program = (
            "import sys; from kongflow_events.cli import main; main(['send','--help'], standalone_mode=False);"
            "print(sorted({'peewee','psycopg2','falcon','apscheduler','dramatiq'} & set(sys.modules)))"
        )
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

        assert said.splitlines()[-1] == "[]"


class TestInterrupted:
    """By a SIGINT, as Ctrl-C is one."""

    @pytest.fixture
    def silent(self) -> Iterator[socket.socket]:
        """A service that takes a connection and never answers."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(30)
            yield listening

    def begun(self, silent: socket.socket, *words: str, **streams: Any) -> subprocess.Popen[bytes]:
        host, port = silent.getsockname()
        environ = {**os.environ, "KONGFLOW_URL": f"http://{host}:{port}", "KONGFLOW_KEY": "tr_dev_x"}
        # Whoever runs the tests in a shell's background has SIGINT ignored, and so would what they start.
        as_in_a_terminal = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen([BIN / "kongflow-events", *words], env=environ, **streams)
        finally:
            signal.signal(signal.SIGINT, as_in_a_terminal)

    @pytest.mark.parametrize(
        "words", ["send a", "events list --json", "dead list", "stats", "export", "import events.jsonl"]
    )
    def test_a_command_ends_with_130_and_no_traceback(self, words: str, silent: socket.socket, tmp_path: Path) -> None:
        (tmp_path / "events.jsonl").write_text('{"name": "a"}\n')
        process = self.begun(
            silent, *words.split(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        try:
            connection, _ = silent.accept()
            interrupt(process)
            said, told = process.communicate(timeout=30)
            connection.close()
        finally:
            end(process)

        assert (process.returncode, said, b"Traceback" in told) == (130, b"", False), told
        assert (b"go on with --from-line 1" in told) is words.startswith("import")

    @pytest.mark.parametrize("words", ["operators add olga", "dead redrive --all"])
    def test_a_question_ends_with_130_too(self, words: str, silent: socket.socket) -> None:
        ours, terminal = os.openpty()
        process = self.begun(silent, *words.split(), stdin=terminal, stdout=terminal, stderr=terminal, process_group=0)
        os.close(terminal)
        try:
            if words.startswith("dead"):
                answer_one(silent, b'{"total": 3}')
            said = b""
            while not said.endswith(b": "):
                said += os.read(ours, 1024)
            interrupt(process)
            assert process.returncode == 130
        finally:
            end(process)
            os.close(ours)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Until it has ended: Python does not hear what comes in the moment before it begins to wait."""
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(3)
            return


def answer_one(listening: socket.socket, body: bytes) -> None:
    """Be the service for one request."""
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class TestColour:
    @pytest.mark.parametrize(
        ("words", "variables", "coloured"),
        [
            ([], {}, False),
            (["--color"], {}, True),
            ([], {"FORCE_COLOR": "1"}, True),
            ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
            (["--no-color"], {"FORCE_COLOR": "1"}, False),
        ],
    )
    def test_colour_is_as_asked_and_off_when_piped(
        self, words: list[str], variables: dict[str, str], coloured: bool, tmp_path: Path
    ) -> None:
        environ = {"PATH": os.environ["PATH"], "KONGFLOW_URL": "http://127.0.0.1:1", "KONGFLOW_KEY": "x", **variables}
        result = subprocess.run(
            [BIN / "kongflow-events", *words, "send", "a"], env=environ, capture_output=True, check=False
        )

        assert (b"\x1b[" in result.stderr) is coloured


def change(database: str, statement: str) -> None:
    db.connect(database, pool_size=2)
    with db.unit():
        db.run(statement)
    db.close()


class TestAdmin:
    @pytest.fixture(autouse=True)
    def _connected(self, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("DATABASE_URL", database)
        settings.current.cache_clear()
        yield
        settings.current.cache_clear()

    def test_an_environment_is_made_and_its_keys_shown_once(self, database: str) -> None:
        shown = run("env", "create", "--organization", "acme", "--project", "shop", "--type", "production")
        assert shown.exit_code == 0, shown.output
        key = next(line.split("=")[1] for line in shown.stdout.splitlines() if "KONGFLOW_KEY" in line)
        assert key.startswith("tr_prod_")

        again = run("env", "create", "--organization", "acme", "--project", "shop", "--type", "PRODUCTION")
        assert (again.exit_code, again.stderr) == (1, "error: acme/shop has a PRODUCTION environment already\n")
        assert key not in str(query(database, "SELECT to_jsonb(api_keys)::text FROM api_keys"))

    def test_keys_are_added_listed_and_revoked(self) -> None:
        assert set(from_json("env", "create", "--organization", "acme", "--project", "shop")) == {
            "environmentId",
            "key",
            "publicKey",
        }
        added = from_json("keys", "add", "acme/shop/dev", "--public")
        assert added["key"].startswith("pk_dev_")
        assert run("keys", "add", "acme/shop/dev").stdout.startswith("tr_dev_")
        assert len(from_json("keys", "list", "acme/shop/dev")) == 4
        assert run("keys", "revoke", "acme/shop/dev", added["id"]).stdout == "revoked\n"
        assert run("keys", "list", "acme/shop/dev").stdout.count("revoked") == 1
        assert run("keys", "revoke", "acme/shop/dev", "nope").exit_code == 3
        assert run("keys", "list", "acme/nope/dev").exit_code == 3

    def test_a_key_that_expires_is_live_until_it_does(self, database: str) -> None:
        run("env", "create", "--organization", "acme", "--project", "shop")
        key = from_json("keys", "add", "acme/shop/dev", "--expires-in", "90")
        days = query(database, f"SELECT expires_at - created_at FROM api_keys WHERE id = '{key['id']}'")
        assert [[one.days for one in row] for row in days] == [[90]]
        listed = from_json("keys", "list", "acme/shop/dev")
        assert [(one["state"], one["expires"] == "never") for one in listed] == [
            ("live", False), ("live", True), ("live", True),
        ]  # fmt: skip

        change(database, f"UPDATE api_keys SET expires_at = now() WHERE id = '{key['id']}'")
        assert [one["state"] for one in from_json("keys", "list", "acme/shop/dev")] == ["expired", "live", "live"]
        assert run("keys", "add", "acme/shop/dev", "--expires-in", "0").exit_code == 2

    def test_an_environment_without_keys_is_an_empty_list_also_as_json(self, database: str) -> None:
        run("env", "create", "--organization", "acme", "--project", "shop")
        change(database, "DELETE FROM api_keys")

        assert run("keys", "list", "acme/shop/dev").exit_code == 3
        document = run("keys", "list", "acme/shop/dev", "--json")
        assert (document.exit_code, document.stdout) == (3, "[]\n")

    def test_migrating_says_what_it_did(self, empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", empty_database)
        settings.current.cache_clear()

        assert run("migrate").stdout == "applied schema.sql\n"
        assert run("migrate").stdout == "nothing to do\n"

    @pytest.mark.parametrize("words", [["migrate"], ["keys", "list", "a/b/c"]])
    def test_a_database_that_is_away_is_unreachable(self, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        settings.current.cache_clear()
        result = run(*words)

        assert result.exit_code == 4
        assert result.stderr.startswith("error: the database is away")

    @pytest.mark.parametrize("words", [["migrate"], ["scheduler"]])
    def test_a_misspelt_variable_stops_the_start(self, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KONGFLOW_TIKC_MS", "10")
        settings.current.cache_clear()
        result = run(*words)

        assert (result.exit_code, result.stderr) == (2, "error: KONGFLOW_TIKC_MS: no such setting\n")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


# What runs until it is stopped, and what prints a text to be kept.
TEXTS = {("dev",), ("web",), ("scheduler",), ("run",), ("listen",), ("openapi",), ("completion",), ("export",)}


@pytest.mark.parametrize("path", [" ".join(path) for path, _ in commands(main)])
def test_every_command_explains_itself_with_an_example_and_speaks_json(path: str) -> None:
    words = tuple(path.split())
    command = dict(commands(main))[words]

    assert "Usage" in run(*words, "--help").stdout
    assert command.help
    assert ("Example: " in command.help) or not command.params or words in {("dev",), ("migrate",), ("keys",)}
    assert any("--json" in one.opts for one in command.params) or words in TEXTS or words[0] == "deploy"


def test_the_version_is_there() -> None:
    assert "kongflow-events" in run("--version").stdout


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_a_shell_is_told_how_to_complete(self, shell: str) -> None:
        assert "_KONGFLOW_EVENTS_COMPLETE" in run("completion", shell).stdout

    def test_bash_completes_commands_and_options(self) -> None:
        program = (
            f'source <({BIN}/kongflow-events completion bash); PATH={BIN}:$PATH; COMP_WORDS=(kongflow-events "$1");'
            "COMP_CWORD=1; _kongflow_events_completion kongflow-events; echo ${COMPREPLY[@]}"
        )
        said = subprocess.run(["bash", "-c", program, "-", "d"], capture_output=True, text=True, check=True).stdout

        assert said.split() == ["dead", "deploy", "dev", "dispatchers", "doctor"]
