"""Calls to URLs: what the receiver gets, what its answers lead to, and what a worker that died leaves behind."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kongflow_events import models, retries, schemas, words
from kongflow_events.services import cancel, deliver, expire, ingest, post
from kongflow_events.store import db, posts
from tests import factory, receiver
from tests.receiver import Receiver


@pytest.mark.usefixtures("store")
class TestPost:
    @pytest.fixture
    def alice(self) -> words.Environment:
        return factory.environment("alice")

    @pytest.fixture
    def waiting(self, alice: words.Environment) -> Callable[..., uuid.UUID]:
        """A one-shot dispatcher for a URL, with an event delivered to it; returns the invocation."""

        def send(url: str, **event: Any) -> uuid.UUID:
            factory.dispatcher(alice, to=factory.to_url(url), one_shot=True)
            with db.unit():
                options = schemas.SendOptions(account_id="acme")
                record = ingest.ingest_send_event(alice, factory.event(**{"id": "1", **event}), options)
            [made] = deliver.deliver([record.id])["post"]
            return made

        return send

    def state(self, invocation_id: uuid.UUID) -> models.Invocation:
        with db.unit():
            return models.Invocation.get_by_id(invocation_id)

    def attempts(self) -> list[models.InvocationAttempt]:
        with db.unit():
            return list(models.InvocationAttempt.select().order_by(models.InvocationAttempt.number))

    def owed(self) -> list[models.Outbox]:
        with db.unit():
            return list(models.Outbox.select())

    def make_due(self) -> None:
        with db.unit():
            db.run("UPDATE outbox SET due_at = now(), lease_until = NULL")

    def test_the_receiver_gets_upstreams_body_with_the_senders_own_payload(
        self, waiting: Callable[..., uuid.UUID]
    ) -> None:
        with Receiver() as target:
            made = waiting(target.url, payload='{"b": 1.10, "a": 2}', timestamp=datetime(2020, 1, 1, tzinfo=UTC))
            post.post([made])

        [seen] = target.calls
        assert seen.headers["content-type"] == "application/json; charset=utf-8"
        assert "authorization" not in seen.headers
        assert seen.headers["webhook-id"] == str(made)
        assert b'"payload":{"b": 1.10, "a": 2}' in seen.body
        assert list(json.loads(seen.body)) == ["id", "source", "name", "payload", "context", "timestamp", "accountId"]
        assert json.loads(seen.body)["timestamp"] == "2020-01-01T00:00:00.000Z"

    def test_success_ends_the_invocation_and_the_dispatcher(self, waiting: Callable[..., uuid.UUID]) -> None:
        with Receiver() as target:
            made = waiting(target.url)
            post.post([made, made])

        assert len(target.calls) == 1
        assert (self.state(made).status, self.state(made).attempts) == ("SUCCEEDED", 1)
        assert self.owed() == []
        [attempt] = self.attempts()
        assert (attempt.outcome, attempt.status_code, attempt.answer) == ("succeeded", 200, "ok")
        with db.unit():
            assert models.EventDispatcher.select().count() == models.EventDispatcherName.select().count() == 0

    def test_a_refusal_is_tried_again_with_the_same_id_and_bytes(self, waiting: Callable[..., uuid.UUID]) -> None:
        with Receiver(receiver.status(500), receiver.status(200)) as target:
            made = waiting(target.url)
            post.post([made])
            [row] = self.owed()
            assert (row.attempts, row.token, row.last_error) == (1, None, "the target answered 500")
            post.post([made])  # not due yet
            self.make_due()
            post.post([made])

        first, second = target.calls
        assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
        assert [(one.number, one.outcome) for one in self.attempts()] == [(1, "refused"), (2, "succeeded")]
        assert self.state(made).attempts == 2

    @pytest.mark.parametrize(
        ("asked", "minutes"),
        [("600", 10), ("31536000", 60), ("Fri, 31 Dec 9999 23:59:59 GMT", 60), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],
    )
    def test_retry_after_puts_the_next_try_off_but_not_for_longer_than_an_hour(
        self, waiting: Callable[..., uuid.UUID], asked: str, minutes: int
    ) -> None:
        with Receiver(receiver.status(503, Retry_After=asked)) as target:
            post.post([waiting(target.url)])

        with db.unit():
            [row] = db.rows("SELECT extract(epoch FROM due_at - now()) / 60 AS minutes FROM outbox")
        assert minutes - 1 < row["minutes"] < minutes + 0.1

    def test_ten_failures_are_a_dead_letter_with_every_attempt(self, waiting: Callable[..., uuid.UUID]) -> None:
        with Receiver(receiver.status(500)) as target:
            made = waiting(target.url)
            for _ in range(retries.LIMITS["post"]):
                self.make_due()
                post.post([made])

        dead = self.state(made)
        assert (dead.status, dead.reason, dead.attempts) == ("DEAD", "the target answered 500", 10)
        assert dead.died_at is not None
        assert dead.pending_one_shot is None
        assert len(self.attempts()) == 10
        assert self.owed() == []

    def test_a_target_that_is_not_public_is_a_blocked_attempt(self, waiting: Callable[..., uuid.UUID]) -> None:
        made = waiting("http://10.0.0.1/")
        post.post([made])

        assert self.attempts()[0].outcome == "blocked"
        assert "not public" in self.state(made).last_error

    def test_an_answer_that_postgresql_would_refuse_is_cleaned(self, waiting: Callable[..., uuid.UUID]) -> None:
        def nasty(handler: Any) -> None:
            handler.send_response(500)
            handler.send_header("Content-Length", "6")
            handler.end_headers()
            handler.wfile.write(b"a\0b\xff\xed\xa0")

        with Receiver(nasty) as target:
            post.post([waiting(target.url)])

        assert self.attempts()[0].answer.startswith("a\N{REPLACEMENT CHARACTER}b")

    def test_a_worker_that_outlived_its_lease_changes_nothing(self, waiting: Callable[..., uuid.UUID]) -> None:
        with Receiver() as target:
            made = waiting(target.url)
            with db.unit():
                slow = posts.claim(made, 60, 4)
                assert slow is not None
                assert posts.claim(made, 60, 4) is None
                db.run("UPDATE outbox SET lease_until = now() - interval '1 s'")
                quick = posts.claim(made, 60, 4)
                assert quick is not None
                assert posts.finish(slow, "DEAD", "late", posts.Attempt(1, "refused", 1)) is None
                assert not posts.postpone(slow, 1, posts.Attempt(1, "refused", 1))
                assert self.attempts() == []
                assert posts.finish(quick, "SUCCEEDED", None, posts.Attempt(2, "succeeded", 1, 200))

        assert self.state(made).status == "SUCCEEDED"

    @pytest.mark.parametrize(("pause", "hinted_at_the_leases_end"), [("1 hour", True), ("5 seconds", False)])
    def test_a_worker_that_dies_is_followed_by_a_hint_at_the_end_of_its_lease(
        self, waiting: Callable[..., uuid.UUID], pause: str, hinted_at_the_leases_end: bool
    ) -> None:
        made = waiting("http://127.0.0.1:1/")
        with db.unit():
            db.run("UPDATE outbox SET hint_at = now() + %s::interval, hints = 12", (pause,))
            assert posts.claim(made, 60, 4)

        [row] = self.owed()
        assert (row.hint_at == row.lease_until) is hinted_at_the_leases_end
        assert row.hint_at <= row.lease_until

    def test_a_row_whose_workers_died_is_buried_without_a_call(self, waiting: Callable[..., uuid.UUID]) -> None:
        with Receiver() as target:
            made = waiting(target.url)
            with db.unit():
                db.run("UPDATE outbox SET attempts = 10")
            post.post([made])

        assert target.calls == []
        assert (self.state(made).status, self.state(made).reason) == ("DEAD", retries.WORKER_LOST)
        assert [(one.number, one.outcome) for one in self.attempts()] == [(11, "lost")]

    @pytest.mark.parametrize(
        ("change", "status", "reason"),
        [
            ("UPDATE event_dispatchers SET enabled = FALSE", "SKIPPED", "the dispatcher is disabled"),
            ("DELETE FROM event_dispatchers", "SKIPPED", "the dispatcher was deleted"),
            ("UPDATE event_dispatchers SET expires_at = now()", "SKIPPED", "the dispatcher has expired"),
            ("UPDATE event_records SET cancelled_at = now()", "CANCELED", "event cancelled"),
        ],
    )
    def test_what_is_not_wanted_any_more_is_not_called(
        self, waiting: Callable[..., uuid.UUID], change: str, status: str, reason: str
    ) -> None:
        with Receiver() as target:
            made = waiting(target.url)
            with db.unit():
                db.run(change)
            post.post([made])

        assert target.calls == []
        assert (self.state(made).status, self.state(made).reason) == (status, reason)

    def test_cancelling_the_event_cancels_its_pending_call(
        self, alice: words.Environment, waiting: Callable[..., uuid.UUID]
    ) -> None:
        made = waiting("http://127.0.0.1:1/")
        with db.unit():
            cancel.cancel_event(alice, "1")

        assert (self.state(made).status, self.owed()) == ("CANCELED", [])
        assert self.state(made).pending_one_shot is None

    def test_a_url_that_became_malformed_does_not_stop_the_worker(self, waiting: Callable[..., uuid.UUID]) -> None:
        made = waiting("nonsense")
        post.post([made])

        assert "absolute http" in self.state(made).last_error

    def test_dispatchers_whose_time_is_over_are_deleted(self, alice: words.Environment) -> None:
        with db.unit():
            [clock] = db.rows("SELECT now() - interval '1 s' AS past, now() + interval '1 h' AS future")
        factory.dispatcher(alice, to=factory.to_url("http://a/"), expires_at=clock["past"])
        kept = {
            factory.dispatcher(alice, to=factory.to_url("http://b/"), expires_at=clock["future"]),
            factory.dispatcher(alice, to=factory.to_url("http://c/")),
        }
        with db.unit():
            assert expire.expire_dispatchers() == 1
            assert {row.id for row in models.EventDispatcher.select()} == kept
