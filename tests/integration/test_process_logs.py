"""What all processes say at their most talkative: lines of one form that name what they are about; no secret, no payload."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.integration.test_whole_path import Service
from tests.processes import procfile, query, running
from tests.receiver import Receiver
from tests.servers import RabbitMQ, eventually

CANARY = "c4n4ry"
SECRET_KEY = "Y2FuYXJ5IGtleSwgMzIgYnl0ZXMgZm9yIGFsbCAuLi4="
REQUEST = "the-request-of-this-test"
# The database refuses what is not of its making, and says what that was.
REFUSING = "ALTER TABLE event_records ADD CONSTRAINT refusing CHECK (name <> 'refused')"
RUNS_REFUSED = "ALTER TABLE job_runs ADD CONSTRAINT refusing CHECK (id IS NULL) NOT VALID"


def answer(handler: BaseHTTPRequestHandler) -> None:
    """A failure with an answer that nobody should repeat."""
    body = f"answer {CANARY}".encode()
    handler.send_response(500)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("X-Answer", CANARY)
    handler.end_headers()
    handler.wfile.write(body)


def execute(url: str, statement: str) -> None:
    query(url, f"{statement}; COMMIT; SELECT 1")


@pytest.fixture
def said(database: str, queues: RabbitMQ, tmp_path: Path) -> list[Any]:
    """The lines of all processes, through a life with everything that goes wrong in it."""
    service = Service(database, queues, tmp_path / "processes.log")
    secrets = {"KONGFLOW_SECRET_KEY": SECRET_KEY, "KONGFLOW_METRICS_TOKEN": f"token-{CANARY}"}
    environ = {**service.environ, **secrets, "KONGFLOW_LOG_LEVEL": "debug"}
    commands = [procfile()[name] for name in ("web", "worker", "poster", "scheduler")]
    pool = urllib3.PoolManager(retries=False, timeout=20)

    def send(name: str, body: bytes | None = None) -> int:
        event = {"id": f"id-of-{name}", "name": name, "payload": {"p": CANARY}, "context": {"c": CANARY}}
        headers = {"Authorization": f"Bearer {service.http.key}", "X-Request-Id": REQUEST}
        sent = body or json.dumps({"event": event}).encode()
        return int(pool.request("POST", service.http.url + "/api/v1/events", body=sent, headers=headers).status)

    with Receiver(answer) as target, running(commands, environ, service.log):
        service.http.wait()
        service.register("ship")
        webhook = {"type": "WEBHOOK", "url": f"{target.url}?token={CANARY}", "headers": {"X-Auth": CANARY}}
        service.http("POST", "/api/v1/event-dispatchers", {"event": "called", "dispatchable": webhook})
        execute(database, REFUSING)
        execute(database, RUNS_REFUSED)
        assert [send("called"), send("refused"), send("x", f'{{"event": {CANARY}'.encode())] == [200, 500, 400]
        service.http(
            "POST",
            "/api/v1/events",
            {"event": {"id": "job", "name": "order.paid", "payload": {"amount": 42, "p": CANARY}}},
        )
        eventually(lambda: service.count("SELECT count(*) FROM invocation_attempts") >= 2, 30)
    text = service.log.read_text()
    for secret in (CANARY, service.http.key, SECRET_KEY, "whsec_"):
        assert secret not in text
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_of_every_process_has_one_form_and_tells_no_secret_and_no_payload(said: list[Any]) -> None:
    assert all({"event", "level", "timestamp"} <= line.keys() for line in said)
    # The servers' own lines too, of masters and of workers.
    assert {"uvicorn.error", "dramatiq.MainProcess", "dramatiq.WorkerProcess(0)"} <= {
        line.get("logger") for line in said
    }

    of_request = [line for line in said if line.get("request_id") == REQUEST]
    assert {(line["event"], line["level"]) for line in of_request} >= {
        ("event stored", "debug"),
        ("unforeseen", "error"),
        ("request", "debug"),
        ("request", "info"),
        ("request", "warning"),
    }
    [stored] = [line for line in of_request if line["event"] == "event stored"]
    assert stored["event_id"] == "id-of-called"
    [unforeseen] = [line for line in of_request if line["event"] == "unforeseen"]
    assert 'violates check constraint "refusing"' in unforeseen["exception"]

    [failed, *_] = [line for line in said if line["event"] == "a call failed"]
    assert (failed["outcome"], failed["status"], failed["attempt"], failed["event_id"]) == (
        "refused",
        500,
        1,
        "id-of-called",
    )
    assert failed["event_record"] == stored["event_record"]
    assert {"invocation", "dispatcher", "environment", "ms", "reason"} <= failed.keys()

    [work, *_] = [line for line in said if line["event"] == "work failed"]
    assert (work["kind"], work["attempt"]) == ("invoke", 1)
    assert 'violates check constraint "refusing"' in work["exception"]
