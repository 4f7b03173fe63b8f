"""The console's page of one event: its story, why others did not take it, and what can be done about it."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from falcon import testing

from kongflow_events import models, words
from kongflow_events.services import cancel, ingest_send_event, invoke, replay
from kongflow_events.store import bulk_operations, db
from tests import factory
from tests.browser import Browser
from tests.console import ATTACKS, Built, built
from tests.integration.conftest import Api


@pytest.fixture
def browser(client: testing.TestClient) -> Browser:
    """An operator's."""
    return Browser(client).sign_in()


def page_of(api: Api, event_id: str) -> str:
    """Where the page of the event is."""
    with db.unit():
        record = models.EventRecord.get(event_id=event_id, environment_id=api.environment.id)
    return f"/console/env/{api.environment.id}/events/{record.id}"


def text_of(browser: Browser, page: str, **asked: str) -> str:
    """All that the page says."""
    answer = browser.get(page, params=asked)
    assert answer.status_code == 200, answer.text
    return built(answer).text


def is_cancelled(api: Api) -> bool:
    """Whether the event 1 is."""
    with db.unit():
        return models.EventRecord.get(event_id="1", environment_id=api.environment.id).cancelled_at is not None


def nothing() -> dict[str, str]:
    """A target that does not exist."""
    return {"type": words.JOB_VERSION, "id": str(uuid.uuid4())}


def audited() -> list[tuple[str, str, str, Any]]:
    """The changes in the log, oldest first: who, what, on what, in which environment."""
    with db.unit():
        table = models.AuditEntry
        rows = list(table.select().where(table.environment_id.is_null(False)).order_by(table.id))
    return [(row.operator, row.action, row.subject, row.environment_id) for row in rows]


class TestStory:
    def test_it_goes_from_the_sender_to_the_runs(self, browser: Browser, alice: Api) -> None:
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment, "ship")))
        factory.dispatcher(alice.environment, to=nothing())
        alice.send(id="1", payload={"amount": 42}, options={"accountId": "acme"})
        factory.work()

        text = text_of(browser, page_of(alice, "1"))

        assert "Received" in text
        assert "for the account acme" in text
        assert "Delivered" in text
        assert "order.paid → ship 1.0.0 succeeded" in text
        assert "pending run of ship 1.0.0" in text
        assert "order.paid → job version dead its dispatcher took it" in text
        assert "1 attempt 1 missing" in text
        assert text.index("Received") < text.index("Delivered") < text.index("run of ship")

    def test_an_attempt_has_its_requests_headers_and_a_run_its_page(self, browser: Browser, alice: Api) -> None:
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
        factory.dispatcher(alice.environment, to=nothing())
        alice.send(id="1")
        factory.work()
        with db.unit():
            headers = {"webhook-id": "msg_1", "x-note": "<b>&"}
            assert models.InvocationAttempt.update(request_headers=headers).execute() == 1
            run = models.JobRun.select().get().id

        page = built(browser.get(page_of(alice, "1")))

        assert "Its request's headers x-note: <b>& webhook-id: msg_1" in page.text
        assert f"/console/env/{alice.environment.id}/runs/{run}" in page.leads

    def test_it_names_the_leaf_that_refused(self, browser: Browser, alice: Api) -> None:
        job = factory.to_job(factory.job(alice.environment))
        factory.dispatcher(alice.environment, to=job, payload_filter={"amount": [{"$gt": 10}], "status": ["paid"]})
        alice.send(id="1", payload={"amount": 5, "status": "paid"})
        factory.work()

        answer = browser.get(page_of(alice, "1"))
        text = built(answer).text

        assert "payload.amount: $gt 10 does not hold for 5" in text
        assert "does not hold: payload.amount $gt 10, found 5" in text
        assert 'holds: payload.status one of ["paid"], found "paid"' in text
        assert "No dispatcher took it" in text

    def test_any_dispatcher_can_be_asked(self, browser: Browser, alice: Api) -> None:
        job = factory.to_job(factory.job(alice.environment, "shipping"))
        other = factory.dispatcher(alice.environment, "order.late", to=job, source="shop")
        alice.send(id="1")
        page = page_of(alice, "1")

        assert "it listens to" not in text_of(browser, page)
        asked = text_of(browser, page, dispatcher=str(other))
        assert "it listens to order.late, the event is called order.paid" in asked
        assert "it listens to the source shop, the event is from trigger.dev" in asked
        assert asked.count("order.late → shipping 1.0.0") == 3

    def test_a_payload_is_shown_as_it_was_sent_but_for_its_spaces(self, browser: Browser, alice: Api) -> None:
        alice.post(
            "/api/v1/events", b'{"event":{"id":"1","name":"a","payload":{"b":1.10,"a":12345678901234567890123}}}'
        )

        answer = browser.get(page_of(alice, "1"))

        assert "{\n  &#34;b&#34;: 1.10,\n  &#34;a&#34;: 12345678901234567890123\n}" in answer.text

    def test_of_a_long_payload_the_beginning_is_shown(self, client: testing.TestClient, alice: Api) -> None:
        with db.unit():
            ingest_send_event(
                alice.environment, factory.event("long", id="1", payload=json.dumps({"text": "x" * 70_000}))
            )
        text = text_of(Browser(client).sign_in(), page_of(alice, "1"))

        assert "70,012 bytes" in text
        assert "This is the beginning" in text
        assert "too long for a command" in text

    def test_the_command_sends_the_same_again_with_the_shells_key(
        self, browser: Browser, alice: Api, tmp_path: Any
    ) -> None:
        payload = {"it's": 'a "quoted" $HOME `id` \\ text', "n": 1}
        alice.send("order's.paid", id="1", payload=payload, context={"a": "'"}, options={"accountId": "ac'me"})
        page = browser.get(page_of(alice, "1")).text
        command = Built(page[page.index('<pre id="curl"') : page.index("</pre>", page.index('<pre id="curl"'))])
        shown = "".join(command._texts)
        # What a shell makes of it: a curl that writes down its arguments.
        fake = tmp_path / "curl"
        fake.write_text('#!/bin/sh\nfor last; do :; done\nprintf %s "$last"\n')
        fake.chmod(0o755)
        said = subprocess.run(
            ["sh", "-c", shown], env={"PATH": f"{tmp_path}:/bin", "KONGFLOW_KEY": "k"}, capture_output=True, check=True
        ).stdout

        assert alice.key not in page
        sent = json.loads(said)
        assert sent == {
            "event": {"name": "order's.paid", "source": "trigger.dev", "payload": payload, "context": {"a": "'"}},
            "options": {"accountId": "ac'me"},
        }
        assert alice.post("/api/v1/events", said).status_code == 200

    def test_another_environments_event_is_not_there(self, browser: Browser, alice: Api, bob: Api) -> None:
        bob.send(id="1")
        page = page_of(bob, "1").replace(str(bob.environment.id), str(alice.environment.id))

        for path in (page, page.rpartition("/")[0] + "/nonsense", "/console/env/nonsense/events"):
            assert browser.get(path).status_code == 404
        browser.get("/console/environments")
        assert browser.post(f"{page}/cancel").status_code == 404


class TestActions:
    def test_cancel(self, browser: Browser, alice: Api) -> None:
        alice.send(id="1", options={"deliverAfter": 3600})
        page = page_of(alice, "1")
        assert "To be delivered in 59 min" in text_of(browser, page)

        answer = browser.post(f"{page}/cancel")
        assert (answer.status_code, answer.headers["location"]) == (303, page)
        after = text_of(browser, page)

        assert "Cancelled." in after
        assert is_cancelled(alice)
        assert "Cancelled." not in text_of(browser, page)
        assert audited() == [("olga", "event.cancel", "event 1", alice.environment.id)]

    def test_cancel_is_offered_while_something_is_owed(self, browser: Browser, alice: Api) -> None:
        hook = {"type": words.WEBHOOK, "url": "https://shop.example/hooks"}
        rule = factory.dispatcher(alice.environment, to=hook)
        alice.send(id="1")
        alice.send("unheard", id="2")
        owed, unmatched = page_of(alice, "1"), page_of(alice, "2")
        assert "Cancel the event" in text_of(browser, unmatched)
        factory.work()

        assert "Cancel the event" in text_of(browser, owed)
        assert "Cancel the event" not in text_of(browser, unmatched)
        with db.unit():
            models.Invocation.update(status="SUCCEEDED").execute()
            models.EventDispatcher.delete().where(models.EventDispatcher.id == rule).execute()
        assert "Cancel the event" not in text_of(browser, owed)
        assert "its dispatcher, which is gone, took it" in text_of(browser, owed)

    def test_replay_to_everybody_and_to_one(self, browser: Browser, alice: Api) -> None:
        job = factory.to_job(factory.job(alice.environment))
        first = factory.dispatcher(alice.environment, to=job)
        factory.dispatcher(alice.environment, to=job)
        alice.post("/api/v1/events/bulk", {"events": [{"id": one, "name": factory.JOB_EVENT} for one in "12"]})
        factory.work()
        page = page_of(alice, "1")

        for dispatcher in ("", str(first)):
            browser.get(page)
            assert browser.post(f"{page}/replay", dispatcher=dispatcher).status_code == 303
            with db.unit():
                while replay.advance_replays():
                    pass

        with db.unit():
            made = [(row.replay, row.event_record_id) for row in models.Invocation.select()]
        replays = sorted({number for number, _ in made})
        assert [sum(number == one for number, _ in made) for one in replays] == [4, 2, 1]
        assert len({record for number, record in made if number}) == 1
        assert f"in replay {replays[1]}" in text_of(browser, page)
        assert [row[1:3] for row in audited()] == [("event.replay", "event 1")] * 2

    def test_a_cancelled_event_is_not_replayed_and_nothing_is_written_down(self, browser: Browser, alice: Api) -> None:
        alice.send(id="1")
        with db.unit():
            cancel.cancel_event(alice.environment, "1")
        page = page_of(alice, "1")
        browser.get(page)

        answer = browser.post(f"{page}/replay")

        assert answer.status_code == 409
        assert "A cancelled event is not replayed" in built(answer).text
        assert audited() == []
        with db.unit():
            assert models.BulkOperation.select().count() == 0

    def test_a_dead_invocation_is_redriven_and_dismissed(self, browser: Browser, alice: Api) -> None:
        factory.dispatcher(alice.environment, to=nothing())
        alice.send(id="1")
        factory.work()
        page = page_of(alice, "1")
        [invocation] = [one["id"] for one in alice.get("/api/v1/invocations").json["data"]]
        browser.get(page)

        assert browser.post(f"{page}/invocations/{invocation}/redrive").status_code == 303
        assert alice.get(f"/api/v1/invocations/{invocation}").json["status"] == "PENDING"
        # It is not dead any more.
        assert browser.post(f"{page}/invocations/{invocation}/dismiss").status_code == 409
        invoke.invoke([uuid.UUID(invocation)])
        assert "2 attempts 1 missing" in text_of(browser, page)
        assert "1 in round 2 missing" in text_of(browser, page)
        assert browser.post(f"{page}/invocations/{invocation}/dismiss").status_code == 303
        assert alice.get(f"/api/v1/invocations/{invocation}").json["status"] == "CANCELED"
        assert [row[1:3] for row in audited()] == [
            ("invocation.redrive", f"invocation {invocation}"),
            ("invocation.dismiss", f"invocation {invocation}"),
        ]

    def test_a_dead_delivery_is_redriven_and_dismissed(self, browser: Browser, alice: Api) -> None:
        for event_id in "12":
            alice.send(id=event_id)
        with db.unit():
            db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity', attempts = 5, last_error = 'worker lost'")
        first, second = page_of(alice, "1"), page_of(alice, "2")
        assert "Its delivery is dead" in text_of(browser, first)
        assert "worker lost after 5 attempts" in text_of(browser, first)

        assert browser.post(f"{first}/redrive").status_code == 303
        assert browser.post(f"{second}/dismiss").status_code == 303

        assert "To be delivered" in text_of(browser, first)
        assert "No dispatcher took it" in text_of(browser, second)
        assert [row[1:3] for row in audited()] == [("event.redrive", "event 1"), ("event.dismiss", "event 2")]

    def test_runs_are_cancelled(self, browser: Browser, alice: Api) -> None:
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
        alice.send(id="1")
        factory.work()
        page = page_of(alice, "1")
        assert "Cancel runs…" in text_of(browser, page)

        assert browser.post(f"{page}/cancel-runs").status_code == 303
        after = text_of(browser, page)

        assert "Cancelled runs: 1." in after
        assert "canceled run of job" in after
        assert "Cancel runs…" not in after

    @pytest.mark.parametrize("action", ["cancel", "cancel-runs", "replay", "redrive", "dismiss"])
    def test_a_viewer_sees_no_button_and_changes_nothing(
        self, client: testing.TestClient, alice: Api, action: str
    ) -> None:
        viewer = Browser(client).sign_in("vera", "viewer")
        alice.send(id="1")
        page = page_of(alice, "1")

        assert f"{page}/{action}" not in viewer.get(page).text
        answer = viewer.post(f"{page}/{action}")

        assert answer.status_code == 403
        assert "Your role is viewer" in built(answer).text
        assert not is_cancelled(alice)
        assert audited() == []

    def test_a_change_needs_the_token_and_the_origin(self, browser: Browser, alice: Api) -> None:
        alice.send(id="1")
        page = page_of(alice, "1")
        browser.get(page)

        assert browser.post(f"{page}/cancel", form_token="0" * 64).status_code == 403
        assert browser.post(f"{page}/cancel", {"Origin": "https://evil.example"}).status_code == 403
        assert browser.get(f"{page}/cancel").status_code == 405
        assert not is_cancelled(alice)


class TestWhatStrangersWrite:
    @pytest.mark.parametrize("attack", ATTACKS)
    def test_it_stays_text_on_every_page(self, client: testing.TestClient, alice: Api, attack: str) -> None:
        browser = Browser(client).sign_in()

        # A star in a name is warned of.
        word = "wo*rd" if "*" in attack else "word"

        plain = seen(browser, factory.environment("plain"), word)
        attacked = seen(browser, factory.environment("evil"), attack)

        for expected, found in zip(plain, attacked, strict=True):
            assert found.elements == expected.elements
            assert all(lead.startswith(("/console", "#", "?")) for lead in found.leads), found.leads
            assert " ".join(attack.split()) in found.text or attack in found.fields


def seen(browser: Browser, environment: words.Environment, text: str) -> list[Built]:
    """The pages of an environment in which everything that a stranger may write is this text, and what forms answer to it."""
    filled = fill(environment, text)
    refused = browser.post("/console/sign-in", name=text, password="wrong")
    assert refused.status_code == 401
    answers = [browser.get(page) for page in filled.pages]
    # A time that is none is told above the list.
    assert {answer.status_code for answer in answers} == {200, 422}
    event = {"name": text, "source": text, "account": text}
    raw = json.dumps({text: text})
    asked = (
        {**event, "payload": raw, "context": raw},
        {**event, "payload": text},
        {**event, "context": text},
        {"event_id": text},
        {"event_id": f"no {text}"},
    )
    explained = [browser.post(f"{filled.dispatcher}/explain", **form) for form in asked]
    assert [answer.status_code for answer in explained] == [200, 422, 422, 200, 422]
    return [built(answer) for answer in (refused, *answers, *explained)]


class Filled(NamedTuple):
    """Pages that show what strangers wrote, and the one of a dispatcher, which can be asked."""

    pages: list[str]
    dispatcher: str


def fill(environment: words.Environment, text: str) -> Filled:
    """An environment in which everything that a stranger may write is this text."""
    raw = json.dumps({"key": text, text: [text]})
    version = factory.job(environment, text)
    target = {"type": words.WEBHOOK, "url": text, "headers": {text: text}}
    refusing = {"payload_filter": {text: [text + "!"]}, "context_filter": {"key": [{"$startsWith": text + "!"}]}}
    asked = factory.dispatcher(environment, text, to=target, source=text, **refusing)
    with db.unit():
        record = models.EventRecord.create(
            event_id=text,
            name=text,
            source=text,
            payload=json.loads(raw),
            payload_raw=raw,
            context={"key": text, text: text},
            organization_id=environment.organization_id,
            project_id=environment.project_id,
            environment_id=environment.id,
            external_account_id=factory.account(environment, text),
        )
        db.run(
            """INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, attempts, last_error, died_at)
               VALUES (%s, 'deliver', %s, now(), 'infinity', 5, %s, now())""",
            (record.id, environment.id, text),
        )
        invocation = models.Invocation.create(
            environment_id=environment.id,
            event_record_id=record.id,
            dispatcher_id=uuid.uuid4(),
            dispatcher_event=text,
            dispatchable=target,
            status="DEAD",
            reason=text,
            last_error=text,
            replay=0,
            attempts=1,
            redrives=0,
            created_at=db.now(),
            died_at=db.now(),
        )
        models.InvocationAttempt.create(
            invocation_id=invocation.id,
            round=0,
            number=1,
            started_at=db.now(),
            duration_ms=1,
            outcome="refused",
            status_code=500,
            error=text,
            answer=text,
            request_headers={text: text},
        )
        run = models.JobRun.create(
            environment_id=environment.id,
            job_id=version.job_id,
            version_id=version.id,
            event_record_id=record.id,
            invocation_id=invocation.id,
            status="PENDING",
            is_test=False,
            internal=False,
            output={"key": text, text: text},
        )
        criteria = {"of": "invocations", "name": text, "error_class": text, "dispatcher": text}
        redrive = bulk_operations.start(environment.id, "redrive", criteria, 10, 1)
        db.run("UPDATE bulk_operations SET last_error = %s WHERE id = %s", (text, redrive.id))
        # Every environment shows all of them.
        db.run("DELETE FROM process_heartbeats")
        db.run("INSERT INTO process_heartbeats (kind, instance) VALUES ('scheduler', %s)", (text,))
    at = f"/console/env/{environment.id}"
    dispatcher = f"{at}/dispatchers/{asked}"
    pages = [
        f"{at}/overview",
        f"{at}/events",
        f"{at}/events/{record.id}?dispatcher={asked}",
        f"{at}/dispatchers",
        dispatcher,
        f"{at}/dead",
        f"{at}/dead?of=deliveries",
        f"{at}/dead/redrives/{redrive.id}",
        f"{at}/runs",
        f"{at}/runs/{run.id}",
        f"{at}/keys",
    ]
    # What is asked for in a URL stands in its page.
    pages += [
        f"{at}/{page}{'&' if '?' in page else '?'}{urlencode(dict.fromkeys(names, text))}"
        for page, names in (
            ("events", ("name", "source", "id")),
            ("events", ("since", "q")),
            ("dispatchers", ("name", "source")),
            ("dispatchers", ("name", "source", "type", "state", "before")),
            ("dead", ("name",)),
            ("dead", ("name", "dispatcher", "error_class", "before")),
            ("dead?of=deliveries", ("name",)),
            ("dead/redrive", ("name",)),
            ("runs", ("job",)),
            ("runs", ("job", "status", "before")),
            # Whoever tried to sign in.
            ("audit", ("operator",)),
            ("audit", ("operator", "action", "subject", "where", "before")),
        )
    ]
    return Filled(pages, dispatcher)
