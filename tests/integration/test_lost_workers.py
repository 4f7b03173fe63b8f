"""Workers that are killed, and workers that come too late: what they leave behind, and what they may not touch."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from kongflow_events import models, retries, words
from kongflow_events.services import deliver, ingest, invoke, post
from kongflow_events.store import db
from tests import factory, receiver
from tests.receiver import Receiver
from tests.stepping import Worker, halting

WORK: dict[str, Callable[[uuid.UUID], Any]] = {
    "deliver": lambda subject: deliver.deliver([subject], one_by_one=True),
    "invoke": lambda subject: invoke.invoke([subject], one_by_one=True),
    "post": lambda subject: post.post([subject]),
}


@pytest.fixture(autouse=True)
def _halting(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with halting(monkeypatch):
        yield


@pytest.fixture
def alice(store: str) -> words.Environment:
    return factory.environment("alice")


@pytest.fixture
def target() -> Iterator[Receiver]:
    with Receiver() as target:
        yield target


@pytest.fixture
def owing(alice: words.Environment, target: Receiver) -> Callable[[str], uuid.UUID]:
    """Makes an event that is to be delivered, or an invocation of it that is to be invoked or posted."""

    def owe(kind: str) -> uuid.UUID:
        to = factory.to_url(target.url) if kind == "post" else factory.to_job(factory.job(alice))
        factory.dispatcher(alice, to=to)
        with db.unit():
            record = ingest.ingest_send_event(alice, factory.event())
        # Alone, so that also a job's run is owed.
        return record.id if kind == "deliver" else deliver.deliver([record.id], one_by_one=True)[kind][0]  # type: ignore[index]

    return owe


def row() -> models.Outbox | None:
    with db.unit():
        return models.Outbox.get_or_none()


def invocation() -> models.Invocation:
    with db.unit():
        return models.Invocation.get()


def attempts() -> list[tuple[int, str]]:
    with db.unit():
        found = models.InvocationAttempt.select().order_by(models.InvocationAttempt.number)
        return [(attempt.number, attempt.outcome) for attempt in found]


def told() -> dict[str, Any]:
    """What the ledger says of the one invocation, and what is owed."""
    left, ended = row(), invocation()
    return {
        "owed": left and (left.subject_id, left.attempts, left.token),
        "ended": (ended.status, ended.reason, ended.attempts, ended.last_error),
        "attempts": attempts(),
    }


def claimed(kind: str, subject: uuid.UUID) -> Worker:
    """A worker that has claimed the row, and stands before what comes next."""
    worker = Worker(lambda: WORK[kind](subject), transactions=True)
    worker.step()
    assert worker.halted
    return worker


def lease_runs_out() -> None:
    with db.unit():
        db.run("UPDATE outbox SET lease_until = now() - interval '1 second'")


@pytest.mark.parametrize(("kind", "limit"), [("deliver", 5), ("invoke", 6), ("post", 10)])
def test_a_row_at_which_worker_after_worker_is_killed_is_a_dead_letter(
    owing: Callable[[str], uuid.UUID], target: Receiver, kind: words.Kind, limit: int
) -> None:
    subject = owing(kind)
    for number in range(1, limit + 1):
        claimed(kind, subject).kill()
        left = row()
        assert left is not None
        assert (left.attempts, left.died_at) == (number, None)
        WORK[kind](subject)  # leased to the dead
        lease_runs_out()
    WORK[kind](subject)

    left = row()
    if kind == "deliver":
        assert left is not None
        assert (left.last_error, left.died_at is not None) == (retries.WORKER_LOST, True)
    else:
        assert left is None
        ended = invocation()
        assert (ended.status, ended.reason, ended.died_at is not None) == ("DEAD", retries.WORKER_LOST, True)
        assert attempts() == [(limit + 1, "lost")]
    assert len(target.calls) == (limit if kind == "post" else 0)


def test_an_attempt_is_counted_before_the_call(owing: Callable[[str], uuid.UUID], target: Receiver) -> None:
    subject = owing("post")
    seen: list[models.Outbox | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(row())
        receiver.status(200)(handler)

    target.answers = [answer]
    post.post([subject])

    [during] = seen
    assert during is not None
    assert (during.attempts, during.token is not None) == (1, True)


@pytest.mark.parametrize("breaks", [False, True], ids=["finishes", "fails"])
@pytest.mark.parametrize("kind", ["deliver", "invoke", "post"])
def test_a_worker_that_outlived_its_lease_changes_nothing_whatever_it_comes_to(
    owing: Callable[[str], uuid.UUID], target: Receiver, kind: str, breaks: bool
) -> None:
    subject = owing(kind)
    target.answers = [receiver.status(500 if breaks else 200), receiver.status(200)]
    late = claimed(kind, subject)
    lease_runs_out()
    WORK[kind](subject)
    before = told()

    late.step(RuntimeError("it broke") if breaks and kind != "post" else None)
    while not late.ended:
        late.step()

    assert (told(), late.error) == (before, None)


def test_a_worker_that_outlived_its_lease_cannot_bury_what_another_works_on(
    owing: Callable[[str], uuid.UUID],
) -> None:
    subject = owing("invoke")
    with db.unit():
        db.run("UPDATE outbox SET attempts = %s", (retries.LIMITS["invoke"] - 1,))
    late = claimed("invoke", subject)
    lease_runs_out()
    with db.unit():
        db.run("UPDATE outbox SET attempts = 0")
    other = claimed("invoke", subject)
    late.step(RuntimeError("it broke"))
    late.step()
    assert (late.ended, invocation().status, attempts()) == (True, "PENDING", [])

    other.step()
    assert (other.ended, invocation().status, invocation().attempts) == (True, "SUCCEEDED", 1)
