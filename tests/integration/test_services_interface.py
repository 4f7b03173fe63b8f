"""The public Python interface: imported and used as a program that embeds the service would."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import dramatiq
import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from kongflow_events import actors, broker, filters, models, scheduler, schemas, services, settings, words
from kongflow_events.store import db
from tests import factory
from tests.servers import eventually

pytestmark = pytest.mark.usefixtures("store")


def test_an_event_goes_through_the_verbs() -> None:
    environment = factory.environment("alice")
    version = factory.job(environment)
    dispatcher = factory.dispatcher(environment, to=factory.to_job(version))
    with db.unit():
        record = services.ingest_send_event(environment, schemas.send_event(factory.JOB_EVENT, {"n": 1}, id="1"))
        [bulk] = services.ingest_send_events(environment, [schemas.send_event("other")])
    services.deliver_event(record.id)
    services.invoke_dispatcher(dispatcher, record.id)

    with db.unit():
        assert services.get_event_record(environment, "1").delivered_at is not None
        page = services.list_event_records(environment, limit=1)
        assert [one.id for one in page.items] == [bulk.id]
        assert [one.id for one in services.list_event_records(environment, cursor=page.next).items] == [record.id]
        listed = services.get_event_dispatcher(environment, str(dispatcher))
        assert listed.row.id == dispatcher
        assert [one.row.id for one in services.list_event_dispatchers(environment).items] == [dispatcher]
        assert models.JobRun.select().count() == 1
    assert filters.parse({"n": [1]}).matches({"n": 1})


def test_everything_public_has_a_docstring() -> None:
    for name in services.__all__:
        assert getattr(services, name).__doc__, name


class TestScheduler:
    """The scheduler's jobs on a broker in memory, with worker threads beside it, as `dev` runs them."""

    @pytest.fixture
    def ticking(self) -> Iterator[BackgroundScheduler]:
        memory = broker.MemoryBroker()
        hints = broker.MemoryHints(dict.fromkeys(words.KINDS, memory), batch=100, high_water=100)
        actors.declare(memory, hints)
        worker = dramatiq.Worker(memory, worker_threads=2, worker_timeout=50)
        worker.start()
        made = scheduler.build(BackgroundScheduler, settings.Settings(), hints)
        made.start()
        yield made
        made.shutdown()
        worker.stop()

    def count(self, statement: str) -> int:
        with db.unit():
            found: int = db.rows(f"SELECT count(*) AS n FROM {statement}")[0]["n"]
            return found

    def test_an_event_becomes_a_run_and_the_process_says_that_it_lives(self, ticking: BackgroundScheduler) -> None:
        environment = factory.environment("alice")
        factory.dispatcher(environment, to=factory.to_job(factory.job(environment)))
        with db.unit():
            services.ingest_send_event(environment, factory.event())

        eventually(lambda: self.count("job_runs") == 1)
        eventually(lambda: self.count("outbox") == 0)
        eventually(lambda: self.count("process_heartbeats WHERE kind = 'scheduler'") == 1)

    def test_an_expired_dispatcher_is_deleted(self, ticking: BackgroundScheduler) -> None:
        environment = factory.environment("alice")
        dispatcher = factory.dispatcher(environment, to=factory.to_url("http://a/"))
        with db.unit():
            db.run("UPDATE event_dispatchers SET expires_at = now()")

        eventually(lambda: self.count(f"event_dispatchers WHERE id = '{dispatcher}'") == 0)

    def test_a_wall_clock_that_was_set_back_stops_nothing(
        self, ticking: BackgroundScheduler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = time.time
        monkeypatch.setattr(scheduler.time, "time", lambda: real() - 3600)
        before = {job.id: job.next_run_time for job in ticking.get_jobs()}
        # As after a step: what is due next lies an hour ahead.
        for job in ticking.get_jobs():
            job.modify(next_run_time=job.next_run_time.replace(year=job.next_run_time.year + 1))

        def rearmed() -> bool:
            return all(job.next_run_time.year == before[job.id].year for job in ticking.get_jobs())

        eventually(rearmed)

    def test_an_actor_ends_quietly_when_the_database_is_away(self) -> None:
        offered: list[object] = []

        class Buffer:
            def offer(self, queue_name: str, ids: object) -> None:
                offered.append((queue_name, ids))

        memory = broker.MemoryBroker()
        actors.declare(memory, Buffer())
        db.connect("postgresql://nobody@127.0.0.1:1/none")
        for kind in words.KINDS:
            memory.get_actor(kind).fn([str(uuid.uuid4())])

        assert offered == []
