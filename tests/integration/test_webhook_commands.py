"""The commands for webhooks, against a running service with a poster."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import urllib3
from standardwebhooks import Webhook

from kongflow_events import models
from kongflow_events.services import deliver, post
from kongflow_events.store import db
from tests import factory, receiver
from tests.integration.test_cli import from_json, run, service
from tests.processes import BIN, end
from tests.receiver import Receiver
from tests.servers import eventually

TRY_NOW = "to try now: kongflow-events dispatchers enable {}\n"

__all__ = ["service"]

pytestmark = pytest.mark.usefixtures("service")


def owed(kind: str) -> list[Any]:
    with db.unit():
        return [row.subject_id for row in models.Outbox.select().where(models.Outbox.kind == kind)]


@pytest.fixture
def workers(service: None) -> Iterator[None]:
    """What is owed is done, as it comes."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.wait(0.05):
            deliver.deliver(owed("deliver"))
            post.post(owed("post"))

    working = threading.Thread(target=work)
    working.start()
    yield
    stopping.set()
    working.join()


def create(url: str, *words: str) -> Any:
    return from_json("webhooks", "create", url, "--event", factory.JOB_EVENT, *words)


class TestWebhooks:
    def test_one_is_created_listed_rotated_and_deleted(self) -> None:
        words = ["--event", "order.*", "--header", "X-Shop: eu", "--rate-limit", "5", "--format", "cloudevent"]
        made = run("webhooks", "create", "http://127.0.0.1:9/", *words)
        secret = made.stdout.split()[-1]
        assert (made.exit_code, secret.startswith("whsec_")) == (0, True), made.output

        [listed] = from_json("webhooks", "list")
        assert listed["dispatchable"] == {
            "type": "WEBHOOK",
            "url": "http://127.0.0.1:9/",
            "format": "cloudevent",
            "headers": {"X-Shop": "***"},
            "rateLimit": 5,
        }
        assert run("webhooks", "list").stdout.splitlines()[1].split() == [
            listed["id"],
            "order.*",
            "http://127.0.0.1:9/",
            "hmac",
            "enabled",
        ]
        rotated = run("webhooks", "secret", "rotate", listed["id"], "--overlap", "0")
        assert rotated.exit_code == 0
        assert "others until  now" in rotated.stdout
        assert secret not in rotated.stdout
        assert run("webhooks", "delete", listed["id"]).stdout == f"{listed['id']}  deleted\n"
        assert (run("webhooks", "list").exit_code, run("webhooks", "test", listed["id"]).exit_code) == (3, 3)

    def test_what_it_calls_and_how_is_changed_and_the_rest_stays(self) -> None:
        made = create("http://127.0.0.1:9/", "--header", "X-Shop: eu", "--header", "X-Old: 1", "--timeout", "5")
        words = ["--header", "x-shop: us", "--without-header", "X-Old", "--unset", "timeout", "--rate-limit", "2"]
        told = run("webhooks", "update", made["id"], "--url", "http://127.0.0.1:9/new", *words)

        assert told.stdout.split() == ["id", made["id"], "calls", "http://127.0.0.1:9/new"], told.output
        [listed] = from_json("webhooks", "list")
        assert listed["dispatchable"] == {
            "type": "WEBHOOK",
            "url": "http://127.0.0.1:9/new",
            "format": "event",
            "headers": {"x-shop": "***"},
            "rateLimit": 2,
        }
        assert from_json("webhooks", "update", made["id"], "--format", "cloudevent")["signing"] == made["signing"]

    def test_an_update_of_nothing_is_a_usage_error(self) -> None:
        made = create("http://127.0.0.1:9/")

        assert run("webhooks", "update", made["id"]).exit_code == 2

    def test_a_public_key_is_shown_where_there_is_one(self) -> None:
        made = run("webhooks", "create", "http://127.0.0.1:9/", "--event", "a", "--signing", "ed25519")

        assert "public key  whpk_" in made.stdout

    def test_a_header_without_its_colon_is_a_usage_error(self) -> None:
        result = run("webhooks", "create", "http://127.0.0.1:9/", "--event", "a", "--header", "X-Shop eu")

        assert (result.exit_code, "write 'Name: value'" in result.stderr) == (2, True)

    @pytest.mark.usefixtures("workers")
    def test_a_test_shows_what_was_sent_and_what_was_answered(self) -> None:
        with Receiver() as target:
            made = create(target.url)
            told = run("webhooks", "test", made["id"])

        [call] = target.calls
        assert told.exit_code == 0, told.output
        assert Webhook(made["secret"]).verify(call.body, call.headers)["name"] == "kongflow.webhook.test"
        assert told.stdout.splitlines()[0].split() == ["answer", "200"]
        assert "> webhook-signature: ***" in told.stdout
        assert told.stdout.splitlines()[-1] == "ok"
        # It started nothing else, although a job listens to events too.
        assert from_json("webhooks", "test", made["id"])["status"] == "SUCCEEDED"
        with db.unit():
            assert models.JobRun.select().count() == 0

    @pytest.mark.usefixtures("workers")
    def test_a_test_that_fails_is_not_tried_again(self) -> None:
        with Receiver(receiver.status(500)) as target:
            made = create(target.url)
            told = run("webhooks", "test", made["id"])

        assert (told.exit_code, told.stdout.splitlines()[0].split()) == (1, ["answer", "500"])
        with db.unit():
            [invocation] = models.Invocation.select()
        assert (invocation.status, owed("post")) == ("CANCELED", [])

    def test_without_a_poster_a_test_says_so(self) -> None:
        made = create("http://127.0.0.1:9/")
        told = run("webhooks", "test", made["id"], "--wait", "0")

        assert (told.exit_code, told.stdout) == (1, "not called in time: is a poster running?\n")
        assert owed("post") == []

    @pytest.mark.usefixtures("workers")
    def test_of_a_target_that_rests_a_test_says_until_when_and_what_to_do(self) -> None:
        with Receiver(receiver.status(429, Retry_After="600")) as target:
            made = create(target.url)
            run("webhooks", "test", made["id"])
            told = run("webhooks", "test", made["id"])

        [listed] = from_json("webhooks", "list")
        resting = f"error: not called: the target rests until {listed['target']['resumesAt']}; "
        assert (told.exit_code, told.stderr) == (1, resting + TRY_NOW.format(made["id"]))
        assert len(target.calls) == 1
        # Nobody waits for what would not be called, and no event is left of it.
        assert len(from_json("events", "list")["data"]) == 1

    def test_of_a_paused_one_a_test_says_since_when_and_what_to_do(self) -> None:
        made = create("http://127.0.0.1:9/")
        assert run("webhooks", "pause", made["id"]).stdout == f"{made['id']}  paused\n"
        told = run("webhooks", "test", made["id"])

        [listed] = from_json("webhooks", "list")
        since = f"error: not called: it is paused since {listed['target']['pausedAt']}; "
        assert (told.exit_code, told.stderr) == (1, since + f"to go on: kongflow-events webhooks resume {made['id']}\n")

    @pytest.mark.usefixtures("workers")
    def test_one_that_is_resumed_is_called_again_unless_its_target_rests(self) -> None:
        with Receiver(receiver.status(429, Retry_After="600")) as target:
            made = create(target.url)
            run("webhooks", "pause", made["id"])
            assert "enabled, paused" in run("webhooks", "list").stdout
            assert "enabled, paused" in run("dispatchers", "show", made["id"]).stdout
            assert run("webhooks", "resume", made["id"]).stdout == f"{made['id']}  resumed\n"
            run("webhooks", "test", made["id"])

        [listed] = from_json("webhooks", "list")
        assert len(target.calls) == 1
        assert listed["target"]["pausedAt"] is None
        resting = f"its target rests until {listed['target']['resumesAt']}: "
        assert run("webhooks", "resume", made["id"]).stdout.endswith(resting + TRY_NOW.format(made["id"]))

    def test_one_that_is_not_there_cannot_be_paused(self) -> None:
        made = create("http://127.0.0.1:9/")
        told = run("webhooks", "pause", made["id"][:-1] + ("0" if made["id"][-1] != "0" else "1"))

        assert told.exit_code != 0
        assert "not found" in told.stderr


class Listening:
    """A running `listen`: what it said by now, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.secret = process.stderr.readline().split()[-1] if process.stderr else ""
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def line(self) -> str:
        """The next line, without its time."""
        eventually(lambda: self.lines)
        return self.lines.pop(0).split("  ", 1)[1].strip()


@contextmanager
def listening(*words: str) -> Iterator[Listening]:
    """`listen`, ended as by Ctrl-C."""
    process: Any = subprocess.Popen(
        [BIN / "kongflow-events", "listen", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        assert "listening to" in process.stderr.readline()
        yield Listening(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.stderr.close()
        end(process)
        process.stdout.close()


@pytest.mark.usefixtures("workers")
class TestListen:
    def test_each_event_has_its_line_and_nothing_is_left_at_the_end(self) -> None:
        with listening("--events", "order.*, other") as told:
            run("send", "order.paid", "--id", "1")
            run("send", "unheard", "--id", "2")
            run("send", "other", "--id", "3")
            assert [told.line().rsplit("  ", 1)[0] for _ in "13"] == ["order.paid  1  200", "other  3  200"]

        assert run("webhooks", "list").exit_code == 3
        with db.unit():
            assert models.WebhookSecret.select().count() == 0

    def test_events_are_sent_on_as_they_are_and_answered_as_there(self) -> None:
        target = Receiver(receiver.status(200), receiver.status(422))
        with target, listening("--events", "order.paid", "--forward-to", target.url) as told:
            run("send", "order.paid", "--id", "1", "--payload", '{"b": 1}')
            assert told.line().startswith("order.paid  1  200  ")
            run("send", "order.paid", "--id", "2")
            assert told.line().startswith("order.paid  2  422  ")

        first, _ = target.calls
        assert b'"payload":{"b": 1}' in first.body
        assert first.headers["content-type"] == "application/json; charset=utf-8"
        assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= set(first.headers)
        eventually(
            lambda: {(one.status_code, one.outcome) for one in attempts()} == {(200, "succeeded"), (422, "refused")}
        )

    def test_an_app_behind_it_verifies_what_it_gets_with_the_secret_that_is_shown(self) -> None:
        with Receiver() as target, listening("--events", "order.paid", "--forward-to", target.url) as told:
            run("send", "order.paid", "--id", "1")
            told.line()

        [call] = target.calls
        assert Webhook(told.secret).verify(call.body, call.headers)["id"] == "1"

    def test_an_app_behind_it_verifies_what_it_gets_with_the_secret_that_it_knows(self) -> None:
        secret = "whsec_" + "a" * 32
        words = ["--events", "order.paid", "--secret", secret]
        with Receiver() as target, listening(*words, "--forward-to", target.url) as told:
            run("send", "order.paid", "--id", "1")
            told.line()

        [call] = target.calls
        assert Webhook(secret).verify(call.body, call.headers)["id"] == "1"

    def test_the_pause_that_an_app_behind_it_asks_for_is_kept(self) -> None:
        target = Receiver(receiver.status(503, Retry_After="600"))
        with target, listening("--events", "order.paid", "--forward-to", target.url) as told:
            run("send", "order.paid", "--id", "1")
            assert told.line().startswith("order.paid  1  503  ")
            eventually(lambda: [one for one in from_json("webhooks", "list") if one["target"]["resumesAt"]])

    def test_somewhere_that_is_not_there_is_said_so(self) -> None:
        with listening("--events", "order.paid", "--forward-to", "http://127.0.0.1:1/") as told:
            run("send", "order.paid", "--id", "1")
            assert told.line().startswith("order.paid  1  502  ")

    def test_a_call_that_is_not_the_services_is_refused(self) -> None:
        with listening("--events", "order.paid") as told:
            [webhook] = from_json("webhooks", "list")
            body = json.dumps({"name": "a", "id": "b"}).encode()
            forged = urllib3.request("POST", webhook["dispatchable"]["url"], body=body, retries=False)
            assert told.line().startswith("a  b  401  ")

        assert forged.status == 401


def attempts() -> list[models.InvocationAttempt]:
    with db.unit():
        return list(models.InvocationAttempt.select())
