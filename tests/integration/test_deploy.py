"""What `deploy` prints: read by systemd, nginx and compose themselves, and run where that can be done."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from kongflow_events.processes import die_with_parent
from kongflow_events.services import environments, keys, operators
from kongflow_events.store import db
from tests.browser import PASSWORD
from tests.integration.test_cli import run
from tests.processes import Http, end, procfile, query, running
from tests.servers import RabbitMQ, eventually, free_port

PREFIX = Path(sys.prefix)
NGINX = "/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else shutil.which("nginx") or "nginx"
# Sites that come with nginx: Debian's, and the one of nginx.org's packages, which is read first.
STOCK = ("listen {} default_server; server_name _;", "listen {}; server_name localhost;")
# What a machine chooses: the Procfile's platform sets a port and a number of workers, a template has its own.
CHOSEN = {
    "0.0.0.0 --port ${PORT:-8030}": "ADDRESS",
    "127.0.0.1 --port %i": "ADDRESS",
    "0.0.0.0 --port 8030": "ADDRESS",
    "${WEB_CONCURRENCY:-1}": "1",
    f"{PREFIX}/bin/": "",
}


def deployed(tmp_path: Path, *words: str) -> list[Path]:
    result = run("deploy", *words, "--to", str(tmp_path))
    assert result.exit_code == 0, result.output
    return [Path(line) for line in result.stdout.splitlines()]


def general(command: str) -> str:
    for said, meant in CHOSEN.items():
        command = command.replace(said, meant)
    return command


def units(tmp_path: Path) -> dict[str, str]:
    """The command of each unit, by its name."""
    files = deployed(tmp_path, "systemd", "--prefix", str(PREFIX))
    texts = {file.name: file.read_text() for file in files}
    return {
        name: found[1] for name, text in texts.items() if (found := re.search("^ExecStart=(.*)$", text, re.MULTILINE))
    }


def test_units_and_containers_run_what_the_procfile_runs(tmp_path: Path) -> None:
    wanted = {name: general(command) for name, command in procfile().items()}
    wanted["migrate"] = wanted.pop("release")

    commands = {re.split("[-@.]", name)[1]: general(command) for name, command in units(tmp_path).items()}
    assert commands == wanted
    [file] = deployed(tmp_path, "compose")
    contained = re.findall(r"^  (\w+):\n(?:    .*\n|\n)*?    command: (.*)$", file.read_text(), re.MULTILINE)
    assert {name: general(command) for name, command in contained} == wanted


def test_a_migration_stops_no_process_and_its_failure_keeps_none_from_starting(tmp_path: Path) -> None:
    files = [file for file in deployed(tmp_path, "systemd") if "migrate" not in file.name and file.suffix == ".service"]

    # systemd.unit(5): what requires a unit is restarted with it, and not started when that fails.
    for file in files:
        said = dict(
            re.findall(r"^(After|Wants|Requires|Requisite|BindsTo|PartOf)=(.*)$", file.read_text(), re.MULTILINE)
        )
        hard = " ".join(said.get(name, "") for name in ("Requires", "Requisite", "BindsTo", "PartOf"))
        wanted = ["kongflow-migrate.service" in one for one in (said["After"], said["Wants"], hard)]
        assert wanted == [True, True, False], file.name
    assert len(files) == 4


def test_what_is_printed_is_what_is_written(tmp_path: Path) -> None:
    [file] = deployed(tmp_path, "nginx", "--listen", "8080", "--web", "10.0.0.1:9000")

    assert run("deploy", "nginx", "--listen", "8080", "--web", "10.0.0.1:9000").stdout == file.read_text()
    assert "server 10.0.0.1:9000 " in file.read_text()
    assert "FROM python" in run("deploy", "docker").stdout
    assert run("deploy", "systemd").stdout.count("\n[Unit]\n") == 6


@pytest.mark.parametrize(
    ("said", "host"), [("10.0.0.5", "10.0.0.5"), ("[fd00::5]", "fd00::5"), ("web.internal", "web.internal")]
)
def test_web_units_listen_where_they_are_told_to(said: str, host: str, tmp_path: Path) -> None:
    addresses = ["--web", f"{said}:9001", "--web", f"{said}:9002"]
    deployed(tmp_path, "systemd", *addresses)

    assert f" --host {host} --port %i " in (tmp_path / "kongflow-web@.service").read_text()
    assert "Wants=kongflow-web@9001.service kongflow-web@9002.service " in (tmp_path / "kongflow.target").read_text()


@pytest.mark.parametrize(
    ("addresses", "why"),
    [
        (["10.0.0.5:9001", "10.0.0.6:9001"], "one host for all"),
        (["9001"], "give HOST:PORT"),
        (["10.0.0.5:http"], "give HOST:PORT"),
        (["10.0.0.5 --workers 9:9001"], "give HOST:PORT"),
    ],
)
def test_units_are_refused_where_one_cannot_listen(addresses: list[str], why: str) -> None:
    result = run("deploy", "systemd", *(word for one in addresses for word in ("--web", one)))

    assert (result.exit_code, result.stdout, why in result.stderr) == (2, "", True), result.stderr


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--console-from", "10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        ("--console-from", "10.0.0.0/33", "does not appear to be an IPv4 or IPv6 network"),
        ("--console-from", "all", "does not appear to be an IPv4 or IPv6 network"),
        ("--console-from", "fe80::%a;}", "nginx knows no zones"),
        ("--server-name", "", "give a name"),
        ("--server-name", "events.example.com:80", "give a name"),
        ("--server-name", "a; }", "give a name"),
        ("--server-name", "*", "give a name"),
    ],
)
def test_nginx_is_told_no_name_and_no_network_that_it_would_not_take(option: str, value: str, why: str) -> None:
    result = run("deploy", "nginx", option, value)

    said = " ".join(result.stderr.split())
    assert (result.exit_code, result.stdout, option in said, why in said) == (2, "", True, True), said


def test_the_networks_of_operators_are_written_as_networks(tmp_path: Path) -> None:
    named = ("10.20.0.0/16", "192.0.2.7", "2001:db8::/32", "10.0.0.0/255.0.0.0")
    [file] = deployed(tmp_path, "nginx", *(word for one in named for word in ("--console-from", one)))

    assert re.findall("allow (.*);", file.read_text()) == [
        "127.0.0.1",
        "10.20.0.0/16",
        "192.0.2.7/32",
        "2001:db8::/32",
        "10.0.0.0/8",
    ]


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("deploy", "docker", "--to", str(tmp_path / "file" / "inside"))

    assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)


@pytest.mark.slow
class TestSystemd:
    def verify(self, folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", "verify", "--man=no", *(str(folder / name) for name in names)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def instances(self, folder: Path) -> list[str]:
        """The units with a name for each template, as the target wants them."""
        names = re.findall(r"[\w@-]+\.service", (folder / "kongflow.target").read_text())
        for name in names:
            template = re.sub("@.*", "@.service", name)
            if template != name:
                shutil.copy(folder / template, folder / name)
        return [*names, "kongflow-migrate.service"]

    def test_units_are_verified(self, tmp_path: Path) -> None:
        units(tmp_path)
        names = self.instances(tmp_path)
        assert len(names) == 6
        said = self.verify(tmp_path, "kongflow.target", *names)

        assert (said.returncode, said.stderr) == (0, "")

    def test_a_unit_whose_program_is_missing_is_found(self, tmp_path: Path) -> None:
        deployed(tmp_path, "systemd", "--prefix", "/nowhere")

        assert "/nowhere/bin/kongflow-events" in self.verify(tmp_path, "kongflow-scheduler.service").stderr

    def test_units_are_little_exposed(self, tmp_path: Path) -> None:
        units(tmp_path)
        for name in self.instances(tmp_path)[:-1]:
            command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
            said = subprocess.run([*command, tmp_path / name], capture_output=True, text=True, check=False)
            assert said.returncode == 0, said.stdout


@pytest.mark.slow
def test_compose_reads_its_file(tmp_path: Path) -> None:
    deployed(tmp_path, "compose")
    deployed(tmp_path, "docker")
    secrets = {"POSTGRES_PASSWORD": "a", "RABBITMQ_PASSWORD": "b", "KONGFLOW_SECRET_KEY": "c="}
    command = ["docker-compose", "--file", "compose.yaml", "config"]
    read = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **secrets}, capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr

    for name in ("postgres", "rabbitmq", "migrate", "web", "worker", "poster", "scheduler"):
        assert f"\n  {name}:\n" in read.stdout
    assert read.stdout.count("healthcheck:") == 3
    assert read.stdout.count("condition: service_completed_successfully") == 4
    without = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (without.returncode, "POSTGRES_PASSWORD" in without.stderr) == (1, True)


class Front:
    """nginx with the configuration from the package, and two web processes behind it."""

    def __init__(self, folder: Path, database: str, broker: str) -> None:
        self.folder = folder
        self.port, self.web = free_port(), [free_port(), free_port()]
        self.main = folder / "nginx.main"
        self.deploy()
        self.environ = {"DATABASE_URL": database, "RABBITMQ_URL": broker, "KONGFLOW_STOP_GRACE": "1"}
        # Two threads in each web process.
        self.environ["KONGFLOW_POOL_SIZE"] = "6"
        self.database = database
        db.connect(database, pool_size=2)
        with db.unit():
            self.environment = environments.create_environment("acme", "shop", "DEVELOPMENT")
            self.key = keys.create_key(self.environment).key
            operators.add_operator("olga", "operator", PASSWORD)
        db.close()
        self.http = Http(f"http://127.0.0.1:{self.port}", self.key)

    def deploy(self, *options: str, stock: str = "") -> None:
        """Print the configuration once more, with these options, and put it behind a site that comes with nginx."""
        listen, at = f"127.0.0.1:{self.port}", self.folder
        addresses = [word for port in self.web for word in ("--web", f"127.0.0.1:{port}")]
        [site] = deployed(at, "nginx", "--listen", listen, *addresses, *options)
        beside = f"server {{ {stock.format(listen)} location / {{ return 200 stock; }} }}" if stock else ""
        self.main.write_text(
            f"daemon off; pid {at}/pid; error_log {at}/error.log; events {{}}\n"
            f"http {{ access_log off; {beside} include {site};\n"
            + "".join(f"{name}_temp_path {at}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + "}\n"
        )

    @contextmanager
    def started(self) -> Iterator[list[subprocess.Popen[bytes]]]:
        command = procfile()["web"]
        web = [f"env PORT={port} {command.replace('${PORT:-8030}', str(port))}" for port in self.web]
        scheduler = procfile()["scheduler"]
        with running([*web, scheduler], self.environ, self.folder / "web.log") as processes, self.nginx():
            for port in self.web:
                Http(f"http://127.0.0.1:{port}", self.key).wait()
            self.http.wait()
            yield processes

    @contextmanager
    def nginx(self) -> Iterator[None]:
        """nginx alone."""
        process = subprocess.Popen(
            [NGINX, "-p", self.folder, "-c", self.main],
            process_group=0,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        try:
            eventually(self._listens)
            yield
        finally:
            process.terminate()
            end(process)

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def keys(self) -> int:
        """How many keys there are."""
        return int(query(self.database, "SELECT count(*) FROM api_keys")[0][0])

    def stored(self) -> int:
        """How many events there are."""
        return int(query(self.database, "SELECT count(*) FROM event_records")[0][0])


class Visitor:
    """A browser at the console behind nginx, on a machine with this address, asking for the service by this name."""

    def __init__(self, front: Front, address: str = "127.0.0.1", host: str | None = None) -> None:
        self._pool = urllib3.PoolManager(retries=False, timeout=10, source_address=(address, 0))
        self._url, self.host = front.http.url, host or f"127.0.0.1:{front.port}"
        self._cookie = self._form_token = ""

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        """Load a page, whose form's token is kept."""
        answer = self._ask("GET", path)
        found = re.search(rb'name="form_token" value="([0-9a-f]+)"', answer.data)
        self._form_token = found[1].decode() if found else self._form_token
        return answer

    def post(self, path: str, origin: str | None = None, **form: str) -> urllib3.BaseHTTPResponse:
        """Send a form of the page that was loaded before, or of a page of another origin."""
        body = urlencode({"form_token": self._form_token, **form})
        headers = {"Origin": origin or f"http://{self.host}", "Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, headers, body)

    def _ask(self, method: str, path: str, headers: Any = None, body: str = "") -> urllib3.BaseHTTPResponse:
        sent = {"Host": self.host, "Cookie": self._cookie, **(headers or {})}
        answer = self._pool.request(method, self._url + path, headers=sent, body=body or None, redirect=False)
        cookie = re.search("kongflow_session=[^;]+", answer.headers.get("Set-Cookie", ""))
        self._cookie = cookie[0] if cookie else self._cookie
        return answer


@pytest.fixture
def front(database: str, rabbitmq: RabbitMQ, tmp_path: Path) -> Front:
    # Its workers run as another user.
    tmp_path.chmod(0o755)
    return Front(tmp_path, database, rabbitmq.url)


@pytest.mark.slow
class TestNginx:
    @pytest.mark.parametrize(
        "options", [(), ("--server-name", "*.example.com", "--console-from", "2001:db8::/32", "--console-from", "::1")]
    )
    def test_nginx_takes_the_configuration(self, options: tuple[str, ...], front: Front) -> None:
        front.deploy(*options)
        said = subprocess.run(
            [NGINX, "-t", "-p", front.folder, "-c", front.main], capture_output=True, text=True, check=False
        )

        assert (said.returncode, "[warn]" in said.stderr) == (0, False), said.stderr

    @pytest.mark.parametrize("stock", STOCK)
    def test_a_name_is_answered_for_beside_a_site_that_comes_with_nginx(self, stock: str, front: Front) -> None:
        named = Visitor(front, host="events.example.com")
        front.deploy(stock=stock)
        with front.nginx():
            assert named.get("/metrics").data == b"stock"

        front.deploy("--server-name", "events.example.com", stock=stock)
        with front.nginx():
            assert named.get("/metrics").status == 404
            assert Visitor(front).get("/metrics").data == b"stock"

    def test_operators_of_a_named_network_sign_in_and_change_things_from_pages_of_this_host_only(
        self, front: Front
    ) -> None:
        front.deploy("--server-name", "events.example.com", "--console-from", "127.1.0.0/16")
        olga, stranger = (Visitor(front, address, "events.example.com") for address in ("127.1.2.3", "127.2.2.3"))
        create = f"/console/env/{front.environment.id}/keys/create"
        with front.started():
            assert olga.get("/console/environments").headers["Location"].startswith("/console/sign-in?")
            assert olga.get("/console/sign-in").status == 200
            form = {"name": "olga", "password": PASSWORD}
            assert olga.post("/console/sign-in", "http://evil.example", **form).status == 403
            assert olga.get("/console/environments").status == 303
            assert olga.post("/console/sign-in", **form).status == 303
            assert olga.get("/console/environments").status == 200

            assert olga.post(create, "http://evil.example", kind="public").status == 403
            assert front.keys() == 1
            made = olga.post(create, kind="public")
            assert (made.status, front.keys()) == (200, 2)
            noted = query(
                front.database, "SELECT DISTINCT address, operator FROM audit_entries WHERE operator = 'olga'"
            )
            assert noted == [("127.1.2.3", "olga")]

            refused = stranger.get("/console/sign-in")
            assert (refused.status, b"nginx" in refused.data) == (403, True)
            assert stranger.get("/readyz").status == 200

    def test_events_go_in_also_while_stalled_bodies_wait_and_a_web_process_is_restarted(self, front: Front) -> None:
        with front.started() as processes:
            stalled = [self.stall(front) for _ in range(24)]
            self.send(front, range(50))
            assert front.stored() == 50

            with ThreadPoolExecutor(4) as senders:
                sent = [senders.submit(self.send, front, range(start, start + 100)) for start in range(100, 900, 100)]
                processes[0].terminate()
                for one in sent:
                    one.result()
            assert front.stored() == 850
            eventually(lambda: processes[0].poll() is not None)
            for one in stalled:
                one.close()

    def test_what_is_too_large_and_what_is_nobodys_business_is_stopped_at_the_door(self, front: Front) -> None:
        pool = urllib3.PoolManager(retries=False)
        headers = {"Authorization": f"Bearer {front.key}"}
        with front.started():
            url = front.http.url
            too_large = pool.request(
                "POST", f"{url}/api/v1/events/bulk", body=b" " * (8 * 1024 * 1024 + 1), headers=headers
            )
            assert (too_large.status, b"nginx" in too_large.data) == (413, True)
            assert pool.request("GET", f"{url}/metrics").status == 404
            console = [Visitor(front, address).get("/console/sign-in") for address in ("127.0.0.1", "127.0.0.2")]
            assert [one.status for one in console] == [200, 403]
            most = json.dumps({"events": [{"name": "a", "payload": "x" * 7_000}] * 1000}).encode()
            assert pool.request("POST", f"{url}/api/v1/events/bulk", body=most, headers=headers).status == 200

    def send(self, front: Front, numbers: Any) -> None:
        for number in numbers:
            front.http("POST", "/api/v1/events", {"event": {"id": str(number), "name": "a"}})

    def stall(self, front: Front) -> socket.socket:
        """A sender with a good key, half of whose body comes, and no more."""
        sender = socket.create_connection(("127.0.0.1", front.port))
        head = f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n"
        sender.sendall(head.encode() + b'Content-Length: 20000\r\n\r\n{"event": ')
        return sender
