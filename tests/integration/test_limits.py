"""Rate limits: a bucket for each key and each organization, exact over all processes, off unless asked for."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from falcon import testing

from kongflow_events import broker, errors, limits, models, scheduler, settings, words
from kongflow_events.services import expire, ingest
from kongflow_events.store import db
from kongflow_events.web.app import create_app
from tests import factory
from tests.integration.conftest import Api
from tests.processes import query
from tests.servers import eventually

pytestmark = pytest.mark.usefixtures("store")

Limited = Callable[..., Api]
# A token in 1,000 s: within a test no bucket refills by itself.
SLOW = "0.001"
SEND = {"event": {"name": "a"}}


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    """A process that remembers no refusal."""
    limits._refusals.clear()


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Limited]:
    """A tenant of a service with these settings."""

    def start(tenant: str = "alice", **variables: str) -> Api:
        for name, value in variables.items():
            monkeypatch.setenv(f"KONGFLOW_{name.upper()}", value)
        settings.current.cache_clear()
        return Api(testing.TestClient(create_app(settings.current())), factory.environment(tenant))

    yield start
    monkeypatch.undo()
    settings.current.cache_clear()


def later(seconds: float) -> None:
    """Let time pass for every bucket, and for this process."""
    limits._refusals.clear()
    with db.unit():
        db.run("UPDATE token_buckets SET refilled_at = refilled_at - %s * interval '1 second'", (seconds,))


def left(answer: Any) -> tuple[int, str, str]:
    return answer.status_code, answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]


def stored() -> int:
    with db.unit():
        found: int = models.EventRecord.select().count()
    return found


def bulk(number: int) -> dict[str, Any]:
    return {"events": [{"name": "a"}] * number}


class TestKeys:
    def test_every_answer_says_what_is_left(self, limited: Limited) -> None:
        alice = limited(key_rate=SLOW, key_burst="5")
        before = time.time() * 1000
        answers = [
            alice.post("/api/v1/events", SEND),
            alice.post("/api/v1/events", {}),
            alice.get("/api/v2/events/nope"),
            alice("HEAD", "/api/v1/events"),
        ]

        assert [left(answer) for answer in answers] == [
            (200, "5", "4"),
            (422, "5", "3"),
            (404, "5", "2"),
            (200, "5", "1"),
        ]
        # With a token left the next request may come at once.
        assert before - 1 <= int(answers[0].headers["x-ratelimit-reset"]) <= time.time() * 1000 + 1

    def test_the_last_token_says_when_the_next_one_comes(self, limited: Limited) -> None:
        alice = limited(key_rate="0.01", key_burst="1")
        now = time.time() * 1000
        reset = int(alice.get("/api/v1/events").headers["x-ratelimit-reset"])

        assert now + 99_000 < reset < now + 130_000

    def test_a_request_too_many_is_a_429_with_upstreams_body_and_nothing_is_stored(self, limited: Limited) -> None:
        alice = limited(key_rate="0.4", key_burst="2")
        for _ in range(2):
            assert alice.post("/api/v1/events", SEND).status_code == 200
        answer = alice.post("/api/v1/events", SEND)

        said = "Too many requests with this API key: 0 of 2 left, try again in 3 s"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "3"
        assert left(answer) == (429, "2", "0")
        assert answer.json == {
            "title": "Too Many Requests",
            "status": 429,
            "type": "about:blank",
            "detail": said,
            "reset": int(answer.headers["x-ratelimit-reset"]),
            "limit": 2,
            "remaining": 0,
            "secondsUntilReset": 3,
            "error": said,
        }
        assert stored() == 2

    def test_the_body_of_a_refused_request_is_thrown_away(self, limited: Limited) -> None:
        alice = limited(key_rate=SLOW, key_burst="1")
        alice.get("/api/v1/events")
        sizes = [1, 2_000_000, 9_000_000]
        answers = [alice.post("/api/v1/events", b"{" * size) for size in sizes]

        assert [answer.status_code for answer in answers] == [429, 429, 429]
        # Of the last one a part is unread, and would be taken for the next request.
        assert [answer.headers.get("connection") for answer in answers] == [None, None, "close"]

    def test_time_gives_tokens_back_up_to_the_burst(self, limited: Limited) -> None:
        alice = limited(key_rate="0.1", key_burst="3")
        for _ in range(3):
            alice.get("/api/v1/events")

        later(9)
        assert left(alice.get("/api/v1/events")) == (429, "3", "0")
        later(1)
        assert left(alice.get("/api/v1/events")) == (200, "3", "0")
        later(1_000_000)
        assert left(alice.get("/api/v1/events")) == (200, "3", "2")

    def test_a_clock_that_was_set_back_takes_nothing_and_blocks_nobody(self, limited: Limited) -> None:
        alice = limited(key_rate="0.1", key_burst="2")
        alice.get("/api/v1/events")

        later(-3600)
        assert left(alice.get("/api/v1/events")) == (200, "2", "0")
        later(10)
        assert left(alice.get("/api/v1/events")) == (200, "2", "0")

    def test_each_key_has_a_bucket_of_its_own(self, limited: Limited) -> None:
        alice, bob = limited(key_rate=SLOW, key_burst="2"), limited("bob")
        for _ in range(3):
            alice.get("/api/v1/events")

        assert left(alice.get("/api/v1/events")) == (429, "2", "0")
        assert left(alice.get("/api/v2/events/x", key=alice.public_key)) == (404, "2", "1")
        assert left(bob.get("/api/v1/events")) == (200, "2", "1")

    def test_what_needs_no_key_and_who_has_none_are_not_counted(self, limited: Limited) -> None:
        alice = limited(key_rate=SLOW, key_burst="1")
        exempt = [
            alice("OPTIONS", "/api/v2/events/x", headers={"Origin": "https://app"}),
            alice("OPTIONS", "/api/v1/events"),
            alice.get("/healthz"),
            alice.get("/readyz"),
            alice.get("/api/v1/events", key="tr_dev_wrong"),
            alice.post("/api/v1/events", SEND, key=alice.public_key),
            alice.get("/api/v1/nowhere"),
        ]

        assert not [name for answer in exempt for name in answer.headers if name.startswith("x-ratelimit")]
        assert left(alice.get("/api/v1/events")) == (200, "1", "0")

    def test_a_page_may_read_the_refusal_of_a_route_that_it_may_read(self, limited: Limited) -> None:
        alice = limited(key_rate=SLOW, key_burst="1")
        alice.get("/api/v1/events")
        answer = alice.get("/api/v2/events/x", headers={"Origin": "https://app"})

        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (429, "https://app")
        assert answer.headers["vary"] == "Origin"
        assert "access-control-expose-headers" not in answer.headers

    def test_a_client_that_does_not_wait_asks_the_database_nothing(self, limited: Limited) -> None:
        alice = limited(key_rate="0.01", key_burst="1")
        alice.get("/api/v1/events")
        first = alice.get("/api/v1/events")
        with db.unit():
            db.run("DROP TABLE token_buckets")
        again = [alice.get("/api/v1/events") for _ in range(3)]

        assert [left(answer) for answer in again] == [(429, "1", "0")] * 3
        # The moment to come again stays where it was.
        resets = {int(answer.headers["x-ratelimit-reset"]) for answer in (first, *again)}
        assert max(resets) - min(resets) <= 1

    def test_who_waited_is_asked_about_again(self, limited: Limited, monkeypatch: pytest.MonkeyPatch) -> None:
        alice = limited(key_rate="0.1", key_burst="1")
        alice.get("/api/v1/events")
        alice.get("/api/v1/events")
        with db.unit():
            db.run("UPDATE token_buckets SET refilled_at = refilled_at - interval '10 s'")
        assert left(alice.get("/api/v1/events")) == (429, "1", "0")

        now = time.monotonic()
        monkeypatch.setattr(limits.time, "monotonic", lambda: now + 10)
        assert left(alice.get("/api/v1/events")) == (200, "1", "0")

    def test_only_so_many_refusals_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "_REMEMBERED", 3)
        limit = limits.Limit("x", "key", 0.001, 1)
        for _ in range(10):
            owner = uuid.uuid4()
            limits.take(limit, owner)
            with pytest.raises(errors.TooManyRequests):
                limits.take(limit, owner)

        assert 1 <= len(limits._refusals) <= 3


class TestOrganizations:
    def test_events_are_counted_and_one_too_many_is_not_stored(self, limited: Limited) -> None:
        alice = limited(organization_rate="0.4", organization_burst="3")
        assert alice.post("/api/v1/events", SEND).status_code == 200
        assert alice.post("/api/v1/events/bulk", bulk(2)).status_code == 200
        answer = alice.post("/api/v1/events", SEND)

        assert answer.json["error"] == "Too many events for this organization: 0 of 3 left, try again in 3 s"
        assert answer.headers["retry-after"] == "3"
        assert left(answer) == (429, "3", "0")
        assert stored() == 3

    def test_a_bulk_is_let_in_whole_or_not_at_all(self, limited: Limited) -> None:
        alice = limited(organization_rate="0.1", organization_burst="3")
        alice.post("/api/v1/events/bulk", bulk(2))
        answer = alice.post("/api/v1/events/bulk", bulk(2))

        assert left(answer) == (429, "3", "1")
        assert answer.headers["retry-after"] == "10"
        assert stored() == 2
        # What is left is still there for whoever wants less, whatever this process remembers of the bulk.
        assert alice.post("/api/v1/events", SEND).status_code == 200

    def test_a_bulk_over_the_burst_is_let_in_when_the_bucket_is_full_and_leaves_it_in_debt(
        self, limited: Limited
    ) -> None:
        alice = limited(organization_rate="1", organization_burst="2")
        assert alice.post("/api/v1/events/bulk", bulk(5)).status_code == 200
        assert stored() == 5

        answer = alice.post("/api/v1/events", SEND)
        assert (left(answer), answer.headers["retry-after"]) == ((429, "2", "0"), "4")
        later(4)
        assert alice.post("/api/v1/events", SEND).status_code == 200
        assert alice.post("/api/v1/events/bulk", bulk(5)).status_code == 429
        later(2)
        assert alice.post("/api/v1/events/bulk", bulk(5)).status_code == 200

    def test_nothing_costs_nothing(self, limited: Limited) -> None:
        alice = limited(organization_rate=SLOW, organization_burst="1")
        alice.post("/api/v1/events", SEND)

        assert alice.post("/api/v1/events", SEND).status_code == 429
        assert alice.post("/api/v1/events/bulk", bulk(0)).status_code == 200

    def test_only_events_are_counted_and_only_those_that_could_be_stored(self, limited: Limited) -> None:
        alice = limited(organization_rate=SLOW, organization_burst="1")
        alice.get("/api/v1/events")
        alice.post("/api/v1/events", {})
        alice.post("/api/v1/jobs", {"id": "j", "name": "j", "version": "1.0.0", "trigger": {"event": "a"}})

        assert alice.post("/api/v1/events", SEND).status_code == 200

    def test_organizations_do_not_share_a_bucket(self, limited: Limited) -> None:
        alice, bob = limited(organization_rate=SLOW, organization_burst="1"), limited("bob")

        assert [alice.post("/api/v1/events", SEND).status_code for _ in range(2)] == [200, 429]
        assert bob.post("/api/v1/events", SEND).status_code == 200

    def test_the_headers_are_the_keys_unless_the_organization_refused(self, limited: Limited) -> None:
        alice = limited(key_rate=SLOW, key_burst="9", organization_rate=SLOW, organization_burst="1")

        assert left(alice.post("/api/v1/events", SEND)) == (200, "9", "8")
        assert left(alice.post("/api/v1/events", SEND)) == (429, "1", "0")
        assert left(alice.get("/api/v1/events")) == (200, "9", "6")

    def test_a_program_that_calls_the_service_meets_the_limit_too(self, limited: Limited) -> None:
        alice = limited(organization_rate=SLOW, organization_burst="1")
        with db.unit():
            ingest.ingest_send_event(alice.environment, factory.event())
            with pytest.raises(errors.TooManyRequests, match="events for this organization"):
                ingest.ingest_send_events(alice.environment, [factory.event()])

        assert stored() == 1


class TestBuckets:
    # Eight threads take until they are refused; says how often they were let in.
    PROGRAM = """
import sys, threading, uuid
from kongflow_events import errors, limits
from kongflow_events.store import db
db.connect(sys.argv[1], pool_size=8, statement_seconds=60)
taken = []
def take():
    while True:
        try:
            limits.take(limits.Limit("x", "key", 0.001, 300), uuid.UUID(int=1))
        except errors.TooManyRequests:
            return
        taken.append(1)
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(taken))
"""
    WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def test_two_processes_at_once_take_exactly_the_burst(self, store: str) -> None:
        limits.take(limits.Limit("x", "key", 0.001, 300), uuid.UUID(int=1))
        program = [sys.executable, "-c", self.PROGRAM, store]
        with db.unit(), db.atomic():
            db.rows("SELECT FROM token_buckets FOR UPDATE")
            started = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            # All sixteen stand before the same bucket when it is let go.
            eventually(lambda: query(store, self.WAITING) == [(16,)])
        counts = [int(process.communicate()[0]) for process in started]

        assert sum(counts) == 299
        assert min(counts) > 0

    def test_while_the_limits_are_off_nothing_is_asked(self, limited: Limited) -> None:
        alice = limited()
        with db.unit():
            db.run("DROP TABLE token_buckets")

        answers = [alice.post("/api/v1/events", SEND), alice.post("/api/v1/events/bulk", bulk(2))]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert not [name for answer in answers for name in answer.headers if name.startswith("x-ratelimit")]

    @pytest.mark.parametrize("rate", [settings.SLOWEST_RATE, 1_000_000.0])
    def test_the_bounds_of_the_settings_are_within_those_of_numbers(self, rate: float) -> None:
        limit, owner = limits.Limit("x", "key", rate, 1_000_000_000), uuid.uuid4()
        limits.take(limit, owner, 2_000_000_000)
        later(3600)
        try:
            limits.take(limit, owner)
        except errors.TooManyRequests as refused:
            assert refused.left.reset < 2**53
        with db.unit():
            assert expire.expire_buckets() in (0, 1)

    def test_a_limit_that_was_changed_holds_at_once(self) -> None:
        owner = uuid.uuid4()
        limits.take(limits.Limit("x", "key", 0.001, 1000), owner)
        lower = limits.take(limits.Limit("x", "key", 0.001, 2), owner)

        assert lower is not None
        assert (lower.limit, lower.remaining) == (2, 1)

    def test_only_full_buckets_are_deleted(self) -> None:
        limit = limits.Limit("x", "key", 0.1, 2)
        owners = [uuid.uuid4() for _ in range(2)]
        for owner, tokens in zip(owners, (1, 2), strict=True):
            limits.take(limit, owner, tokens)
        later(10)
        with db.unit():
            assert expire.expire_buckets() == 1
            assert [row.owner_id for row in models.TokenBucket.select()] == [owners[1]]
        later(10)
        with db.unit():
            assert expire.expire_buckets() == 1

    def test_the_scheduler_deletes_them(self) -> None:
        limits.take(limits.Limit("x", "key", 1.0, 1), uuid.uuid4())
        later(10)
        memory = broker.MemoryBroker()
        hints = broker.MemoryHints(dict.fromkeys(words.KINDS, memory), batch=100, high_water=100)
        ticking = scheduler.build(BackgroundScheduler, settings.Settings(), hints)
        ticking.start()
        # As the watch over the wall clock does: every job runs now.
        for job in ticking.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))

        def gone() -> bool:
            with db.unit():
                return bool(models.TokenBucket.select().count() == 0)

        try:
            eventually(gone)
        finally:
            ticking.shutdown()
