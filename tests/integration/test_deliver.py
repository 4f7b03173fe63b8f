"""Delivery: who matches, one invocation for each match, and what a failing row does to the others."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from kongflow_events import models, patterns, retries, schemas, words
from kongflow_events.services import cancel, deliver, ingest, invoke
from kongflow_events.store import db, deliveries
from tests import factory
from tests.plans import rows_read

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def alice() -> words.Environment:
    return factory.environment("alice")


@pytest.fixture
def job(alice: words.Environment) -> models.JobVersion:
    return factory.job(alice)


def send(environment: words.Environment, account: str | None = None, **fields: Any) -> uuid.UUID:
    options = schemas.SendOptions(account_id=account)
    with db.unit():
        return ingest.ingest_send_event(environment, factory.event(**fields), options).id


def record(record_id: uuid.UUID) -> models.EventRecord:
    with db.unit():
        return models.EventRecord.get_by_id(record_id)


def invocations() -> list[models.Invocation]:
    with db.unit():
        return list(models.Invocation.select().order_by(models.Invocation.id))


def runs() -> list[models.JobRun]:
    with db.unit():
        return list(models.JobRun.select())


def outbox() -> list[models.Outbox]:
    with db.unit():
        return list(models.Outbox.select().order_by(models.Outbox.subject_id))


def delivered_to(record_id: uuid.UUID) -> set[uuid.UUID]:
    deliver.deliver([record_id])
    return {one.dispatcher_id for one in invocations() if one.event_record_id == record_id}


def test_a_match_becomes_an_invocation_and_stamps_the_event(alice: words.Environment) -> None:
    trigger = {"type": words.DYNAMIC_TRIGGER, "id": str(factory.trigger(alice))}
    listening = factory.dispatcher(alice, to=trigger)
    event = send(alice)

    hints = deliver.deliver([event])

    [made] = invocations()
    assert (made.event_record_id, made.dispatcher_id, made.status) == (event, listening, "PENDING")
    assert (made.dispatcher_event, made.dispatchable) == (factory.JOB_EVENT, trigger)
    assert record(event).delivered_at is not None
    assert hints["invoke"] == [made.id]
    [owed] = outbox()
    assert (owed.subject_id, owed.kind, owed.lane) == (made.id, "invoke", alice.id)


def test_a_version_of_a_job_has_its_run_with_the_delivery(alice: words.Environment, job: models.JobVersion) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    event = send(alice, "acme")

    hints = deliver.deliver([event])

    [made] = invocations()
    assert (made.status, made.attempts, made.completed_at is not None) == ("SUCCEEDED", 1, True)
    [run] = runs()
    assert (run.status, run.job_id, run.version_id, run.environment_id) == ("PENDING", job.job_id, job.id, alice.id)
    assert (run.event_record_id, run.invocation_id) == (event, made.id)
    assert run.external_account_id == record(event).external_account_id is not None
    assert not any(hints.values())
    assert outbox() == []


@pytest.mark.parametrize(
    "change",
    [
        "SET dispatchable = jsonb_set(dispatchable, '{id}', to_jsonb(gen_random_uuid()))",
        "SET dispatchable = jsonb_set(dispatchable, '{id}', '\"no id\"')",
        "SET dispatchable = dispatchable - 'id'",
    ],
)
def test_a_version_that_cannot_be_started_is_left_to_who_can_say_why(
    alice: words.Environment, job: models.JobVersion, change: str
) -> None:
    good, bad = (factory.dispatcher(alice, to=factory.to_job(job)) for _ in range(2))
    with db.unit():
        db.run(f"UPDATE event_dispatchers {change} WHERE id = %s", (bad,))

    hints = deliver.deliver([send(alice)])

    statuses = {one.dispatcher_id: one.status for one in invocations()}
    assert statuses == {good: "SUCCEEDED", bad: "PENDING"}
    assert [row.subject_id for row in outbox()] == hints["invoke"] != []


def test_runs_that_cannot_be_made_keep_no_event_from_being_delivered(
    alice: words.Environment, job: models.JobVersion
) -> None:
    broken = factory.job(alice, "broken")
    factory.dispatcher(alice, to=factory.to_job(job), payload_filter={"n": [1]})
    factory.dispatcher(alice, to=factory.to_job(broken), payload_filter={"n": [2]})
    with db.unit():
        db.run("ALTER TABLE job_runs ADD CONSTRAINT broken CHECK (version_id <> %s)", (broken.id,))
    events = [send(alice, payload=f'{{"n":{n}}}') for n in (1, 2)]

    hints = deliver.deliver(events)
    invoke.invoke(hints["invoke"])

    assert {one.event_record_id: one.status for one in invocations()} == dict(
        zip(events, ("SUCCEEDED", "PENDING"), strict=True)
    )
    assert [run.job_id for run in runs()] == [job.job_id]
    [owed] = outbox()
    assert (owed.kind, owed.attempts) == ("invoke", 1)


def test_an_event_nobody_listens_to_is_finished_but_not_stamped(alice: words.Environment) -> None:
    event = send(alice)
    deliver.deliver([event])

    assert record(event).delivered_at is None
    assert outbox() == []


def test_sending_an_unmatched_id_again_delivers_it_to_those_who_listen_by_then(
    alice: words.Environment, job: models.JobVersion
) -> None:
    event = send(alice, id="1", payload='{"n":1}')
    deliver.deliver([event])
    later = factory.dispatcher(alice, to=factory.to_job(job), payload_filter={"n": [1]})
    send(alice, id="1", payload='{"n":2}')

    assert delivered_to(event) == {later}


def test_every_name_of_a_dispatcher_is_listened_to(alice: words.Environment, job: models.JobVersion) -> None:
    both = factory.dispatcher(alice, "a", "b", to=factory.to_job(job))

    assert delivered_to(send(alice, name="a")) == delivered_to(send(alice, name="b")) == {both}
    assert delivered_to(send(alice, name="c")) == set()


@pytest.mark.parametrize(
    "columns",
    [
        {"source": "github.com"},
        {"enabled": False},
        {"manual": True},
        {"payload_filter": {"n": [2]}},
        {"context_filter": {"n": [2]}},
        {"payload_filter": {"n": [{"$gt": 1}]}, "context_filter": {}},
    ],
)
def test_who_asks_for_something_else_gets_nothing(
    alice: words.Environment, job: models.JobVersion, columns: dict[str, Any]
) -> None:
    factory.dispatcher(alice, to=factory.to_job(job), **columns)

    assert delivered_to(send(alice, payload='{"n":1}', context='{"n":1}')) == set()


def test_another_environment_with_the_same_names_gets_nothing(alice: words.Environment, job: models.JobVersion) -> None:
    bob = factory.environment("bob")
    factory.dispatcher(bob, to=factory.to_job(factory.job(bob)))

    assert delivered_to(send(alice)) == set()


def test_an_account_is_checked_even_without_filters(alice: words.Environment, job: models.JobVersion) -> None:
    acme = factory.dispatcher(alice, to=factory.to_job(job), external_account_id=factory.account(alice, "acme"))
    anyone = factory.dispatcher(alice, to=factory.to_job(job))

    assert delivered_to(send(alice, "acme")) == {acme, anyone}
    assert delivered_to(send(alice, "other")) == {anyone}
    assert delivered_to(send(alice)) == {anyone}


def test_a_changed_filter_counts_at_once(alice: words.Environment, job: models.JobVersion) -> None:
    listening = factory.dispatcher(alice, to=factory.to_job(job), payload_filter={"n": [2]})
    assert delivered_to(send(alice, payload='{"n":1}')) == set()

    with db.unit():
        models.EventDispatcher.update(payload_filter={"n": [1]}).where(models.EventDispatcher.id == listening).execute()

    assert delivered_to(send(alice, payload='{"n":1}')) == {listening}


def test_a_stored_filter_that_is_invalid_matches_nothing_and_harms_nobody(
    alice: words.Environment, job: models.JobVersion
) -> None:
    factory.dispatcher(alice, to=factory.to_job(job), payload_filter={"n": "not a matcher"})
    good = factory.dispatcher(alice, to=factory.to_job(job))

    assert delivered_to(send(alice)) == {good}


def test_a_second_delivery_of_an_event_does_nothing(alice: words.Environment, job: models.JobVersion) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    event = send(alice)
    deliver.deliver([event, event])
    deliver.deliver([event])

    assert len(invocations()) == 1


def test_a_cancelled_event_is_not_delivered(alice: words.Environment, job: models.JobVersion) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    event = send(alice, id="1")
    with db.unit():
        cancel.cancel_event(alice, "1")

    assert delivered_to(event) == set()
    assert outbox() == []


def test_an_event_that_is_not_due_waits(alice: words.Environment, job: models.JobVersion) -> None:
    factory.dispatcher(alice, to=factory.to_job(job))
    with db.unit():
        event = ingest.ingest_send_event(alice, factory.event(), schemas.SendOptions(deliver_after=60)).id

    assert delivered_to(event) == set()
    assert [row.subject_id for row in outbox()] == [event]


class TestPatterns:
    @pytest.mark.parametrize(
        ("name", "event", "heard"),
        [
            ("order.*", "order.paid", True),
            ("order.*", "order.paid.late", True),
            ("order.*", "order", False),
            ("order.*", "Order.paid", False),
            ("order.*", "orders.paid", False),
            ("*.paid", "order.paid", True),
            ("*.paid", "shop.order.paid", False),
            ("order.*.late", "order.paid.late", True),
            ("order.*.late", "order.paid.very.late", False),
            ("*", "anything at all", True),
            ("*", "", True),
            ("order*", "order.paid", False),
            ("order*", "order*", True),
            ("order.*", "order.*", True),
        ],
    )
    def test_a_star_stands_for_a_segment_or_for_the_rest(
        self, alice: words.Environment, job: models.JobVersion, name: str, event: str, heard: bool
    ) -> None:
        listening = factory.dispatcher(alice, name, to=factory.to_job(job))

        assert delivered_to(send(alice, name=event)) == ({listening} if heard else set())

    def test_a_dispatcher_that_hears_an_event_by_several_names_gets_it_once(
        self, alice: words.Environment, job: models.JobVersion
    ) -> None:
        both = factory.dispatcher(alice, "order.paid", "order.*", "*", to=factory.to_job(job))
        one = factory.dispatcher(alice, "*.paid", to=factory.to_job(job))
        event = send(alice, name="order.paid")

        assert delivered_to(event) == {both, one}
        assert len(invocations()) == 2

    def test_patterns_keep_to_their_environment_source_and_filter(
        self, alice: words.Environment, job: models.JobVersion
    ) -> None:
        bob = factory.environment("bob")
        factory.dispatcher(bob, "*", to=factory.to_job(job))
        factory.dispatcher(alice, "*", to=factory.to_job(job), source="elsewhere")
        factory.dispatcher(alice, "*", to=factory.to_job(job), payload_filter={"a": [1]})

        assert delivered_to(send(alice, payload='{"a":2}')) == set()


def test_two_workers_on_one_event_make_one_set_of_invocations(alice: words.Environment, job: models.JobVersion) -> None:
    for _ in range(5):
        factory.dispatcher(alice, to=factory.to_job(job))
    events = [send(alice) for _ in range(50)]
    together = threading.Barrier(4)

    def worker() -> None:
        together.wait()
        deliver.deliver(events)

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deliver.deliver(events)  # what every worker skipped because another held it

    assert len(invocations()) == len(runs()) == 250
    assert outbox() == []


def test_one_transaction_writes_at_most_its_share_and_leaves_the_rest(
    alice: words.Environment, job: models.JobVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "MOST_INVOCATIONS", 3)
    for _ in range(2):
        factory.dispatcher(alice, to=factory.to_job(job))
    events = sorted(send(alice) for _ in range(3))

    hints = deliver.deliver(events)

    assert len(invocations()) == 2
    assert hints["deliver"] == events[1:]
    assert {row.subject_id for row in outbox() if row.kind == "deliver"} == set(events[1:])


class TestOneShot:
    def test_only_the_first_event_is_pending_and_later_ones_are_superseded(self, alice: words.Environment) -> None:
        waiting = factory.dispatcher(alice, to=factory.to_url("http://127.0.0.1/"), one_shot=True)
        first, second = sorted([send(alice), send(alice)])
        hints = deliver.deliver([first, second])

        states = {one.event_record_id: (one.status, one.dispatcher_id) for one in invocations()}
        assert states == {first: ("PENDING", waiting), second: ("SKIPPED", waiting)}
        assert len(hints["post"]) == 1
        assert record(second).delivered_at is not None
        [owed] = outbox()
        assert (owed.kind, owed.lane) == ("post", waiting)

    def test_an_expired_one_gets_nothing(self, alice: words.Environment) -> None:
        with db.unit():
            past = db.rows("SELECT now() - interval '1 second' AS past")[0]["past"]
        factory.dispatcher(alice, to=factory.to_url("http://127.0.0.1/"), one_shot=True, expires_at=past)

        assert delivered_to(send(alice)) == set()


class TestRequests:
    """Events of payload type REQUEST, as HTTP endpoints send them."""

    def request(self, body: str, kind: str = "application/json; charset=utf-8") -> str:
        raw = {"url": "https://x/", "method": "POST", "headers": {"content-type": kind}, "rawBody": body}
        return schemas.encode(raw).decode()

    def test_a_json_body_is_seen_parsed(self, alice: words.Environment, job: models.JobVersion) -> None:
        listening = factory.dispatcher(
            alice, to=factory.to_job(job), payload_filter={"method": ["POST"], "body": {"n": [1]}}
        )

        assert delivered_to(send(alice, payload=self.request('{"n":1}'), payload_type="REQUEST")) == {listening}
        assert delivered_to(send(alice, payload=self.request('{"n":2}'), payload_type="REQUEST")) == set()

    def test_another_body_is_seen_raw(self, alice: words.Environment, job: models.JobVersion) -> None:
        listening = factory.dispatcher(alice, to=factory.to_job(job), payload_filter={"rawBody": ["hello"]})

        assert delivered_to(send(alice, payload=self.request("hello", "text/plain"), payload_type="REQUEST")) == {
            listening
        }

    @pytest.mark.parametrize("payload", ['{"not":"a request"}', "[]", "1"])
    def test_what_is_no_request_matches_no_filter(
        self, alice: words.Environment, job: models.JobVersion, payload: str
    ) -> None:
        factory.dispatcher(alice, to=factory.to_job(job), payload_filter={})

        assert delivered_to(send(alice, payload=payload, payload_type="REQUEST")) == set()

    def test_a_broken_body_matches_no_filter_and_harms_nobody(
        self, alice: words.Environment, job: models.JobVersion
    ) -> None:
        factory.dispatcher(alice, to=factory.to_job(job), payload_filter={})
        anyone = factory.dispatcher(alice, to=factory.to_job(job))

        assert delivered_to(send(alice, payload=self.request("{broken"), payload_type="REQUEST")) == {anyone}


class TestFailure:
    """A delivery that fails: the row is harmed, its neighbours are not."""

    @pytest.fixture
    def poisoned(self, alice: words.Environment, job: models.JobVersion) -> uuid.UUID:
        """An event whose stored payload no decoder reads, as only damage could leave it."""
        factory.dispatcher(alice, to=factory.to_job(job), payload_filter={"n": [1]})
        event = send(alice, payload='{"n":1}')
        with db.unit():
            db.run("UPDATE event_records SET payload_raw = '{damaged' WHERE id = %s", (event,))
        return event

    def test_its_batch_is_redone_one_by_one(self, alice: words.Environment, poisoned: uuid.UUID) -> None:
        good = [send(alice, payload='{"n":1}') for _ in range(3)]

        hints = deliver.deliver([*good, poisoned])

        assert {one.event_record_id for one in invocations()} == set(good)
        assert len(hints["invoke"]) == 3

    def test_its_attempt_is_counted_and_it_waits_for_the_next(self, poisoned: uuid.UUID) -> None:
        deliver.deliver([poisoned])

        [row] = outbox()
        assert (row.attempts, row.lease_until, row.died_at) == (1, None, None)
        assert row.due_at == row.hint_at
        assert "malformed" in row.last_error

    def test_it_becomes_a_dead_letter_when_its_attempts_are_used_up(self, poisoned: uuid.UUID) -> None:
        for _ in range(retries.LIMITS["deliver"]):
            with db.unit():
                db.run("UPDATE outbox SET due_at = now()")
            deliver.deliver([poisoned], one_by_one=True)

        [row] = outbox()
        assert row.attempts == retries.LIMITS["deliver"]
        assert row.died_at is not None
        with db.unit():
            assert db.rows("SELECT hint_at = 'infinity' AS never FROM outbox") == [{"never": True}]

    def test_a_row_whose_workers_died_is_buried_without_being_tried(
        self, alice: words.Environment, job: models.JobVersion
    ) -> None:
        factory.dispatcher(alice, to=factory.to_job(job))
        event = send(alice)
        with db.unit():
            db.run("UPDATE outbox SET attempts = %s", (retries.LIMITS["deliver"],))

        deliver.deliver([event], one_by_one=True)

        [row] = outbox()
        assert (row.last_error, row.died_at is not None) == (retries.WORKER_LOST, True)
        assert invocations() == []

    def test_a_row_leased_to_somebody_is_left_to_them(self, alice: words.Environment, job: models.JobVersion) -> None:
        factory.dispatcher(alice, to=factory.to_job(job))
        event = send(alice)
        with db.unit():
            db.run("UPDATE outbox SET lease_until = now() + interval '1 minute', token = gen_random_uuid()")

        deliver.deliver([event])
        deliver.deliver([event], one_by_one=True)

        assert invocations() == []
        assert outbox()[0].attempts == 0


def test_the_look_up_reads_only_those_who_listen_to_the_name(alice: words.Environment, job: models.JobVersion) -> None:
    """10,000 dispatchers here, most on patterns, 12 of which hear the name, beside 1,000 environments of the same names."""
    with db.unit():
        for listening, environments in (("quiet.%s.*", 1), ("order.paid", 1000)):
            db.run(
                """WITH places AS (
                       SELECT CASE WHEN %(environments)s = 1 THEN %(here)s ELSE gen_random_uuid() END AS id
                         FROM generate_series(1, %(environments)s)
                   ), homes AS (
                       INSERT INTO runtime_environments (id, slug, type, organization_id, project_id)
                       SELECT id, id::text, 'DEVELOPMENT', %(organization)s, %(project)s FROM places
                       ON CONFLICT DO NOTHING
                   ), made AS (
                       INSERT INTO event_dispatchers (event, source, dispatchable_id, dispatchable, environment_id)
                       SELECT replace(%(name)s, '%%s', number::text), 'trigger.dev', gen_random_uuid()::text,
                              '{"type":"JOB_VERSION","id":"x"}', id
                         FROM places, generate_series(1, CASE WHEN %(environments)s = 1 THEN 9990 ELSE 1 END) AS number
                       RETURNING id, environment_id, event
                   )
                   INSERT INTO event_dispatcher_names (environment_id, source, name, dispatcher_id)
                   SELECT environment_id, 'trigger.dev', event, id FROM made""",
                {
                    "environments": environments,
                    "here": alice.id,
                    "organization": alice.organization_id,
                    "project": alice.project_id,
                    "name": listening,
                },
            )
    heard = patterns.heard_by("order.paid")
    assert heard == ["order.paid", "*", "order.*", "*.paid"]
    # Three for each look-up: before version 18 a plan rounds the rows of a loop.
    wanted = {factory.dispatcher(alice, heard[number % 4], to=factory.to_job(job)) for number in range(12)}
    with db.unit():
        db.run("ANALYZE event_dispatchers")
        db.run("ANALYZE event_dispatcher_names")
        addresses = [(alice.id, "trigger.dev", name) for name in heard]
        assert {candidate.id for candidate in deliveries.candidates(addresses)} == wanted
        parameters = {"environments": [alice.id] * 4, "sources": ["trigger.dev"] * 4, "names": heard}
        [explained] = db.rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {deliveries.CANDIDATES.sql}", parameters)
        plan = explained["QUERY PLAN"][0]["Plan"]

    assert rows_read(plan) == {"event_dispatcher_names": 12, "event_dispatchers": 12}
