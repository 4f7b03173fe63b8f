"""The whole path, with the processes that the Procfile names: events go in, the right runs come out, once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import urllib3
from standardwebhooks import Webhook

from faults.machines import members
from kongflow_events.services import environments, keys
from kongflow_events.store import db
from tests import receiver
from tests.processes import Http, procfile, query, running
from tests.receiver import Receiver
from tests.servers import RabbitMQ, RabbitMQNode, eventually, free_port

ORDER = {"name": "order.paid", "payload": {"amount": 42}}


class Service:
    """Procfile processes on a fresh database."""

    def __init__(self, database: str, broker: RabbitMQ, log: Path) -> None:
        self.database = database
        self.broker = broker
        port = free_port()
        self.environ = {
            "DATABASE_URL": database,
            "RABBITMQ_URL": broker.url,
            "PORT": str(port),
            "WEB_CONCURRENCY": "1",
            "KONGFLOW_STOP_GRACE": "0",
            "KONGFLOW_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        self.log = log
        db.connect(database, pool_size=2)
        with db.unit():
            environment = environments.create_environment("acme", "shop", "DEVELOPMENT")
            key = keys.create_key(environment).key
        db.close()
        self.http = Http(f"http://127.0.0.1:{port}", key)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def register(self, *slugs: str, event: str = "order.paid") -> None:
        """Jobs that start at a paid order of more than 10."""
        for slug in slugs:
            trigger = {"event": event, "filter": {"amount": [{"$gt": 10}]}}
            self.http("POST", "/api/v1/jobs", {"id": slug, "name": slug, "version": "1.0.0", "trigger": trigger})

    def trigger(self, slug: str) -> None:
        """A job that only a dynamic trigger starts, at a paid order."""
        self.register(slug, event="nobody.sends.it")
        made = self.http("PUT", f"/api/v1/dynamic-triggers/{slug}", {"jobs": [slug]})
        to = {"type": "DYNAMIC_TRIGGER", "id": made["triggerId"]}
        self.http("POST", "/api/v1/event-dispatchers", {"event": "order.paid", "dispatchable": to})

    def send(self, event_id: str) -> None:
        """One order, which has to be accepted."""
        self.http("POST", "/api/v1/events", {"event": {"id": event_id, **ORDER}})

    def count(self, statement: str = "SELECT count(*) FROM job_runs") -> int:
        """A number out of the database."""
        return int(query(self.database, statement)[0][0])

    def at_work(self) -> set[str]:
        """The types of processes that have said that they live."""
        return {kind for (kind,) in query(self.database, "SELECT DISTINCT kind FROM process_heartbeats")}


@pytest.fixture
def service(database: str, queues: RabbitMQ, tmp_path: Path) -> Service:
    return Service(database, queues, tmp_path / "processes.log")


@pytest.fixture
def started(service: Service) -> Iterator[Service]:
    """The Procfile's processes, with two workers and two schedulers."""
    commands = procfile()
    names = ["web", "worker", "worker", "poster", "scheduler", "scheduler"]
    with running([commands[name] for name in names], service.environ, service.log) as processes:
        service.processes = {
            f"{name}{number}": process for number, (name, process) in enumerate(zip(names, processes, strict=True))
        }
        service.http.wait()
        yield service


def test_a_thousand_events_with_two_matches_each_give_exactly_two_thousand_runs(started: Service) -> None:
    started.register("ship", "bill")
    with ThreadPoolExecutor(8) as senders:
        list(senders.map(started.send, map(str, range(1000))))

    eventually(lambda: started.count() >= 2000, 60, started.log.read_text()[-2000:])
    eventually(lambda: started.count("SELECT count(*) FROM outbox") == 0)
    assert started.count() == 2000
    assert started.count("SELECT count(DISTINCT (event_record_id, job_id)) FROM job_runs") == 2000
    assert started.count("SELECT count(*) FROM invocations WHERE status = 'SUCCEEDED'") == 2000
    assert started.count("SELECT count(*) FROM process_heartbeats WHERE kind = 'scheduler'") == 2
    eventually(lambda: started.at_work() == {"web", "worker", "poster", "scheduler"}, 15)


def test_messages_pass_through_each_queue_and_a_url_is_called(service: Service) -> None:
    commands = procfile()
    web_and_relay = [commands["web"], commands["scheduler"]]
    with Receiver() as target, running(web_and_relay, service.environ, service.log):
        service.http.wait()
        service.register("ship")
        rule = {"event": "order.paid", "dispatchable": {"type": "EPHEMERAL", "url": target.url}}
        service.http("POST", "/api/v1/event-dispatchers", rule)
        service.send("1")
        # Nobody works yet: hints wait in RabbitMQ, first for the delivery ...
        eventually(lambda: waiting(service, "deliver") > 0)
        with running([commands["worker"]], service.environ, service.log):
            # ... then, by the worker or by the relay, for the call that only a poster makes.
            eventually(lambda: waiting(service, "post") > 0)
            eventually(lambda: service.count() == 1)
        with running([commands["poster"]], service.environ, service.log):
            eventually(lambda: len(target.calls) == 1)
            eventually(lambda: service.count("SELECT count(*) FROM outbox") == 0)
    assert service.count("SELECT count(*) FROM event_dispatchers WHERE one_shot") == 0


def test_every_call_of_a_webhook_is_verified_while_its_secret_changes_and_after_posters_are_killed(
    service: Service,
) -> None:
    commands = procfile()
    others = [commands[name] for name in ("web", "worker", "scheduler")]
    # A call that was cut is repeated when its lease is over: ten seconds after the time-out.
    environ = {**service.environ, "KONGFLOW_POST_TIMEOUT": "1"}

    def slow(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.5)
        receiver.status(200)(handler)

    with Receiver(slow) as target, running(others, environ, service.log):
        service.http.wait()
        rule = {"event": "order.paid", "dispatchable": {"type": "WEBHOOK", "url": target.url}}
        made = service.http("POST", "/api/v1/event-dispatchers", rule)
        for number in range(200):
            service.send(str(number))
        with running([commands["poster"]], environ, service.log) as [poster]:
            eventually(lambda: len(target.calls) >= 4)
            os.killpg(poster.pid, signal.SIGKILL)
        rotate = f"/api/v1/event-dispatchers/{made['id']}/secret/rotate"
        secret = service.http("POST", rotate, {"overlapInSeconds": 3600})["secret"]
        with running([commands["poster"]], environ, service.log):
            eventually(lambda: service.count("SELECT count(*) FROM outbox") == 0, 60)

    bodies = {call.headers["webhook-id"]: call.body for call in target.calls}
    assert len(bodies) == 200
    assert len(target.calls) > 200
    assert all(bodies[call.headers["webhook-id"]] == call.body for call in target.calls)
    # Whoever has not heard of the new secret yet takes every call, whoever has it takes those that both have signed.
    since = [call for call in target.calls if " " in call.headers["webhook-signature"]]
    assert 0 < len(since) < len(target.calls)
    for known, calls in ((made["secret"], target.calls), (secret, since)):
        for call in calls:
            Webhook(known).verify(call.body, call.headers)


def test_invocations_are_hinted_through_their_queue(service: Service) -> None:
    commands = procfile()
    deliver_only = commands["worker"].replace("--queues deliver invoke", "--queues deliver")
    with running([commands["web"], commands["scheduler"], deliver_only], service.environ, service.log):
        service.http.wait()
        service.trigger("ship")
        service.send("1")
        eventually(lambda: waiting(service, "invoke") > 0)
        assert service.count() == 0
        with running([commands["worker"]], service.environ, service.log):
            eventually(lambda: service.count() == 1)


def test_a_delayed_event_is_delivered_at_its_time(started: Service) -> None:
    started.register("ship")
    body = {"event": {"id": "1", **ORDER}, "options": {"deliverAfter": 2}}
    started.http("POST", "/api/v1/events", body)

    eventually(lambda: started.count() == 1)
    [(late,)] = query(
        started.database,
        "SELECT extract(epoch FROM r.created_at - deliver_at) FROM job_runs r JOIN event_records e ON e.id = event_record_id",
    )
    assert 0 <= late < 5


def test_sends_go_on_without_rabbitmq_and_their_runs_appear_at_its_return(
    database: str, tmp_path: Path, rabbitmq: RabbitMQ
) -> None:
    node = RabbitMQNode()
    node.start()
    node.wait()
    service = Service(database, node, tmp_path / "processes.log")
    commands = procfile()
    try:
        with running([commands[name] for name in ("web", "worker", "scheduler")], service.environ, service.log):
            service.http.wait()
            service.register("ship")
            service.send("before")
            eventually(lambda: service.count() == 1)
            node.kill()

            for number in range(50):
                service.send(f"without-{number}")
            assert service.count() == 1

            node.start()
            node.wait()
            eventually(lambda: service.count() == 51, 15, service.log.read_text()[-3000:])
    finally:
        node.stop()


def test_killed_workers_and_schedulers_lose_nothing(started: Service) -> None:
    started.register("ship", "bill")
    commands = procfile()
    killed = [process for name, process in started.processes.items() if name.startswith(("worker", "scheduler"))]
    with ThreadPoolExecutor(4) as senders:
        sending = senders.map(started.send, map(str, range(300)))
        for process in killed:
            eventually(lambda: started.count() > 0)
            os.killpg(process.pid, signal.SIGKILL)
        list(sending)
    with running([commands["worker"], commands["scheduler"]], started.environ, started.log):
        eventually(lambda: started.count("SELECT count(*) FROM outbox") == 0, 60, started.log.read_text()[-2000:])

    assert started.count() == 600
    assert started.count("SELECT count(DISTINCT (event_record_id, job_id)) FROM job_runs") == 600


def test_a_worker_whose_master_is_killed_at_its_birth_ends_too(service: Service) -> None:
    with running([procfile()["worker"]], service.environ, service.log) as [master]:
        eventually(lambda: len(members(master.pid)) > 1)
        master.kill()

        # It is still loading, and must not begin to consume.
        eventually(lambda: members(master.pid) == [])


def test_a_worker_that_is_killed_at_its_birth_takes_its_master_along_to_be_started_again(service: Service) -> None:
    with running([procfile()["worker"]], service.environ, service.log) as [master]:
        eventually(lambda: len(members(master.pid)) > 1)
        child = next(pid for pid in members(master.pid) if pid != master.pid)
        os.kill(child, signal.SIGKILL)

        # Dramatiq's own patience with a child that never says that it is ready is half a minute.
        eventually(lambda: master.poll() is not None, 15)
        assert members(master.pid) == []


def test_what_serves_the_api_ends_with_its_master(service: Service) -> None:
    with running([procfile()["web"]], service.environ, service.log) as [master]:
        eventually(lambda: service.http.answers("/healthz"))
        master.kill()

        eventually(lambda: members(master.pid) == [])


def test_what_serves_the_api_says_that_it_stops_and_serves_on_for_its_grace(service: Service) -> None:
    environ = {**service.environ, "KONGFLOW_STOP_GRACE": "5"}
    with running([procfile()["web"]], environ, service.log) as [web], urllib3.PoolManager(retries=False) as client:
        eventually(lambda: service.http.answers("/healthz"))
        assert "Connection" not in client.request("GET", f"{service.http.url}/healthz").headers
        web.terminate()

        ready = f"{service.http.url}/readyz"
        eventually(lambda: client.request("GET", ready).json()["checks"].get("process") == "stopping")
        assert client.request("GET", ready).status == 503
        service.send("1")
        assert client.request("GET", f"{service.http.url}/healthz").headers["Connection"] == "close"
        assert web.wait(25) in (0, -signal.SIGTERM)
        assert members(web.pid) == []
    assert service.count("SELECT count(*) FROM event_records") == 1


def test_every_process_stops_when_it_is_asked_to(started: Service) -> None:
    for process in started.processes.values():
        process.terminate()
    for name, process in started.processes.items():
        assert process.wait(25) in (0, -signal.SIGTERM), name


def test_a_web_process_that_is_asked_to_stop_while_its_worker_is_starting_does(service: Service) -> None:
    with running([procfile()["web"]], service.environ, service.log) as [web]:
        eventually(lambda: len(members(web.pid)) > 1)
        web.terminate()
        began = time.monotonic()

        assert web.wait(20) in (0, -signal.SIGTERM)
    # Not when it had been killed for serving on.
    assert time.monotonic() - began < 10, service.log.read_text()


def test_a_key_is_asked_for_before_a_stalled_body_is_waited_for(started: Service) -> None:
    host, port = started.http.url.removeprefix("http://").split(":")
    head = b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nope\r\nContent-Length: 100\r\n\r\n"
    stalled = [socket.create_connection((host, int(port)), 5) for _ in range(200)]
    try:
        for connection in stalled:
            connection.sendall(head)
        for connection in stalled:
            assert b" 401 " in connection.recv(1000)
    finally:
        for connection in stalled:
            connection.close()


def test_hundreds_of_stalled_bodies_hold_up_nobody_else(started: Service) -> None:
    host, port = started.http.url.removeprefix("http://").split(":")
    key = started.http._headers["Authorization"].encode()
    head = b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: " + key + b"\r\nContent-Length: 100\r\n\r\n{"
    stalled = [socket.create_connection((host, int(port)), 5) for _ in range(200)]
    try:
        for connection in stalled:
            connection.sendall(head)
        began = time.monotonic()
        started.send("beside-stalled-bodies")
        assert started.http.answers("/readyz")
        assert time.monotonic() - began < 5
    finally:
        for connection in stalled:
            connection.close()


@pytest.mark.parametrize("length", [100, 20_000])
def test_a_body_that_is_cut_off_stores_nothing(started: Service, length: int) -> None:
    host, port = started.http.url.removeprefix("http://").split(":")
    key = started.http._headers["Authorization"].encode()
    head = (
        b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: "
        + key
        + b"\r\nce-specversion: 1.0\r\nce-id: cut-%d"
        b"\r\nce-source: s\r\nce-type: t\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(head % (length, length) + b"half of it")
        time.sleep(0.3)
    time.sleep(1)
    assert started.count(f"SELECT count(*) FROM event_records WHERE event_id = 'cut-{length}'") == 0


def test_a_header_with_an_underscore_does_not_pass_for_the_one_with_a_hyphen(started: Service) -> None:
    with urllib3.PoolManager(retries=False) as client:
        answer = client.request("GET", f"{started.http.url}/healthz", headers={"X_Request_Id": "mine"})
        named = client.request("GET", f"{started.http.url}/healthz", headers={"X-Request-Id": "mine"})
    assert answer.headers["X-Request-Id"] != "mine"
    assert named.headers["X-Request-Id"] == "mine"


def test_a_chunked_body_is_read_and_an_oversized_one_refused(started: Service) -> None:
    host, port = started.http.url.removeprefix("http://").split(":")
    key = started.http._headers["Authorization"].encode()
    head = (
        b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: " + key + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    )

    def answer(body: bytes) -> bytes:
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
            return connection.recv(4000)

    assert b" 200 " in answer(b'{"event":{"name":"a"}}').split(b"\r\n")[0]
    assert b" 413 " in answer(b'{"event":{"name":"' + b"a" * 1_100_000 + b'"}}').split(b"\r\n")[0]


def waiting(service: Service, queue: str) -> int:
    """Messages that wait in a queue; none while nobody has declared it."""
    connection = service.broker.connect()
    try:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
    except Exception:  # noqa: BLE001 - a missing queue closes the channel
        return 0
    finally:
        connection.close()
