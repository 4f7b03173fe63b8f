"""Webhooks: what receivers get and can trust, and what nobody gets to see."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook

from kongflow_events import crashes, models, retries, sealing, settings, signing
from kongflow_events.services import deliver, expire, post, replay
from kongflow_events.store import db
from tests import factory, node, receiver
from tests.integration.conftest import Api
from tests.processes import BIN
from tests.receiver import Call, Receiver

RULES = "/api/v1/event-dispatchers"
ANOTHER_KEY = base64.b64encode(bytes(32)).decode()
GIVEN = "whsec_" + base64.b64encode(b"known to both for years already").decode()


def hook(api: Api, url: str, *, name: str = factory.JOB_EVENT, **settings_: Any) -> Any:
    """A webhook, as the answer that creates it."""
    answer = api.post(RULES, {"event": name, "dispatchable": {"type": "WEBHOOK", "url": url, **settings_}})
    assert answer.status_code == 200, answer.text
    return answer.json


def rotate(api: Api, webhook: Any, **how: Any) -> Any:
    answer = api.post(f"{RULES}/{webhook['id']}/secret/rotate", how)
    assert answer.status_code == 200, answer.text
    return answer.json


def owed(kind: str) -> list[uuid.UUID]:
    with db.unit():
        return [row.subject_id for row in models.Outbox.select().where(models.Outbox.kind == kind)]


def work() -> None:
    """Deliver every event and make every call that is owed, due or not."""
    deliver.deliver(owed("deliver"))
    with db.unit():
        db.run("UPDATE outbox SET due_at = now(), lease_until = NULL")
    post.post(owed("post"))


@pytest.fixture(scope="module", autouse=True)
def receivers() -> Iterator[None]:
    """The receivers that are written in JavaScript."""
    _script.append(node.Script("verify.mjs"))
    yield
    _script.pop().close()


_script: list[node.Script] = []


def takes(secret: str, call: Call) -> bool:
    """Whether a receiver that has nothing but the secret and the published libraries takes the call."""
    try:
        Webhook(secret).verify(call.body, call.headers)
        here = True
    except Exception:  # noqa: BLE001 - whatever the library says, it is no
        here = False
    question = {"secret": secret, "headers": call.headers, "body": call.body.decode()}
    assert _script[0].ask(question) is here
    return here


def is_signed_for(public_key: str, call: Call) -> bool:
    """Whether a receiver that has nothing but the public key takes the call."""
    question = {"publicKey": public_key, "headers": call.headers, "body": call.body.decode()}
    return bool(_script[0].ask(question))


def attempts(api: Api) -> list[Any]:
    """The attempts of the environment's only invocation."""
    [found] = api.get("/api/v1/invocations").json["data"]
    listed: list[Any] = api.get(f"/api/v1/invocations/{found['id']}").json["attemptList"]
    return listed


class TestCalls:
    def test_every_event_is_sent_with_the_senders_own_payload_and_the_webhook_stays(self, alice: Api) -> None:
        with Receiver() as target:
            made = hook(alice, target.url)
            for number in "12":
                alice.post(
                    "/api/v1/events",
                    b'{"event": {"id": "%s", "name": "order.paid", "payload": {"b": 1.10, "a": 2}}}' % number.encode(),
                )
                work()

        assert [json.loads(call.body)["id"] for call in target.calls] == ["1", "2"]
        assert all(b'"payload":{"b": 1.10, "a": 2}' in call.body for call in target.calls)
        assert target.calls[0].headers["content-type"] == "application/json; charset=utf-8"
        assert list(json.loads(target.calls[0].body)) == ["id", "source", "name", "payload", "context", "timestamp"]
        assert all(takes(made["secret"], call) for call in target.calls)
        assert alice.get(f"{RULES}/{made['id']}").status_code == 200

    def test_a_repeat_has_the_same_id_and_bytes_and_is_signed_anew(self, alice: Api) -> None:
        with Receiver(receiver.status(500), receiver.status(200)) as target:
            made = hook(alice, target.url)
            alice.send(payload={"ä": "€"})
            work()
            work()

        first, second = target.calls
        assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
        assert takes(made["secret"], first)
        assert takes(made["secret"], second)

    def test_a_cloudevent_has_the_senders_own_data(self, alice: Api) -> None:
        options = {"accountId": "acme"}
        with Receiver() as target:
            made = hook(alice, target.url, format="cloudevent")
            alice.post(
                "/api/v1/events",
                b'{"event": {"id": "1", "name": "order.paid", "payload": {"b": 1.10}, "timestamp": "2020-01-01T00:00:00Z"},'
                b' "options": %s}' % json.dumps(options).encode(),
            )
            work()

        [call] = target.calls
        read = JSONFormat().read(CloudEvent, call.body)
        assert call.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
        assert b'"data":{"b": 1.10}' in call.body
        assert (read.get_id(), read.get_type(), read.get_source()) == ("1", "order.paid", "trigger.dev")
        assert (read.get_time().isoformat(), read.get_extension("accountid")) == ("2020-01-01T00:00:00+00:00", "acme")
        assert takes(made["secret"], call)

    def test_an_event_that_can_be_no_cloudevent_is_a_dead_letter_at_once(self, alice: Api) -> None:
        with Receiver() as target:
            hook(alice, target.url, name="a\x01", format="cloudevent")
            alice.send("a\x01")
            work()

        [dead] = alice.get("/api/v1/invocations").json["data"]
        assert (dead["status"], target.calls) == ("DEAD", [])
        assert "cannot be a CloudEvent" in dead["reason"]
        assert attempts(alice)[0]["requestHeaders"] is None

    def test_a_timeout_of_its_own_ends_a_call(self, alice: Api) -> None:
        def silent(handler: Any) -> None:
            handler.rfile.read(1)

        with Receiver(silent) as target:
            hook(alice, target.url, timeoutInSeconds=1)
            alice.send()
            work()

        assert attempts(alice)[0]["error"] == "no complete answer within 1 s"

    def test_it_is_signed_by_the_databases_clock_and_not_by_this_machines(
        self, alice: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.time
        with Receiver() as target, monkeypatch.context() as wrong:
            hook(alice, target.url)
            alice.send()
            wrong.setattr("time.time", lambda: now() + 3600)
            work()

        [call] = target.calls
        assert abs(int(call.headers["webhook-timestamp"]) - now()) < 60

    def test_its_headers_are_sent_but_their_secrets_are_shown_nowhere(self, alice: Api) -> None:
        given = {"Accept": "text/plain", "Authorization": "Bearer s3cr3t-of-mine", "X-Api": "short-pw1"}
        hidden = {"Accept": "text/plain", "Authorization": "***", "X-Api": "***"}
        with Receiver() as target:
            made = hook(alice, target.url, headers=given)
            alice.send()
            work()

        [call] = target.calls
        assert {name: call.headers[name.lower()] for name in given} == given
        assert made["dispatchable"]["headers"] == alice.get(f"{RULES}/{made['id']}").json["dispatchable"]["headers"]
        assert made["dispatchable"]["headers"] == hidden
        logged = attempts(alice)[0]["requestHeaders"]
        assert logged == {
            **hidden,
            "Content-Type": "application/json; charset=utf-8",
            "webhook-id": call.headers["webhook-id"],
            "webhook-timestamp": call.headers["webhook-timestamp"],
            "webhook-signature": "***",
        }
        with db.unit():
            assert db.rows("SELECT dispatchable ? 'headers' AS known FROM invocations") == [{"known": False}]

    @pytest.mark.parametrize("code", [200, 500])
    def test_a_receiver_that_sends_back_what_it_got_gives_no_secret_away(self, alice: Api, code: int) -> None:
        def echo(handler: Any) -> None:
            got = json.dumps({name.lower(): value for name, value in handler.headers.items()}).replace("/", "\\/")
            body = f"{got} no such token: s3cr3t/of-mine, {handler.headers['webhook-signature']}".encode()
            handler.send_response(code)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        given = {"Authorization": "Bearer s3cr3t/of-mine", "X-Api": 'short"pw1', "X-Request-Id": "request-1"}
        with Receiver(echo) as target:
            hook(alice, target.url, headers=given)
            alice.send()
            work()

        [attempt] = attempts(alice)
        told, _, rest = attempt["answer"].partition(" no such token: ")
        shown = json.loads(told)
        hidden = {name for name, value in shown.items() if value == "***"}
        assert hidden == {"authorization", "x-api", "webhook-signature"}
        assert (shown["x-request-id"], rest) == ("request-1", "***, ***")
        assert attempt["statusCode"] == code

    def test_the_beginning_of_a_secret_at_which_an_answer_is_cut_is_hidden_too(self, alice: Api) -> None:
        def echo(handler: Any) -> None:
            body = ("." * (8192 - 12) + handler.headers["Authorization"]).encode()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        with Receiver(echo) as target:
            hook(alice, target.url, headers={"Authorization": "Bearer s3cr3t-of-mine"})
            alice.send()
            work()

        [attempt] = attempts(alice)
        assert attempt["answer"] == "." * (8192 - 12) + "***"

    def test_a_call_that_a_killed_poster_made_is_repeated_and_both_are_verified(self, alice: Api, store: str) -> None:
        program = f"""
import sys, uuid
from kongflow_events.services import post
from kongflow_events.store import db
db.connect({store!r})
post.post([uuid.UUID(sys.argv[1])])
"""
        with Receiver() as target:
            made = hook(alice, target.url)
            alice.send()
            deliver.deliver(owed("deliver"))
            [call] = owed("post")
            killed = subprocess.run(
                [sys.executable, "-c", program, str(call)],
                env={**os.environ, "KONGFLOW_CRASH_AT": "post.after_call:1"},
                capture_output=True,
                check=False,
            )
            assert (killed.returncode, len(target.calls)) == (crashes.EXIT, 1), killed.stderr
            work()

        first, second = target.calls
        assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
        assert takes(made["secret"], first)
        assert takes(made["secret"], second)
        assert alice.get("/api/v1/invocations").json["data"][0]["status"] == "SUCCEEDED"

    def test_a_redrive_sends_the_same_call_and_a_replay_another(self, alice: Api) -> None:
        with Receiver(receiver.status(500)) as target:
            made = hook(alice, target.url)
            alice.send(id="1")
            for _ in range(retries.LIMITS["post"]):
                work()
            [dead] = alice.get("/api/v1/invocations").json["data"]
            assert dead["status"] == "DEAD"
            target.answers = [receiver.status(200)]
            assert alice.post(f"/api/v1/invocations/{dead['id']}/redrive").status_code == 200
            work()
            assert alice.post("/api/v1/replays", {}).status_code == 200
            with db.unit():
                assert replay.advance_replays()
            work()

        *redriven, replayed = target.calls
        assert len({call.headers["webhook-id"] for call in redriven}) == 1
        assert replayed.headers["webhook-id"] not in {call.headers["webhook-id"] for call in redriven}
        assert len({call.body for call in target.calls}) == 1
        assert takes(made["secret"], redriven[-1])
        assert takes(made["secret"], replayed)
        assert {one["status"] for one in alice.get("/api/v1/invocations").json["data"]} == {"SUCCEEDED"}


class TestProbe:
    def test_a_test_reaches_its_webhook_alone_and_no_replay_finds_it(self, alice: Api) -> None:
        with Receiver() as target:
            made = hook(alice, target.url, name="*")
            hook(alice, f"{target.url}/2", name="*")
            told = alice.post(f"{RULES}/{made['id']}/test").json
            work()
            alice.post("/api/v1/replays", {})
            with db.unit():
                assert replay.advance_replays()
            work()

        [call] = target.calls
        assert (call.path, call.headers["webhook-id"]) == ("/hook", told["id"])
        assert (told["status"], told["eventName"], told["attemptList"]) == ("PENDING", "kongflow.webhook.test", [])
        assert json.loads(call.body)["payload"] == {"message": "This is a test of the webhook."}
        assert takes(made["secret"], call)
        assert attempts(alice)[0]["statusCode"] == 200

    def test_a_disabled_webhook_says_so(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        alice("PATCH", f"{RULES}/{made['id']}", {"enabled": False})
        told = alice.post(f"{RULES}/{made['id']}/test").json
        work()

        assert alice.get(f"/api/v1/invocations/{told['id']}").json["reason"] == "the dispatcher is disabled"

    def test_only_its_own_environment_tests_it_and_only_a_webhook_is(self, alice: Api, bob: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        job = factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))

        for api, rule in ((bob, made["id"]), (alice, job), (alice, uuid.uuid4())):
            assert api.post(f"{RULES}/{rule}/test").status_code == 404
        assert owed("post") == []


class TestSecrets:
    def test_a_secret_is_shown_once_and_stands_nowhere_in_clear(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        assert made["signing"] == {"kind": "hmac", "publicKey": None}
        assert made["secret"].startswith("whsec_")

        for answer in (
            alice.get(f"{RULES}/{made['id']}"),
            alice.get(RULES),
            alice("PATCH", f"{RULES}/{made['id']}", {}),
        ):
            assert answer.status_code == 200
            assert "whsec_" not in answer.text
        key = base64.b64decode(made["secret"].removeprefix("whsec_"))
        with db.unit():
            [stored] = models.WebhookSecret.select()
        assert made["secret"].encode() not in bytes(stored.sealed)
        assert key not in bytes(stored.sealed)

    def test_a_secret_that_was_known_before_is_taken(self, alice: Api) -> None:
        with Receiver() as target:
            made = hook(alice, target.url, secret=GIVEN.rstrip("="))
            alice.send()
            work()

        assert made["secret"] == GIVEN
        assert takes(GIVEN, target.calls[0])

    def test_both_secrets_sign_until_the_overlap_is_over(self, alice: Api) -> None:
        with Receiver() as target:
            made = hook(alice, target.url)
            new = rotate(alice, made, overlapInSeconds=3600)
            alice.send(id="during")
            work()
            with db.unit():
                db.run("UPDATE webhook_secrets SET expires_at = now() WHERE expires_at IS NOT NULL")
            alice.send(id="after")
            work()

        during, after = target.calls
        assert made["secret"] != new["secret"]
        assert [takes(secret, during) for secret in (made["secret"], new["secret"])] == [True, True]
        assert [takes(secret, after) for secret in (made["secret"], new["secret"])] == [False, True]
        assert during.headers["webhook-signature"].count("v1,") == 2

    def test_an_overlap_is_a_day_unless_it_is_said_and_none_ends_all_that_came_before(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        assert rotate(alice, made)["othersUntil"]
        with db.unit():
            [left] = db.rows(
                "SELECT extract(epoch FROM expires_at - created_at) / 3600 AS hours FROM webhook_secrets"
                " WHERE expires_at IS NOT NULL"
            )
        assert 23.9 < left["hours"] < 24.1
        assert rotate(alice, made, overlapInSeconds=0)["othersUntil"] is None
        with db.unit():
            assert expire.expire_secrets() == 2
            assert models.WebhookSecret.select().count() == 1

    def test_a_longer_overlap_gives_an_older_secret_no_longer_life(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        first = rotate(alice, made, overlapInSeconds=60)["othersUntil"]
        rotate(alice, made, overlapInSeconds=3600)
        with db.unit():
            [oldest] = db.rows("SELECT min(expires_at) AS at FROM webhook_secrets")
        assert oldest["at"].isoformat(timespec="milliseconds").replace("+00:00", "Z") == first

    def test_no_more_than_five_sign_together(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        for _ in range(4):
            rotate(alice, made)
        refused = alice.post(f"{RULES}/{made['id']}/secret/rotate", {})

        assert (refused.status_code, "5 secrets sign already" in refused.json["error"]) == (409, True)
        assert rotate(alice, made, overlapInSeconds=0)["secret"]

    def test_an_ed25519_key_signs_for_whoever_has_its_public_half(self, alice: Api) -> None:
        with Receiver() as target:
            made = hook(alice, target.url, signing="ed25519")
            shown = alice.get(f"{RULES}/{made['id']}").json["signing"]
            new = rotate(alice, made)
            alice.send()
            work()

        [call] = target.calls
        assert "secret" not in made
        assert (shown, new["secret"]) == (made["signing"], None)
        assert shown["publicKey"].startswith("whpk_")
        assert alice.get(f"{RULES}/{made['id']}").json["signing"] == new["signing"]
        for key in (made["signing"]["publicKey"], new["signing"]["publicKey"]):
            assert is_signed_for(key, call)
        assert not is_signed_for("whpk_" + base64.b64encode(bytes(32)).decode(), call)
        assert "v1," not in call.headers["webhook-signature"]

    def test_a_secret_that_cannot_be_decrypted_fails_only_its_own_calls_and_says_why(self, alice: Api) -> None:
        with Receiver() as target:
            broken, whole = hook(alice, target.url), hook(alice, f"{target.url}/2")
            with db.unit():
                # Sealed for another dispatcher: a row that was copied by hand.
                db.run(
                    """UPDATE webhook_secrets SET sealed = (SELECT sealed FROM webhook_secrets WHERE dispatcher_id = %s)
                        WHERE dispatcher_id = %s""",
                    (whole["id"], broken["id"]),
                )
            alice.send()
            work()

        assert [call.path for call in target.calls] == ["/hook/2"]
        [failed] = alice.get(f"/api/v1/invocations?dispatcher={broken['id']}").json["data"]
        assert (failed["status"], failed["errorClass"]) == ("PENDING", "failed")
        assert failed["lastError"].startswith("the webhook's secret cannot be decrypted")

    def test_deleting_a_webhook_deletes_its_secret(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        rotate(alice, made)
        alice("DELETE", f"{RULES}/{made['id']}")

        with db.unit():
            assert models.WebhookSecret.select().count() == 0

    def test_only_its_own_environment_rotates_it_and_only_a_webhook_has_one(self, alice: Api, bob: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        version = factory.job(alice.environment)
        job = factory.dispatcher(alice.environment, to=factory.to_job(version))

        for api, rule in ((bob, made["id"]), (alice, job), (alice, uuid.uuid4())):
            assert api.post(f"{RULES}/{rule}/secret/rotate", {}).status_code == 404


class TestKeys:
    @pytest.fixture
    def keys(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
        """Change the service's keys."""

        def change(value: str) -> None:
            monkeypatch.setenv("KONGFLOW_SECRET_KEY", value)
            settings.current.cache_clear()

        yield change
        monkeypatch.undo()
        settings.current.cache_clear()

    def test_the_first_key_encrypts_and_each_may_decrypt(self, alice: Api, keys: Callable[[str], None]) -> None:
        usual = settings.current().secret_key
        with Receiver() as target:
            old = hook(alice, target.url)
            keys(f"{ANOTHER_KEY}, {usual}")
            new = hook(alice, f"{target.url}/2")
            alice.send(id="1")
            work()
            keys(ANOTHER_KEY)
            alice.send(id="2")
            work()

        assert sorted(call.path for call in target.calls) == ["/hook", "/hook/2", "/hook/2"]
        for call in target.calls:
            assert takes(old["secret"] if call.path == "/hook" else new["secret"], call)

    def test_resealed_secrets_need_the_first_key_only(
        self, alice: Api, store: str, keys: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = settings.current().secret_key
        monkeypatch.setenv("DATABASE_URL", store)
        with Receiver() as target:
            made = hook(alice, target.url)
            keys(f"{ANOTHER_KEY},{usual}")
            told = subprocess.run(
                [BIN / "kongflow-events", "webhooks", "reseal"], capture_output=True, text=True, check=True
            )
            assert told.stdout == "1 resealed\n"
            keys(ANOTHER_KEY)
            alice.send()
            work()
            assert takes(made["secret"], target.calls[0])

            keys(usual)
            told = subprocess.run(
                [BIN / "kongflow-events", "webhooks", "reseal"], capture_output=True, text=True, check=False
            )
        assert (told.returncode, told.stdout) == (1, "0 resealed\n")
        assert told.stderr == "error: no key in KONGFLOW_SECRET_KEY opens 1 others\n"

    def test_without_a_key_there_are_no_webhooks(self, alice: Api, keys: Callable[[str], None]) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        keys("")
        body = {"event": "a", "dispatchable": {"type": "WEBHOOK", "url": "http://127.0.0.1:9/2"}}
        for refused in (alice.post(RULES, body), alice.post(f"{RULES}/{made['id']}/secret/rotate", {})):
            assert (refused.status_code, "Webhooks need a KONGFLOW_SECRET_KEY" in refused.json["error"]) == (422, True)
        assert len(alice.get(RULES).json["data"]) == 1

    @pytest.mark.parametrize("value", ["x", "eA==", f"{ANOTHER_KEY},x", ANOTHER_KEY[:-4] + "!!!="])
    def test_half_a_key_stops_the_start_and_is_not_repeated(self, value: str) -> None:
        with pytest.raises(settings.BadSettings) as caught:
            settings.load({"KONGFLOW_SECRET_KEY": value})

        assert str(caught.value) == "KONGFLOW_SECRET_KEY: each key must be 32 bytes in base64"

    def test_what_is_sealed_opens_only_whole_with_its_key_and_for_its_row(self) -> None:
        key, other = bytes(32), b"another key of thirty-two bytes!"
        sealed = sealing.seal([key, other], "a secret", b"row")

        assert sealing.unseal([other, key], sealed, b"row") == "a secret"
        assert sealing.seal([key], "a secret", b"row") != sealed
        for keys, box, row in (
            ([other], sealed, b"row"),
            ([], sealed, b"row"),
            ([key], sealed, b"another"),
            ([key], sealed[:-1], b"row"),
            ([key], sealed[:5], b"row"),
            ([key], b"", b"row"),
        ):
            with pytest.raises(sealing.Unopenable):
                sealing.unseal(keys, box, row)


class TestWriting:
    def test_a_webhook_and_a_wait_for_one_event_at_the_same_url_stand_beside_each_other(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        waiting = alice.post(f"{RULES}/ephemeral", {"url": "http://127.0.0.1:9/", "name": "a"})

        assert waiting.json["id"] != made["id"]
        assert (made["oneShot"], made["expiresAt"], made["dispatchableId"]) == (
            False,
            None,
            "webhook http://127.0.0.1:9/",
        )

    def test_its_settings_are_kept(self, alice: Api) -> None:
        wanted = {"timeoutInSeconds": 5, "rateLimit": 10, "maxConcurrency": 2, "format": "cloudevent"}
        made = hook(alice, "http://127.0.0.1:9/", **wanted)

        assert made["dispatchable"] == {"type": "WEBHOOK", "url": "http://127.0.0.1:9/", **wanted}
        with db.unit():
            assert models.EventDispatcher.get().dispatchable == made["dispatchable"]

    @pytest.mark.parametrize(
        ("settings_", "path"),
        [
            (
                {"headers": {name: "x"}},
                f'dispatchable.headers["{name}"]' if "-" in name else f"dispatchable.headers.{name}",
            )
            for name in (
                "Host",
                "content-length",
                "Webhook-Id",
                "webhook-signature",
                "Connection",
                "TE",
                "Content-Type",
            )
        ]
        + [
            ({"headers": {"a b": "x"}}, 'dispatchable.headers["a b"]'),
            ({"headers": {"": "x"}}, 'dispatchable.headers[""]'),
            ({"headers": {"a": "x\r\nb: y"}}, "dispatchable.headers.a"),
            ({"headers": {"a": "x\x7f"}}, "dispatchable.headers.a"),
            ({"headers": {"a": " x"}}, "dispatchable.headers.a"),
            ({"headers": {"a": "ä"}}, "dispatchable.headers.a"),
            ({"headers": {"a": "x" * 2049}}, "dispatchable.headers.a"),
            ({"headers": {"a": "x", "A": "y"}}, "dispatchable.headers.A"),
            ({"headers": {"a": 1}}, "dispatchable.headers.a"),
            ({"headers": {f"a{n}": "x" * 2000 for n in range(5)}}, "dispatchable.headers"),
            ({"headers": {f"a{n}": "x" for n in range(21)}}, "dispatchable.headers"),
            ({"headers": []}, "dispatchable.headers"),
            ({"timeoutInSeconds": 0}, "dispatchable.timeoutInSeconds"),
            ({"timeoutInSeconds": 21}, "dispatchable.timeoutInSeconds"),
            ({"rateLimit": 0}, "dispatchable.rateLimit"),
            ({"rateLimit": 1.5}, "dispatchable.rateLimit"),
            ({"maxConcurrency": 1001}, "dispatchable.maxConcurrency"),
            ({"format": "xml"}, "dispatchable.format"),
            ({"signing": "rsa"}, "dispatchable.signing"),
            ({"secret": "whsec_c2hvcnQ="}, "dispatchable.secret"),
            ({"secret": "whsk_" + base64.b64encode(bytes(32)).decode()}, "dispatchable.secret"),
            ({"secret": "whsec_" + base64.b64encode(bytes(65)).decode()}, "dispatchable.secret"),
            ({"secret": "whsec_" + "ä" * 40}, "dispatchable.secret"),
            ({"secret": GIVEN, "signing": "ed25519"}, "dispatchable.secret"),
            ({"url": "http://10.0.0.1/"}, "dispatchable.url"),
            ({"url": "ftp://a/"}, "dispatchable.url"),
            ({"id": "x", "url": "http://127.0.0.1/" + "x" * 2048}, "dispatchable.url"),
            ({"colour": "red"}, "dispatchable.colour"),
        ],
    )
    def test_what_cannot_be_is_refused_with_its_path(self, alice: Api, settings_: dict[str, Any], path: str) -> None:
        body = {"type": "WEBHOOK", "url": "http://127.0.0.1:9/", **settings_}
        refused = alice.post(RULES, {"event": "a", "dispatchable": body})

        assert (refused.status_code, [issue["path"] for issue in refused.json["issues"]]) == (422, [path])
        assert alice.get(RULES).json["data"] == []

    def test_what_only_a_webhook_has_is_refused_elsewhere(self, alice: Api) -> None:
        target = {"type": "EPHEMERAL", "url": "http://127.0.0.1:9/", "rateLimit": 1, "secret": GIVEN}
        refused = alice.post(RULES, {"event": "a", "dispatchable": target})

        assert [issue["path"] for issue in refused.json["issues"]] == ["dispatchable.rateLimit", "dispatchable.secret"]

    def test_a_webhook_needs_a_url(self, alice: Api) -> None:
        refused = alice.post(RULES, {"event": "a", "dispatchable": {"type": "WEBHOOK"}})

        assert [issue["path"] for issue in refused.json["issues"]] == ["dispatchable.url"]


def change(api: Api, webhook: Any, **dispatchable: Any) -> Any:
    return api("PATCH", f"{RULES}/{webhook['id']}", {"dispatchable": dispatchable})


class TestChanging:
    def test_what_is_owed_goes_to_the_new_url_signed_with_the_old_secret(self, alice: Api) -> None:
        with Receiver(receiver.status(500)) as before, Receiver() as after:
            made = hook(alice, before.url)
            alice.send()
            work()
            changed = change(alice, made, url=after.url, headers={"X-Shop": "eu"}, format="cloudevent")
            work()

        [failed], [call] = before.calls, after.calls
        assert changed.status_code == 200, changed.text
        assert (call.headers["webhook-id"], call.headers["x-shop"]) == (failed.headers["webhook-id"], "eu")
        assert call.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
        assert takes(made["secret"], call)
        assert "secret" not in changed.json

    def test_what_is_absent_stays_and_what_is_null_goes(self, alice: Api) -> None:
        given = {"headers": {"X-Shop": "eu"}, "timeoutInSeconds": 5, "rateLimit": 10, "maxConcurrency": 2}
        made = hook(alice, "http://127.0.0.1:9/", format="cloudevent", **given)

        kept = change(alice, made, rateLimit=20).json["dispatchable"]
        bare = change(alice, made, headers=None, timeoutInSeconds=None, rateLimit=None, maxConcurrency=None).json
        assert kept == {**made["dispatchable"], "rateLimit": 20}
        assert bare["dispatchable"] == {"type": "WEBHOOK", "url": "http://127.0.0.1:9/", "format": "cloudevent"}
        with db.unit():
            assert models.EventDispatcher.get().dispatchable == bare["dispatchable"]

    def test_one_header_is_set_or_taken_away_beside_secrets_that_nobody_repeats(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/", headers={"Authorization": "Bearer s3cr3t-of-mine", "X-Shop": "eu"})
        change(alice, made, headers={"x-SHOP": "us", "X-New": "1"})
        change(alice, made, headers={"X-New": None, "X-Unknown": None})

        with db.unit():
            stored = models.EventDispatcher.get().dispatchable["headers"]
        assert stored == {"Authorization": "Bearer s3cr3t-of-mine", "x-SHOP": "us"}

    def test_a_hidden_value_that_is_sent_back_is_refused_and_the_stored_one_stays(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/", headers={"Authorization": "Bearer s3cr3t-of-mine"})
        refused = change(alice, made, headers=made["dispatchable"]["headers"])

        [issue] = refused.json["issues"]
        assert (refused.status_code, issue["path"]) == (422, "dispatchable.headers.Authorization")
        assert issue["message"] == "*** stands for a value that is not shown; give the value itself"
        with db.unit():
            assert models.EventDispatcher.get().dispatchable["headers"] == {"Authorization": "Bearer s3cr3t-of-mine"}

    def test_only_another_url_lets_its_target_begin_anew(self, alice: Api) -> None:
        with Receiver(receiver.status(500)) as target:
            made = hook(alice, target.url)
            alice.send()
            work()
            failures = [
                change(alice, made, **changed).json["target"]["consecutiveFailures"]
                for changed in ({"rateLimit": 5}, {"url": target.url}, {"url": f"{target.url}/new"})
            ]

        assert failures == [1, 1, 0]

    def test_it_is_the_webhook_of_its_new_url_and_the_old_one_is_free(self, alice: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/old")
        named = alice.post(
            RULES,
            {
                "event": "a",
                "dispatchableId": "mine",
                "dispatchable": {"type": "WEBHOOK", "url": "http://127.0.0.1:9/a"},
            },
        ).json
        moved = change(alice, made, url="http://127.0.0.1:9/new").json
        hook(alice, "http://127.0.0.1:9/old")
        taken = change(alice, made, url="http://127.0.0.1:9/old")

        assert moved["dispatchableId"] == "webhook http://127.0.0.1:9/new"
        assert change(alice, named, url="http://127.0.0.1:9/b").json["dispatchableId"] == "mine"
        assert (taken.status_code, taken.json["error"]) == (
            409,
            "A dispatcher for webhook http://127.0.0.1:9/old exists",
        )
        assert alice.get(f"{RULES}/{made['id']}").json["dispatchable"]["url"] == "http://127.0.0.1:9/new"

    @pytest.mark.parametrize(
        ("changed", "path"),
        [
            ({"url": None}, "dispatchable.url"),
            ({"url": "http://10.0.0.1/"}, "dispatchable.url"),
            ({"url": "http://127.0.0.1/" + "x" * 2048}, "dispatchable.url"),
            ({"headers": {"Host": "x"}}, "dispatchable.headers.Host"),
            ({"headers": {"a": "x", "A": "y"}}, "dispatchable.headers.A"),
            ({"headers": {"a": 1}}, "dispatchable.headers.a"),
            ({"headers": {f"a{n}": "x" for n in range(20)}}, "dispatchable.headers"),
            ({"timeoutInSeconds": 21}, "dispatchable.timeoutInSeconds"),
            ({"rateLimit": 0}, "dispatchable.rateLimit"),
            ({"maxConcurrency": 1001}, "dispatchable.maxConcurrency"),
            ({"format": None}, "dispatchable.format"),
            ({"type": "EPHEMERAL"}, "dispatchable.type"),
            ({"secret": GIVEN}, "dispatchable.secret"),
            ({"signing": "ed25519"}, "dispatchable.signing"),
        ],
    )
    def test_what_cannot_be_is_refused_with_its_path_and_changes_nothing(
        self, alice: Api, changed: dict[str, Any], path: str
    ) -> None:
        made = hook(alice, "http://127.0.0.1:9/", headers={"X-Shop": "eu"})
        refused = change(alice, made, **changed)

        assert (refused.status_code, [issue["path"] for issue in refused.json["issues"]]) == (422, [path])
        assert alice.get(f"{RULES}/{made['id']}").json["dispatchable"] == made["dispatchable"]

    def test_only_its_own_environment_changes_it_and_only_a_webhook_is(self, alice: Api, bob: Api) -> None:
        made = hook(alice, "http://127.0.0.1:9/")
        job = factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
        refused = change(alice, {"id": job}, rateLimit=1)

        assert change(bob, made, rateLimit=1).status_code == 404
        assert (refused.status_code, [issue["path"] for issue in refused.json["issues"]]) == (422, ["dispatchable"])


class TestSigning:
    def test_the_signature_is_the_specifications(self) -> None:
        """The example of the specification: the same secret, id, time and body."""
        body = b'{"test": 2432232314}'
        signed = signing.headers(
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body
        )

        assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
