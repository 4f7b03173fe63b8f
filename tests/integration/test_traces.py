"""A trace shows the whole way of an event, from the request that brings it to the call that it leads to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kongflow_events import actors, broker, models, scheduler, settings, traces
from kongflow_events.services import deliver, ingest, post
from kongflow_events.store import db
from tests import factory
from tests.integration.conftest import Api
from tests.processes import ROOT
from tests.receiver import Receiver, status
from tests.servers import RabbitMQ, eventually

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span of this process."""
    exporter = InMemorySpanExporter()
    traces.record(SimpleSpanProcessor(exporter), "tests")
    yield exporter
    traces.stop()


def stored(event_id: str) -> str | None:
    with db.unit():
        return str(models.EventRecord.get(models.EventRecord.event_id == event_id).traceparent)


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def parent_of(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else "none"


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


class TestForm:
    @pytest.mark.parametrize(
        ("header", "goes_on"),
        [
            (PARENT, PARENT),
            (f"  {PARENT} ", PARENT),
            (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
            (f"00-{TRACE}-{SPAN}-ff", PARENT),
            (f"cc-{TRACE}-{SPAN}-01-what-will-be", PARENT),
        ],
    )
    def test_what_is_one_goes_on(self, header: str, goes_on: str) -> None:
        assert traces.parse(header) == goes_on

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "nonsense",
            PARENT + "-more",
            f"ff-{TRACE}-{SPAN}-01",
            f"00-{TRACE.upper()}-{SPAN}-01",
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE[1:]}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}",
            "00-" + "٠" * 32 + f"-{SPAN}-01",
        ],
    )
    def test_what_is_malformed_counts_as_none(self, header: str | None) -> None:
        assert traces.parse(header) is None


class TestPassingOn:
    def test_what_came_with_the_request_goes_to_the_receiver_though_nothing_is_recorded(self, alice: Api) -> None:
        with Receiver() as target:
            factory.dispatcher(alice.environment, to=factory.to_url(target.url))
            body = {"event": {"id": "1", "name": factory.JOB_EVENT}}
            alice.post("/api/v1/events", body, headers={"traceparent": PARENT})
            with db.unit():
                record = models.EventRecord.get()
            post.post(deliver.deliver([record.id])["post"])

            assert record.traceparent == PARENT
            assert [call.headers.get("traceparent") for call in target.calls] == [PARENT]

    @pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}])
    def test_without_one_or_with_a_malformed_one_there_is_none(self, alice: Api, headers: dict[str, str]) -> None:
        # Threads serve one request after the other: the first one's must not stay.
        alice.post("/api/v1/events", {"event": {"name": "other"}}, headers={"traceparent": PARENT})
        with Receiver() as target:
            factory.dispatcher(alice.environment, to=factory.to_url(target.url))
            alice.post("/api/v1/events", {"event": {"id": "1", "name": factory.JOB_EVENT}}, headers=headers)
            with db.unit():
                record = models.EventRecord.get(models.EventRecord.event_id == "1")
            post.post(deliver.deliver([record.id])["post"])

            assert record.traceparent is None
            assert [call.headers.get("traceparent") for call in target.calls] == [None]

    def test_every_event_of_a_bulk_and_every_cloudevent_has_that_of_its_request(self, alice: Api) -> None:
        bulk = {"events": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]}
        alice.post("/api/v1/events/bulk", bulk, headers={"traceparent": PARENT})
        cloud = {"ce-specversion": "1.0", "ce-id": "3", "ce-source": "here", "ce-type": "c", "traceparent": PARENT}
        alice.post("/api/v1/events", {}, headers=cloud)

        assert [stored(event_id) for event_id in "123"] == [PARENT] * 3

    def test_a_waiting_event_that_is_sent_again_belongs_to_the_request_that_changed_it(self, alice: Api) -> None:
        event, later = {"id": "1", "name": "a"}, {"deliverAfter": 3600}
        other = f"00-{TRACE}-{'1' * 16}-01"
        alice.post("/api/v1/events", {"event": event, "options": later}, headers={"traceparent": PARENT})
        alice.post("/api/v1/events", {"event": event, "options": later}, headers={"traceparent": other})

        assert stored("1") == other

    def test_callers_who_share_a_statement_keep_each_his_own(self, store: str) -> None:
        alice = factory.environment()
        gate = threading.Barrier(8)

        def send(number: int) -> None:
            traces.receive(f"00-{TRACE}-{number:016x}-01")
            gate.wait()
            for turn in range(10):
                ingest.ingest_send_event(alice, factory.event(id=f"{number}.{turn}"))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with db.unit():
            for record in models.EventRecord.select():
                assert record.traceparent == f"00-{TRACE}-{int(record.event_id.partition('.')[0]):016x}-01"


class TestRecording:
    def test_one_trace_shows_the_whole_way_also_over_rabbitmq(
        self, alice: Api, queues: RabbitMQ, spans: InMemorySpanExporter
    ) -> None:
        """The sender's own span is the parent of ingest, which is that of all the rest; the receiver gets the post's."""
        current = settings.Settings(rabbitmq_url=queues.url)
        guarded = broker.GuardedBroker(queues.url)
        hints = broker.HintBuffer(lambda: broker.RabbitmqHints(queues.url), batch=10, high_water=100)
        actors.declare(guarded, hints)
        worker = dramatiq.Worker(guarded, worker_threads=2)
        ticking = scheduler.build(BackgroundScheduler, current, broker.RabbitmqHints(queues.url))
        with Receiver(status(200)) as target:
            factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment)))
            factory.dispatcher(alice.environment, to=factory.to_url(target.url))
            alice.post("/api/v1/events", {"event": {"name": factory.JOB_EVENT}}, headers={"traceparent": PARENT})
            worker.start()
            ticking.start()
            try:
                eventually(lambda: {"invoke", "post"} <= {span.name for span in spans.get_finished_spans()}, 30)
            finally:
                ticking.shutdown()
                worker.stop()
                hints.close(5)
                guarded.close()
            found = {span.name: span for span in spans.get_finished_spans()}

        assert set(found) == {"ingest", "relay", "deliver", "invoke", "post"}
        assert {trace_of(span) for span in found.values()} == {TRACE}
        assert parent_of(found["ingest"]) == SPAN
        assert {parent_of(span) for span in found.values() if span.name != "ingest"} == {id_of(found["ingest"])}
        assert target.calls[0].headers["traceparent"] == f"00-{TRACE}-{id_of(found['post'])}-01"

    def test_an_event_without_a_trace_begins_one(self, store: str, spans: InMemorySpanExporter) -> None:
        traces.receive(None)
        record = ingest.ingest_send_event(factory.environment(), factory.event(id="1"))
        deliver.deliver([record.id])
        first, second = spans.get_finished_spans()

        assert (first.name, first.parent, second.name) == ("ingest", None, "deliver")
        assert trace_of(second) == trace_of(first)
        assert stored("1") == f"00-{trace_of(first)}-{id_of(first)}-01"

    def test_a_trace_that_its_sender_does_not_record_is_not_recorded_here(
        self, store: str, spans: InMemorySpanExporter
    ) -> None:
        traces.receive(f"00-{TRACE}-{SPAN}-00")
        record = ingest.ingest_send_event(factory.environment(), factory.event(id="1"))
        deliver.deliver([record.id])

        assert spans.get_finished_spans() == ()
        assert str(stored("1")).startswith(f"00-{TRACE}-")

    def test_a_call_that_fails_is_an_error_in_its_span_without_its_words(
        self, store: str, spans: InMemorySpanExporter
    ) -> None:
        traces.receive(PARENT)
        alice = factory.environment()
        factory.dispatcher(alice, to=factory.to_url("http://127.0.0.1:1/secret"))
        record = ingest.ingest_send_event(alice, factory.event())
        post.post(deliver.deliver([record.id])["post"])
        [called] = [span for span in spans.get_finished_spans() if span.name == "post"]

        assert (called.status.status_code.name, called.status.description) == ("ERROR", "Unreachable")
        assert "secret" not in called.to_json()


IMPORTS = """
import sys
from kongflow_events import settings
from kongflow_events.web import app
app.create_app(settings.load({}))
from kongflow_events import actors, scheduler
print([name for name in sys.modules if name.startswith(("opentelemetry", "prometheus_client"))])
"""
MISSING = """
import sys
sys.modules["opentelemetry"] = None
from kongflow_events import settings, traces
try:
    traces.begin(settings.load({"KONGFLOW_TRACES": "otlp"}), "web")
except settings.BadSettings as error:
    print(error)
"""


# As a server's worker, which ends past the exits that libraries hook into.
WORKER = """
import multiprocessing, sys
from kongflow_events import settings, traces
def work():
    traces.begin(settings.load({"KONGFLOW_TRACES": sys.argv[1]}), "web")
    with traces.span("ingest", None):
        pass
if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
"""


def said_by(program: str, *words: str, **environ: str) -> Any:
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={**os.environ, **environ},
    ).stdout


def test_unless_a_setting_asks_for_it_nothing_of_it_is_loaded() -> None:
    assert said_by(IMPORTS) == "[]\n"


def test_without_the_extra_the_setting_says_what_is_missing() -> None:
    assert said_by(MISSING) == "KONGFLOW_TRACES: pip install 'kongflow-events[otel]' first\n"


def test_spans_go_to_the_collector_that_is_named_also_those_of_a_workers_last_moment() -> None:
    with Receiver() as collector:
        said_by(WORKER, "otlp", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url.removesuffix("/hook"))
        [call] = collector.calls

    assert call.path == "/v1/traces"
    assert b"kongflow-events-web" in call.body


def test_on_the_console_they_say_which_process_they_are_of_unless_opentelemetry_is_told_another_name() -> None:
    assert '"service.name": "kongflow-events-web"' in said_by(WORKER, "console")
    assert '"service.name": "shop"' in said_by(WORKER, "console", OTEL_SERVICE_NAME="shop")
