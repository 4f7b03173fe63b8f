"""The console's pages of dispatchers, dead letters, runs, keys and the audit log: what they show, and who may change what."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from falcon import testing

from kongflow_events import models, vault, words
from kongflow_events.console import strips
from kongflow_events.services import cancel, deliver, ingest, invoke, keys
from kongflow_events.store import console_dispatchers, console_overview, console_runs, db
from tests import factory
from tests.browser import Browser
from tests.console import Built


class Place:
    """An environment with an order that a job ran for and a webhook did not take; and the browser of an operator."""

    def __init__(self, client: testing.TestClient, role: Any = "operator") -> None:
        self.browser = Browser(client).sign_in(role=role)
        self.environment = factory.environment("alice")
        self.job = factory.dispatcher(self.environment, to=factory.to_job(factory.job(self.environment)))
        hook = {"type": words.WEBHOOK, "url": "http://127.0.0.1:1/hook", "headers": {"Authorization": "Bearer secret"}}
        self.webhook = factory.dispatcher(self.environment, to=hook, payload_filter={"amount": [{"$gt": 10}]})
        with db.unit():
            vault.keep(self.webhook, "hmac", None)
        self.dead = self.send("order-1")

    def send(self, event_id: str) -> uuid.UUID:
        """Send an order, whose call is dead at once; returns its invocation."""
        with db.unit():
            event = factory.event(id=event_id, payload='{"amount": 42}')
            record = ingest.ingest_send_event(self.environment, event)
        invoke.invoke(deliver.deliver([record.id])["invoke"])
        with db.unit():
            db.run("DELETE FROM outbox WHERE lane = %s", (self.webhook,))
            db.run(
                """UPDATE invocations SET status = 'DEAD', died_at = now(), completed_at = now(), attempts = 10,
                          reason = 'the target answered 503', last_outcome = 'refused'
                    WHERE dispatcher_id = %s AND event_record_id = %s""",
                (self.webhook, record.id),
            )
            made: uuid.UUID = models.Invocation.get(dispatcher_id=self.webhook, event_record_id=record.id).id
        return made

    def at(self, path: str) -> str:
        return f"/console/env/{self.environment.id}/{path}"

    def get(self, path: str, **query: str) -> Any:
        """A page that has to be there."""
        answer = self.browser.get(self.at(path), params=query)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, **form: Any) -> Any:
        return self.browser.post(self.at(path), **form)

    def audited(self) -> list[tuple[str, str, str]]:
        """What was done here: by whom, and on what."""
        with db.unit():
            rows = models.AuditEntry.select().where(models.AuditEntry.environment_id == self.environment.id)
            return [(row.operator, row.action, row.subject) for row in rows.order_by(models.AuditEntry.id)]


@pytest.fixture
def alice(client: testing.TestClient) -> Place:
    return Place(client)


def cells(page: str) -> int:
    """How many rows the page's first table has."""
    return page.partition("<tbody>")[2].partition("</tbody>")[0].count("<tr>")


def text(page: str) -> str:
    """What a page says."""
    return Built(page).text


def leads(place: Place, link: str) -> list[str]:
    """Where a link of the overview leads."""
    return re.findall(rf'<a id="{link}" href="([^"]*)"', place.get("overview"))


CHANGES = [
    ("dispatchers/{webhook}/enable", "dispatcher.enable"),
    ("dispatchers/{webhook}/disable", "dispatcher.disable"),
    ("dispatchers/{webhook}/pause", "dispatcher.pause"),
    ("dispatchers/{webhook}/resume", "dispatcher.resume"),
    ("dispatchers/{webhook}/test", "dispatcher.test"),
    ("dispatchers/{webhook}/rotate-secret", "webhook.rotate-secret"),
    ("dead/redrive-one", "dead-letter.redrive"),
    ("dead/dismiss-one", "dead-letter.dismiss"),
    ("dead/redrive", "dead-letters.redrive"),
    ("runs/{run}/cancel", "run.cancel"),
    ("keys/create", "key.create"),
    ("keys/{key}/revoke", "key.revoke"),
]


def filled(place: Place, path: str) -> str:
    with db.unit():
        run = models.JobRun.select().get().id
        key = keys.create_key(place.environment).id
    return path.format(webhook=place.webhook, run=run, key=key)


class TestChanges:
    @pytest.mark.parametrize(("path", "action"), CHANGES)
    def test_each_is_an_operators_and_stands_in_the_audit_log(self, alice: Place, path: str, action: str) -> None:
        answer = alice.post(filled(alice, path), of="invocations", id=alice.dead)

        assert answer.status_code in {200, 303}, answer.text
        [(operator, done, subject)] = alice.audited()
        assert (operator, done) == ("olga", action)
        assert action in alice.get("audit", where="this environment")
        assert subject.split()[0] in {"dispatcher", "invocation", "redrive", "run", "key"}

    @pytest.mark.parametrize(("path", "action"), CHANGES)
    def test_no_viewer_may(self, client: testing.TestClient, path: str, action: str) -> None:
        place = Place(client, role="viewer")

        answer = place.post(filled(place, path), of="invocations", id=place.dead)

        assert answer.status_code == 403
        assert place.audited() == []

    @pytest.mark.parametrize(("role", "number"), [("operator", 2), ("viewer", 0)])
    def test_dead_letters_have_a_column_of_what_may_be_done(
        self, client: testing.TestClient, role: str, number: int
    ) -> None:
        page = Place(client, role=role).get("dead")

        assert page.count("Actions") == number
        assert page.count('data-head="Died"') == 1

    @pytest.mark.parametrize(("path", "action"), CHANGES)
    def test_none_is_done_in_another_environment(self, alice: Place, path: str, action: str) -> None:
        to = filled(alice, path)
        alice.environment = factory.environment("bob")

        answer = alice.post(to, of="invocations", id=alice.dead)

        if action in {"key.create", "dead-letters.redrive"}:
            assert [row[1] for row in alice.audited()] == [action]
        else:
            assert answer.status_code == 404
            assert alice.audited() == []

    def test_a_redrive_leads_to_what_comes_of_it(self, alice: Place) -> None:
        with db.unit():
            record = models.Invocation.get_by_id(alice.dead).event_record_id
        form = dict(re.findall(r'name="(of|id|record)" value="([^"]+)"', alice.get("dead").partition("redrive-one")[2]))

        alice.post("dead/redrive-one", **form)

        link = f'beginning now: <a href="{alice.at(f"events/{record}")}">'
        assert link in alice.get("dead")
        assert link not in alice.get("dead")

    @pytest.mark.parametrize("about", ["https://evil.example/", "//evil.example", "/elsewhere"])
    def test_a_banner_leads_nowhere_else(self, alice: Place, about: str) -> None:
        alice.browser.cookies["kongflow_flash"] = quote(f"good {about} Done")

        page = alice.get("dead")

        assert "Done</p>" in page
        assert about not in page

    def test_what_is_refused_is_told_and_not_written_down(self, alice: Place) -> None:
        refused = [
            alice.post(f"dispatchers/{alice.job}/pause"),
            alice.post("dead/redrive-one", of="invocations", id=uuid.uuid4()),
            alice.post("dead/redrive-one", of="everything", id=alice.dead),
        ]

        assert [answer.status_code for answer in refused] == [422, 404, 400]
        assert "Only a WEBHOOK" in refused[0].text
        assert alice.audited() == []


class TestDispatchers:
    @pytest.mark.parametrize(
        ("query", "number"),
        [
            ({}, 2),
            ({"name": "order.paid"}, 2),
            ({"name": "order.refunded"}, 0),
            ({"source": "elsewhere"}, 0),
            ({"type": "WEBHOOK"}, 1),
            ({"state": "paused"}, 1),
            ({"state": "enabled"}, 1),
            ({"state": "disabled"}, 0),
            ({"state": "failing", "type": "nonsense"}, 0),
            ({"state": "resting"}, 0),
        ],
    )
    def test_filters_stand_in_the_url(self, alice: Place, query: dict[str, str], number: int) -> None:
        alice.post(f"dispatchers/{alice.webhook}/pause")

        assert cells(alice.get("dispatchers", **query)) == number

    def test_older_ones_are_on_the_next_page(self, alice: Place) -> None:
        for _ in range(30):
            factory.dispatcher(alice.environment, to=factory.to_url("http://127.0.0.1:1/one"))

        first = alice.get("dispatchers", name="order.paid")
        older = re.search(r'href="([^"]*before=[^"]*)" rel="next"', first)
        assert older is not None
        second = alice.browser.get(older[1].replace("&amp;", "&")).text

        assert (cells(first), cells(second)) == (25, 7)
        assert 'rel="next"' not in second

    def test_one_shows_its_rule_and_its_health_and_no_secret(self, alice: Place) -> None:
        page = alice.get(f"dispatchers/{alice.webhook}")

        assert "Authorization: ***" in page
        assert "Bearer secret" not in page
        assert "The last 1 invocations: 1 dead" in page
        assert "10 attempts, with pauses of 2.7 s" in page

    def test_a_jobs_is_called_as_people_know_it(self, alice: Place) -> None:
        assert "job 1.<wbr>0.<wbr>0" in alice.get("dispatchers")

    def test_a_filter_that_can_never_match_is_warned_of(self, alice: Place) -> None:
        broken = factory.dispatcher(
            alice.environment, to=factory.to_url("http://127.0.0.1:1/"), payload_filter={"a": [{"$nonsense": 1}]}
        )

        assert "$nonsense" in alice.get(f"dispatchers/{broken}").partition('role="note"')[2].partition("</p>")[0]

    @pytest.mark.parametrize(
        ("form", "status", "said"),
        [
            ({"name": "order.paid", "payload": '{"amount": 42}'}, 200, "It takes the event"),
            ({"name": "order.paid", "payload": '{"amount": 1}'}, 200, "payload.amount: $gt 10 does not hold for 1"),
            ({"name": "order.lost", "payload": "{}", "account": "acme"}, 200, "the event is called order.lost"),
            ({"event_id": "order-1"}, 200, "dead"),
            ({"event_id": "order-2"}, 422, "Event not found"),
            ({"name": "order.paid", "payload": "{"}, 422, "The payload is no JSON"),
            ({"name": "order.paid", "context": "{"}, 422, "The context is no JSON"),
            ({"name": "", "payload": "{}"}, 200, "the event is called"),
        ],
    )
    def test_it_is_asked_about_an_event(self, alice: Place, form: dict[str, str], status: int, said: str) -> None:
        answer = alice.post(f"dispatchers/{alice.webhook}/explain", **form)

        assert answer.status_code == status
        assert said in answer.text

    def test_the_form_begins_with_the_last_event_that_it_took_whose_context_counts(self, alice: Place) -> None:
        eu_only = {"context_filter": {"region": ["eu"]}}
        dispatcher = factory.dispatcher(alice.environment, to=factory.to_url("http://127.0.0.1:1/"), **eu_only)
        with db.unit():
            event = factory.event(payload='{"amount": 42}', context='{"region": "eu"}')
            record = ingest.ingest_send_event(alice.environment, event)
        deliver.deliver([record.id])

        page = alice.get(f"dispatchers/{dispatcher}")
        begun = {name: unescape(text) for name, text in re.findall(r'<textarea name="(\w+)"[^>]*>([^<]*)<', page)}
        taken = alice.post(f"dispatchers/{dispatcher}/explain", name="order.paid", **begun)
        other = {**begun, "context": '{"region": "us"}'}
        refused = alice.post(f"dispatchers/{dispatcher}/explain", name="order.paid", **other)

        assert begun == {"payload": '{"amount": 42}', "context": '{"region": "eu"}'}
        assert "It takes the event" in taken.text
        assert "It does not take the event" in refused.text
        assert "context.region" in refused.text
        assert "region&#34;: &#34;us" in refused.text

    def test_neither_a_test_nor_what_was_cancelled_is_what_it_begins_with(self, alice: Place) -> None:
        for amount in (11, 12):
            with db.unit():
                record = ingest.ingest_send_event(alice.environment, factory.event(payload=f'{{"amount": {amount}}}'))
            deliver.deliver([record.id])
        with db.unit():
            cancel.cancel_event(alice.environment, record.event_id)
        alice.post(f"dispatchers/{alice.webhook}/test")

        page = alice.get(f"dispatchers/{alice.webhook}")

        assert "kongflow.webhook.test" not in page
        assert "&#34;amount&#34;: 11}" in page

    def test_one_that_is_resumed_while_its_target_rests_says_what_it_waits_for(self, alice: Place) -> None:
        said = []
        for rest in ("0 hours", "1 hour"):
            alice.post(f"dispatchers/{alice.webhook}/pause")
            with db.unit():
                db.run(
                    "UPDATE targets SET failures = 3, rests_until = now() + %s::interval WHERE dispatcher_id = %s",
                    (rest, alice.webhook),
                )
            alice.post(f"dispatchers/{alice.webhook}/resume")
            said.append(alice.get(f"dispatchers/{alice.webhook}").partition('role="status">')[2].partition("</p>")[0])

        assert said[0] == "It goes on: what has waited is called, oldest first"
        assert unescape(said[1]).startswith("It goes on when its target's rest is over; Try its target now")

    def test_one_that_is_not_there_is_not_found(self, alice: Place) -> None:
        for path in (f"dispatchers/{uuid.uuid4()}", f"runs/{uuid.uuid4()}", "dead/redrives/12", "dispatchers/%00"):
            assert alice.browser.get(alice.at(path)).status_code == 404
        assert alice.post(f"dispatchers/{uuid.uuid4()}/explain", name="order.paid").status_code == 404


class TestDeadLetters:
    @pytest.mark.parametrize(
        ("query", "number"),
        [
            ({}, 1),
            ({"name": "order.paid", "error_class": "refused"}, 1),
            ({"error_class": "timeout"}, 0),
            ({"since": "2026-01-01T00:00"}, 1),
            ({"since": "2026-01-01T00:00+23:59"}, 1),
            ({"until": "2026-01-01"}, 0),
            ({"dispatcher": "nobody"}, 0),
            ({"of": "deliveries"}, 0),
        ],
    )
    def test_they_are_listed_and_counted_by_the_same_filters(
        self, alice: Place, query: dict[str, str], number: int
    ) -> None:
        assert cells(alice.get("dead", **query)) == number
        assert f"Redrive {number} dead" in alice.get("dead/redrive", **query)

    @pytest.mark.parametrize("since", ["yesterday", "0001-01-01T00:00+01:00"])
    def test_a_time_that_is_none_is_told(self, alice: Place, since: str) -> None:
        answer = alice.browser.get(alice.at("dead"), params={"since": since})

        assert answer.status_code == 400
        assert "since is not a time" in answer.text

    def test_an_event_that_was_not_delivered_is_one_and_dismissed(self, alice: Place) -> None:
        with db.unit():
            ingest.ingest_send_event(alice.environment, factory.event(id="late"))
            db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity', last_error = 'a bad day', attempts = 5")

        assert "a bad day" in alice.get("dead", of="deliveries", name="order.paid")
        assert alice.post("dead/dismiss-one", of="deliveries", id="late").status_code == 303
        assert cells(alice.get("dead", of="deliveries")) == 0

    def test_the_way_from_the_overview_to_them_leads_where_there_are_some(self, alice: Place) -> None:
        assert leads(alice, "to-dead-letters") == [alice.at("dead")]
        assert "Invocations 1 Deliveries 0" in text(alice.get("dead"))
        assert "No dead deliveries Dead invocations : 1." in text(alice.get("dead", of="deliveries"))

        alice.post("dead/dismiss-one", of="invocations", id=alice.dead)
        assert "No dead invocations Nothing has used up its attempts." in text(alice.get("dead"))
        with db.unit():
            ingest.ingest_send_event(alice.environment, factory.event(id="late"))
            db.run("UPDATE outbox SET died_at = now(), hint_at = 'infinity', attempts = 5")

        assert leads(alice, "to-dead-letters") == [alice.at("dead?of=deliveries")]
        assert "Invocations 0 Deliveries 1" in text(alice.get("dead"))
        assert "No dead invocations Dead deliveries : 1." in text(alice.get("dead"))

    def test_more_than_are_counted_are_said_to_be_more(self, alice: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(console_overview, "dead", lambda _: console_overview.Dead(10_001, 10_000))

        assert "Invocations over 10,000 Deliveries 10,000" in text(alice.get("dead"))

    def test_a_redrive_shows_how_far_it_is_until_it_is_stopped(self, alice: Place) -> None:
        begun = alice.post("dead/redrive?name=order.paid", rate="10").headers["location"]
        number = begun.rpartition("/")[2]

        page = alice.browser.get(begun).text
        assert f"redrives/{number}/progress" in page
        assert "0 of 1" in page
        assert "10 a second at the most" in alice.get(f"dead/redrives/{number}/progress")
        assert alice.post(f"dead/redrives/{number}/stop").status_code == 303
        assert "hx-get" not in alice.browser.get(begun).text
        assert f"dead/redrives/{number}" in alice.get("dead")


class TestRuns:
    def test_they_are_listed_over_all_jobs_newest_first_and_by_one(self, alice: Place) -> None:
        for number in range(3):
            version = factory.job(alice.environment, f"job-{number}")
            factory.dispatcher(alice.environment, to=factory.to_job(version))
        for number in range(12):
            alice.send(f"order-{number + 2}")

        first = alice.get("runs")
        shown = re.findall(r'/runs/([0-9a-f-]{36})"', first)
        older = re.search(r'href="([^"]*before=[^"]*)" rel="next"', first)
        assert older is not None
        rest = re.findall(r'/runs/([0-9a-f-]{36})"', alice.browser.get(older[1].replace("&amp;", "&")).text)

        with db.unit():
            every = [str(row.id) for row in models.JobRun.select().order_by(models.JobRun.id.desc())]
        assert shown + rest == every
        assert cells(alice.get("runs", job="job-1")) == 12
        assert cells(alice.get("runs", status="CANCELED")) == 0
        assert cells(alice.get("runs", status="PENDING")) == 25

    def test_a_look_that_found_nothing_wanted_says_where_to_go_on(self, alice: Place) -> None:
        with db.unit():
            run = models.JobRun.select().get()
            db.run(
                """INSERT INTO job_runs (id, environment_id, job_id, version_id, event_record_id, status)
                   SELECT gen_random_uuid(), %s, %s, %s, %s, 'SUCCESS' FROM generate_series(1, 600)""",
                (run.environment_id, run.job_id, run.version_id, run.event_record_id),
            )
            found = console_runs.newest(
                alice.environment.id, alice.environment.project_id, console_runs.Wanted(status="FAILURE"), None, 25
            )

        assert found.items == []
        assert found.next is not None
        assert "Look further back" in alice.get("runs", status="FAILURE")


class TestKeys:
    def test_a_key_is_shown_in_the_answer_that_makes_it_and_nowhere_else(self, alice: Place) -> None:
        answer = alice.post("keys/create", kind="public", expires="in 90 days")

        shown = re.search(r"pk_dev_[A-Za-z0-9]{32}", answer.text)
        assert shown is not None
        assert answer.headers["cache-control"] == "no-store"
        page = alice.get("keys")
        assert shown[0] not in page
        assert shown[0][:11] in page
        assert "in 89 d" in page
        with db.unit():
            assert shown[0] not in str(list(models.AuditEntry.select().dicts()))

    def test_a_revoked_one_is_told_from_a_live_one(self, alice: Place) -> None:
        with db.unit():
            made = keys.create_key(alice.environment)
            keys.create_key(alice.environment, seconds=-1)
        alice.post(f"keys/{made.id}/revoke")

        page = alice.get("keys")

        assert ">revoked<" in page
        assert ">expired<" in page

    def test_a_webhooks_secret_is_shown_once_and_the_old_one_signs_on(self, alice: Place) -> None:
        answer = alice.post(f"dispatchers/{alice.webhook}/rotate-secret", overlap="7 days")

        assert re.search(r"whsec_\S{20,}", answer.text)
        assert "1, ending <time" in alice.get("keys")


class TestStrips:
    def test_its_words_say_what_its_colours_say(self) -> None:
        def one(status: str, attempts: int = 1) -> console_dispatchers.Recent:
            return console_dispatchers.Recent(
                id=uuid.uuid4(),
                dispatcher_id=uuid.uuid4(),
                status=status,
                created_at=datetime.now(UTC),
                completed_at=None,
                attempts=attempts,
                redrives=0,
                last_error=None,
                last_outcome=None,
                reason=None,
                event_record_id=uuid.uuid4(),
            )

        strip = strips.of_invocations([one("DEAD"), one("PENDING"), one("PENDING", 0), one("SUCCEEDED")], 6)

        assert strip.says == "The last 4 invocations: 1 succeeded, 1 pending, 1 trying again, 1 dead"
        assert [mark.tone for mark in strip.marks] == ["good", "busy", "warn", "bad"]
        assert strip.marks[-1].x == strip.width - 7
        assert len({mark.height for mark in strip.marks}) == 4

    def test_without_anything_it_says_so(self) -> None:
        assert strips.of_attempts([], 6) == strips.Strip([], 42, "No attempts yet")
