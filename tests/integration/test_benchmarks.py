"""The benchmarks' own tools, on a real service: what they say they measured is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from benchmarks import history, load, measures, ours, picture, report, workload
from benchmarks.measures import Bench
from benchmarks.servers import Servers
from tests.processes import query
from tests.servers import open_to_others

EVENTS = 50

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The Procfile's processes on servers of the benchmarks' own."""
    home = tmp_path_factory.mktemp("bench")
    open_to_others(home)
    with Servers(home / "servers") as servers, ours.started(servers, servers.stamping) as system:
        yield Bench(system, servers, servers.stamping)


def test_a_flood_ends_with_two_runs_of_each_event(bench: Bench) -> None:
    before = runs(bench)
    found = measures.flood(bench, EVENTS)
    assert runs(bench) == before + EVENTS * workload.FAN_OUT
    assert 0 < found["events/s"] <= found["requests/s"]
    assert set(found["cpu s per 1000"]) == {*ours.TYPES, "PostgreSQL", "RabbitMQ"}


def test_a_steady_rate_is_timed_from_due_to_commit_for_every_run(bench: Bench) -> None:
    found = measures.offer(bench, EVENTS, seconds=1)
    assert found["events"] == EVENTS
    assert 0 < found["send to run p50 ms"] <= found["send to run p99 ms"]


def test_a_bulk_takes_as_many_as_it_says(bench: Bench) -> None:
    before = runs(bench)
    measures.bulk(bench, EVENTS, size=25)
    assert runs(bench) == before + EVENTS * workload.FAN_OUT


def test_a_refusal_is_no_result(bench: Bench) -> None:
    body = workload.singles([workload.order(0)])
    with pytest.raises(RuntimeError, match="1 of 1 requests were not answered with 200: .401"):
        load.send(bench.system.port, bench.system.path, "tr_dev_nobody00000000000000", body, connections=1)


def test_an_open_loop_keeps_its_rate_and_counts_a_wait_for_a_connection(bench: Bench) -> None:
    bodies = workload.singles([workload.order(number) for number in range(20)])
    sent = load.send(bench.system.port, bench.system.path, bench.system.key, bodies, connections=1, rate=100)
    assert [round(due - sent.due[0], 3) for due in sent.due] == [number / 100 for number in range(20)]
    assert sent.done == sorted(sent.done)
    assert min(sent.milliseconds) > 0


def test_the_table_has_the_median_of_every_figure() -> None:
    rounds = [{"ours": {"flood": {"events/s": figure}}, "limit": {"rows/s": 10.0}} for figure in (1.0, 9.0, 4.0)]
    shown = report.table({"machine": {"cpus": 2, "model": "", "kernel": "", "load": [0]}, "rounds": rounds})
    assert "| B send to the last run, events/s | 4 | – |" in shown
    assert "- B: 0.40 × limit" in shown


def test_the_picture_has_a_bar_as_long_as_each_speed() -> None:
    rounds = [
        {"ours": {"flood": {"events/s": 500.0}}, "a & b": {"flood": {"events/s": 125.0}}, "limit": {"rows/s": 1000.0}}
    ]
    drawn = ElementTree.fromstring(picture.draw({"machine": {"cpus": 2}, "rounds": rounds}))
    bars = [float(bar.attrib["width"]) for bar in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert [round(bar / bars[2], 3) for bar in bars] == [0.5, 0.125, 1]
    assert "a & b" in {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}


def test_a_made_up_past_is_as_the_service_would_have_left_it(database: str) -> None:
    before = indexes(database)
    environment, _ = ours.make_environment(database)
    ours.make_rules(database, environment)
    history.events(database, environment, 100)
    assert indexes(database) == before
    ended = "SELECT count(*) FROM invocations AS i JOIN event_records AS e ON e.id = i.event_record_id"
    assert query(database, f"{ended} WHERE i.status = 'SUCCEEDED' AND i.completed_at = e.delivered_at") == [(200,)]
    started = "SELECT count(*) FROM job_runs AS r JOIN invocations AS i ON i.id = r.invocation_id"
    assert query(database, f"{started} WHERE r.event_record_id = i.event_record_id") == [(200,)]


def test_delayed_events_wait_in_the_outbox(database: str) -> None:
    environment, _ = ours.make_environment(database)
    first = datetime.now(UTC) + timedelta(hours=1)
    history.delayed(database, environment, 10, first, timedelta(seconds=1))
    owed = (
        "SELECT o.due_at FROM outbox AS o JOIN event_records AS e ON e.id = o.subject_id WHERE o.due_at = e.deliver_at"
    )
    assert sorted(query(database, owed)) == [(first + timedelta(seconds=number),) for number in range(10)]


def indexes(database: str) -> list[tuple[str, ...]]:
    """Every index and every constraint; whether old rows were looked at does not matter to new ones."""
    made = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexdef"
    asked = "SELECT conname, replace(pg_get_constraintdef(oid), ' NOT VALID', '') FROM pg_constraint ORDER BY 1, 2"
    return query(database, made) + query(database, asked)


def runs(bench: Bench) -> int:
    return int(query(bench.system.database, "SELECT count(*) FROM job_runs")[0][0])
