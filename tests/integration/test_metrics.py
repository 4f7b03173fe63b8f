"""What is counted and measured: true of what happens, bounded, and seen only by whoever may."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import prometheus_client
import pytest
from falcon import testing
from prometheus_client.parser import text_string_to_metric_families

from kongflow_events import errors, gathering, metrics, models, settings, words
from kongflow_events.broker import HintBuffer
from kongflow_events.services import deliver, ingest, invoke, measure, post
from kongflow_events.store import db
from kongflow_events.web.app import create_app
from tests import factory
from tests.integration.conftest import Api
from tests.processes import ROOT, Http
from tests.receiver import Receiver, status
from tests.servers import eventually, free_port

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| `(?P<name>kongflow_\w+)` \| (?P<kind>\w+) \| (?P<labels>[^|]+) \| (?P<text>[^|]+) \|$", re.MULTILINE
)


def labels_of(series: metrics.Series) -> str:
    """How the page writes a series' labels and their values."""
    said = [f"`{name}`" + (f": {', '.join(values)}" if values else "") for name, values in series.labels.items()]
    return "; ".join(said) or "–"


def number(name: str, **labels: str) -> float:
    """What this process has counted."""
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0


class Counted:
    """How much has been added to a sample since this was made."""

    def __init__(self, name: str, **labels: str) -> None:
        self._now: Callable[[], float] = lambda: number(name, **labels)
        self._before = self._now()

    @property
    def since(self) -> float:
        return self._now() - self._before


def measured() -> dict[tuple[str, metrics.Labels], float]:
    return {(one.series.name, one.labels): one.value for one in measure.Measuring().readings()}


def test_the_page_has_every_series_as_it_is_and_no_other() -> None:
    said = {row["name"]: (row["kind"], row["labels"], row["text"]) for row in ROW.finditer(PAGE)}

    assert said == {series.name: (series.kind, labels_of(series), series.text) for series in metrics.SERIES}


class TestCounting:
    def test_events_are_counted_as_new_as_repeated_and_as_refused(self, store: str) -> None:
        alice = factory.environment()
        new, repeated, refused = (
            Counted("kongflow_events_total", outcome=each) for each in ("new", "repeated", "refused")
        )
        ingest.ingest_send_event(alice, factory.event(id="1"))
        with db.unit():
            ingest.ingest_send_events(alice, [factory.event(id="1"), factory.event(id="2")])
        with pytest.raises(errors.Forbidden):
            ingest.ingest_send_event(
                words.Environment(alice.id, alice.organization_id, alice.project_id, "dev", runs_enabled=False),
                factory.event(),
            )

        assert (new.since, repeated.since, refused.since) == (2, 1, 1)

    def test_a_delivery_its_matches_and_its_runs_are_counted_once(self, store: str) -> None:
        alice = factory.environment()
        factory.dispatcher(alice, to=factory.to_job(factory.job(alice)))
        matched = Counted("kongflow_deliveries_total", outcome="matched")
        unmatched = Counted("kongflow_deliveries_total", outcome="unmatched")
        matches = Counted("kongflow_matches_total", kind="invoke")
        succeeded = Counted("kongflow_invocations_total", kind="invoke", outcome="succeeded")
        waited = Counted("kongflow_send_to_run_seconds_count")
        records = [
            ingest.ingest_send_event(alice, factory.event(name)) for name in (factory.JOB_EVENT, "nobody.listens")
        ]
        for _ in range(2):
            invoke.invoke(deliver.deliver([record.id for record in records])["invoke"])

        assert (matched.since, unmatched.since, matches.since, succeeded.since, waited.since) == (1, 1, 1, 1, 1)

    def test_one_by_one_is_counted_like_together(self, store: str) -> None:
        alice = factory.environment()
        factory.dispatcher(alice, to=factory.to_job(factory.job(alice)))
        matched = Counted("kongflow_deliveries_total", outcome="matched")
        succeeded = Counted("kongflow_invocations_total", kind="invoke", outcome="succeeded")
        record = ingest.ingest_send_event(alice, factory.event())
        invoke.invoke(deliver.deliver([record.id], one_by_one=True)["invoke"], one_by_one=True)

        assert (matched.since, succeeded.since) == (1, 1)

    def test_a_call_is_counted_by_what_came_of_it(self, store: str) -> None:
        alice = factory.environment()
        refused = Counted("kongflow_post_seconds_count", outcome="refused")
        succeeded = Counted("kongflow_post_seconds_count", outcome="succeeded")
        ended = Counted("kongflow_invocations_total", kind="post", outcome="succeeded")
        first = Counted("kongflow_send_to_call_seconds_count")
        with Receiver(status(500), status(200)) as target:
            factory.dispatcher(alice, to=factory.to_url(target.url))
            record = ingest.ingest_send_event(alice, factory.event())
            [invocation] = deliver.deliver([record.id])["post"]
            post.post([invocation])
            with db.unit():
                db.run("UPDATE outbox SET due_at = now()")
            post.post([invocation])

        assert (refused.since, succeeded.since, ended.since, first.since) == (1, 1, 1, 1)

    def test_a_dead_letter_is_counted(self, store: str) -> None:
        alice = factory.environment()
        factory.dispatcher(alice, to={"type": words.JOB_VERSION, "id": str(uuid.uuid4())})
        dead, ended = (
            Counted("kongflow_dead_total", kind="invoke"),
            Counted("kongflow_invocations_total", kind="invoke", outcome="dead"),
        )
        ingest.ingest_send_event(alice, factory.event())
        factory.work()

        assert (dead.since, ended.since) == (1, 1)
        assert measured()["kongflow_dead_letters", ("invocation",)] == 1

    def test_hints_that_are_dropped_are_counted(self) -> None:
        dropped = Counted("kongflow_hints_dropped_total")

        class Full:
            """A publisher to a broker that is full."""

            def depth(self, queue_name: str) -> int:
                return 1

            def consumers(self, queue_name: str) -> int:
                return 1

            def publish(self, queue_name: str, messages: object) -> None: ...
            def rest(self) -> None: ...
            def close(self) -> None: ...

        buffer = HintBuffer(Full, batch=10, high_water=1)
        buffer.offer("invoke", ["a", "b", "c"])
        buffer.close(10)

        assert dropped.since == 3

    def test_a_request_is_counted_by_its_route_and_never_by_what_strangers_make_up(
        self, client: testing.TestClient, alice: Api
    ) -> None:
        known = Counted("kongflow_http_requests_total", route="/api/v2/events/{event_id}", method="GET", status="404")
        unknown = Counted("kongflow_http_requests_total", route="none", method="none", status="404")
        nowhere = Counted("kongflow_http_requests_total", route="none", method="GET", status="404")
        alice.get("/api/v2/events/unknown")
        client.app(testing.create_environ("/made/up", method="MADEUP"), testing.StartResponseMock())
        alice.get("/made/up/as/well")

        assert (known.since, unknown.since, nowhere.since) == (1, 1, 1)


class TestMeasuring:
    def test_what_is_owed_is_told_by_kind_and_state_with_how_long_the_oldest_has_waited(self, store: str) -> None:
        alice = factory.environment()
        with db.unit():
            ingest.ingest_send_events(alice, [factory.event(), factory.event()])
            first, second = models.Outbox.select().order_by(models.Outbox.subject_id)
            db.run("UPDATE outbox SET due_at = now() - interval '1 hour' WHERE subject_id = %s", (first.subject_id,))
            db.run(
                "UPDATE outbox SET died_at = now(), hint_at = 'infinity' WHERE subject_id = %s", (second.subject_id,)
            )
        found = measured()

        assert [found["kongflow_outbox_rows", ("deliver", state)] for state in ("due", "later", "leased", "dead")] == [
            1,
            0,
            0,
            1,
        ]
        assert 3600 <= found["kongflow_outbox_oldest_due_seconds", ("deliver",)] < 3700
        assert found["kongflow_dead_letters", ("deliver",)] == 1
        assert found["kongflow_outbox_oldest_due_seconds", ("post",)] == 0

    def test_a_relay_that_never_was_is_infinitely_old_and_one_that_beats_is_not(self, store: str) -> None:
        assert measured()["kongflow_relay_age_seconds", ()] == float("inf")
        with db.unit():
            models.ProcessHeartbeat.create(kind="scheduler", instance="here:1")
        assert measured()["kongflow_relay_age_seconds", ()] < 30
        assert measured()["kongflow_relays", ()] == 1

    def test_however_many_ask_the_database_is_asked_once_in_a_while(self, store: str) -> None:
        measuring = measure.Measuring()
        before = measuring.readings()
        ingest.ingest_send_event(factory.environment(), factory.event())

        assert measuring.readings() is before

    def test_of_a_database_that_is_away_only_that_is_told(self, store: str) -> None:
        db.close()
        db.connect("postgresql://127.0.0.1:1/nowhere")

        assert measured() == {("kongflow_database_up", ()): 0}

    def test_every_reading_is_of_a_series_and_of_values_that_its_labels_have(self, store: str) -> None:
        found = measure.Measuring().readings()

        assert {one.series for one in found} == {
            series for series in metrics.SERIES if isinstance(series, metrics.Gauge)
        }
        for one in found:
            assert all(value in values for value, values in zip(one.labels, one.series.labels.values(), strict=True))


class TestPage:
    def test_prometheus_parser_reads_it(self, client: testing.TestClient) -> None:
        text = client.simulate_get("/metrics").text

        assert "kongflow_outbox_rows" in {family.name for family in text_string_to_metric_families(text)}

    def test_without_a_token_only_a_caller_on_this_machine_is_answered(self, client: testing.TestClient) -> None:
        assert client.simulate_get("/metrics").status_code == 200
        assert client.simulate_get("/metrics", remote_addr="::1").status_code == 200
        assert client.simulate_get("/metrics", remote_addr="10.0.0.7").status_code == 404

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
    def test_nor_is_whoever_comes_through_a_proxy_on_it(self, client: testing.TestClient, header: str) -> None:
        assert client.simulate_get("/metrics", headers={header: "127.0.0.1"}).status_code == 404

    def test_with_a_token_whoever_brings_it_is_answered_and_nobody_else(self, store: str) -> None:
        client = testing.TestClient(create_app(settings.load({"KONGFLOW_METRICS_TOKEN": "sesame"})))
        bearer = {"Authorization": "Bearer sesame"}

        assert client.simulate_get("/metrics").status_code == 401
        assert client.simulate_get("/metrics", headers={"Authorization": "Bearer other"}).status_code == 401
        assert client.simulate_get("/metrics", headers=bearer, remote_addr="10.0.0.7").status_code == 200


COUNT = """
import sys
from kongflow_events import gathering, metrics, settings
gathering.gather(settings.load({"KONGFLOW_METRICS_DIR": sys.argv[1]}))
metrics.TICKS.add()
metrics.QUEUE_DEPTH.set(7, "deliver")
print("counted", flush=True)
sys.stdin.read()
"""
READ = """
import sys
from kongflow_events import exposition, gathering, logs, settings
logs.configure()
gathering.gather(settings.load({"KONGFLOW_METRICS_DIR": sys.argv[1], "DATABASE_URL": "postgresql://127.0.0.1:1/no"}))
from kongflow_events.store import db
db.connect("postgresql://127.0.0.1:1/no")
sys.stdout.buffer.write(exposition.page("")[0])
"""


SHOW = """
import sys
from kongflow_events import exposition, gathering, logs, settings
from kongflow_events.store import db
logs.configure("debug")
db.connect("postgresql://127.0.0.1:1/no")
current = settings.load({"KONGFLOW_METRICS_DIR": sys.argv[1], "KONGFLOW_METRICS_PORT": sys.argv[2]})
gathering.gather(current)
exposition.serve(current)
sys.stdin.read()
"""


@contextmanager
def showing(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that shows the page if it can, with its log as output."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Counting:
    """A process that has counted one tick and stays until it is let go."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", COUNT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"counted\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def read(folder: Path) -> dict[str, float]:
    said = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, cwd=ROOT, check=True)
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(said.stdout.decode())
        for sample in family.samples
    }


class TestGathering:
    def test_what_processes_count_adds_up_and_what_the_dead_have_counted_stays(self, tmp_path: Path) -> None:
        folder = tmp_path / "metrics"
        one, other, another = (Counting(folder) for _ in range(3))
        try:
            assert read(folder)["kongflow_relay_ticks_total"] == 3
            one.kill()
            other.kill()
            found = read(folder)
            assert found["kongflow_relay_ticks_total"] == 3
            assert found["kongflow_queue_messagesdeliver"] == 7
            # What the dead have left is one file now.
            assert (folder / "counter_0.db").exists()
            assert not (folder / f"counter_{one.process.pid}.db").exists()
            assert (folder / f"counter_{another.process.pid}.db").exists()
        finally:
            for counting in (one, other, another):
                counting.kill()

    def test_of_those_who_are_given_a_port_one_shows_the_page_and_another_when_that_one_is_gone(
        self, tmp_path: Path
    ) -> None:
        port = free_port()
        command = [sys.executable, "-c", SHOW, str(tmp_path / "metrics"), str(port)]
        page = Http(f"http://127.0.0.1:{port}", "")

        def is_shown() -> bool:
            return page.answers("/") and b"kongflow_relay_ticks_total" in page.read("/")

        with showing(command) as first:
            eventually(is_shown, 30)
            with showing(command) as second:
                assert second.stdout is not None
                assert b"the port of the metrics is not free" in second.stdout.readline()
                first.kill()
                first.wait()
                eventually(is_shown, 30)

    def test_levels_of_the_dead_are_gone(self, tmp_path: Path) -> None:
        folder = tmp_path / "metrics"
        counting, other = Counting(folder), Counting(folder)
        assert read(folder)["kongflow_queue_messagesdeliver"] == 7
        counting.kill()
        other.kill()

        assert "kongflow_queue_messagesdeliver" not in read(folder)

    def test_the_first_process_begins_anew_when_no_other_is_there(self, tmp_path: Path) -> None:
        folder = tmp_path / "metrics"
        Counting(folder).kill()

        assert read(folder)["kongflow_relay_ticks_total"] == 0

    def test_a_folder_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "metrics"
        folder.mkdir(mode=0o755)
        with pytest.raises(settings.BadSettings, match="KONGFLOW_METRICS_DIR"):
            gathering.gather(settings.Settings(metrics_dir=str(folder)))

    def test_a_place_where_no_folder_can_be_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(settings.BadSettings, match="KONGFLOW_METRICS_DIR"):
            gathering.gather(settings.Settings(metrics_dir=str(tmp_path / "file" / "metrics")))

    def test_a_program_that_only_uses_the_services_gathers_nowhere(self) -> None:
        assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
        assert gathering.folder() is None
