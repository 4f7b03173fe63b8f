"""A paused webhook: what is owed to it waits and is kept, nothing is called, and nothing is lost."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from kongflow_events import errors, models, schemas, settings, vault, words
from kongflow_events.services import deliver, dispatchers, ingest, post
from kongflow_events.services.relay import Relay
from kongflow_events.store import db, outbox
from tests import factory, receiver
from tests.queues import Queue
from tests.receiver import Receiver

pytestmark = pytest.mark.usefixtures("store")


class Webhook:
    """A webhook of Alice's that hears `order.paid`, and its receiver."""

    def __init__(self, hook: Receiver) -> None:
        self.environment = factory.environment("alice")
        self.calls = hook.calls
        self.answers = hook.answers
        self.id = factory.dispatcher(self.environment, to={"type": words.WEBHOOK, "url": hook.url})
        with db.unit():
            vault.keep(self.id, "hmac", None)

    def change(self, **change: bool) -> dispatchers.Written:
        return dispatchers.update_event_dispatcher(self.environment, str(self.id), schemas.DispatcherChange(**change))

    def deliver(self, number: int = 1) -> list[uuid.UUID]:
        """Send events and deliver them; returns their invocations, due for a hint."""
        with db.unit():
            records = [ingest.ingest_send_event(self.environment, factory.event()).id for _ in range(number)]
        made: list[uuid.UUID] = deliver.deliver(records)["post"]
        with db.unit():
            db.run("UPDATE outbox SET hint_at = due_at WHERE subject_id = ANY(%s)", (made,))
        return made

    def target(self) -> schemas.Target:
        """How its receiver is doing, as the API shows it."""
        with db.unit():
            listed = dispatchers.get_event_dispatcher(self.environment, str(self.id))
        assert listed.standing is not None
        return schemas.target(listed.standing, rests=listed.rests, paused_at=listed.paused_at)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Receiver(receiver.status(200)) as hook:
        yield Webhook(hook)


def hinted() -> list[uuid.UUID]:
    """What a relay that begins now hints."""
    queue = Queue()
    Relay(queue, batch=100, high_water=500, places=settings.current().target_concurrency).tick()
    return queue.hinted


def states(ids: Sequence[uuid.UUID]) -> list[tuple[Any, ...]]:
    with db.unit():
        table = models.Invocation
        rows = table.select().where(table.id.in_(ids)).order_by(table.id)
        return [(row.status, row.reason, row.attempts) for row in rows]


def test_what_is_owed_to_it_waits_uncalled_unhinted_and_uses_up_no_attempt(webhook: Webhook) -> None:
    before = webhook.deliver()
    webhook.change(paused=True)
    waiting = [*before, *webhook.deliver(2)]

    for _ in range(12):
        post.post(waiting)

    assert webhook.calls == []
    assert hinted() == []
    assert states(waiting) == [("PENDING", None, 0)] * 3
    with db.unit():
        assert [row.attempts for row in models.Outbox.select()] == [0, 0, 0]


def test_once_it_is_resumed_everything_is_called_as_if_it_had_just_come(webhook: Webhook) -> None:
    webhook.change(paused=True)
    waiting = webhook.deliver(3)
    post.post(waiting)
    webhook.change(paused=False)

    found = hinted()
    assert sorted(found) == waiting
    post.post(found)
    assert states(waiting) == [("SUCCEEDED", None, 1)] * 3


def test_the_end_of_a_call_that_was_under_way_counts_and_hints_no_other(webhook: Webhook) -> None:
    [first, second] = webhook.deliver(2)

    def pause_in_the_middle(handler: Any) -> None:
        webhook.change(paused=True)
        receiver.status(200)(handler)

    webhook.answers[:] = [pause_in_the_middle]
    following = post.post([first])

    assert following == {"post": []}
    assert states([first, second]) == [("SUCCEEDED", None, 1), ("PENDING", None, 0)]


def test_a_failure_changes_its_circuit_and_not_its_pause(webhook: Webhook) -> None:
    [first] = webhook.deliver()

    def pause_and_fail(handler: Any) -> None:
        webhook.change(paused=True)
        receiver.status(500)(handler)

    webhook.answers[:] = [pause_and_fail]
    post.post([first])

    assert webhook.target().consecutive_failures == 1
    assert webhook.target().paused_at is not None
    webhook.change(enabled=True)
    assert webhook.target().consecutive_failures == 0
    assert webhook.target().paused_at is not None


def test_what_waits_for_one_that_is_disabled_too_is_kept_until_it_is_resumed(webhook: Webhook) -> None:
    webhook.change(paused=True)
    [waiting] = webhook.deliver()
    webhook.change(enabled=False)
    post.post([waiting])
    assert states([waiting]) == [("PENDING", None, 0)]

    webhook.change(paused=False)
    post.post([waiting])

    assert states([waiting]) == [("SKIPPED", "the dispatcher is disabled", 1)]


def test_pausing_twice_says_since_when_it_first_was(webhook: Webhook) -> None:
    webhook.change(paused=True)
    since = webhook.target().paused_at
    webhook.change(paused=True)

    assert webhook.target().paused_at == since


def test_another_target_goes_on(webhook: Webhook) -> None:
    other = factory.dispatcher(webhook.environment, to={"type": words.WEBHOOK, "url": "http://127.0.0.1:1/other"})
    webhook.change(paused=True)
    webhook.deliver()

    found = hinted()

    with db.unit():
        assert [models.Outbox.get_by_id(one).lane for one in found] == [other]
        assert outbox.hint_next(webhook.id) == []


def test_a_job_cannot_be_paused(webhook: Webhook) -> None:
    job = factory.dispatcher(webhook.environment, to=factory.to_job(factory.job(webhook.environment)))
    with pytest.raises(errors.Invalid, match="Only a WEBHOOK"):
        dispatchers.update_event_dispatcher(webhook.environment, str(job), schemas.DispatcherChange(paused=True))
