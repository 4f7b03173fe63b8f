"""What the console's lists read: a bounded stretch of an index, however much is stored."""

from __future__ import annotations

from typing import Any

import pytest

from kongflow_events import models, words
from kongflow_events.store import (
    console_audit,
    console_dead_letters,
    console_dispatchers,
    console_runs,
    db,
    ledger,
    redrives,
)
from tests import factory
from tests.plans import rows_read

pytestmark = pytest.mark.usefixtures("store")

STORED = 3000
PAGE = 26

# An environment full of everything: every second invocation is dead, of two dispatchers and two jobs.
FILL = (
    """INSERT INTO event_records (event_id, name, organization_id, environment_id, project_id)
       SELECT 'e' || number, 'order.paid', %(organization)s, %(environment)s, %(project)s
         FROM generate_series(1, %(stored)s) AS number""",
    """INSERT INTO invocations (environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable, status,
                                died_at, last_outcome)
       SELECT environment_id, records.id, dispatchers.id, 'order.paid', dispatchable, 'DEAD', now(), 'refused'
         FROM event_records AS records JOIN event_dispatchers AS dispatchers USING (environment_id)""",
    """INSERT INTO invocation_attempts (invocation_id, number, started_at, duration_ms, outcome)
       SELECT id, 1, now(), 10, 'refused' FROM invocations""",
    """INSERT INTO job_runs (environment_id, job_id, version_id, event_record_id)
       SELECT %(environment)s, versions.job_id, versions.id, records.id
         FROM event_records AS records CROSS JOIN job_versions AS versions""",
    """INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, died_at)
       SELECT id, 'deliver', environment_id, now(), 'infinity', now() FROM event_records""",
    """INSERT INTO audit_entries (operator, address, environment_id, action, subject)
       SELECT 'olga', 'shell', %(environment)s, 'key.create', 'key' FROM generate_series(1, %(stored)s)""",
)


@pytest.fixture
def full(store: str) -> tuple[words.Environment, Any]:
    """The environment, and one of its dispatchers."""
    environment = factory.environment("alice")
    first = factory.dispatcher(environment, to=factory.to_job(factory.job(environment, "one")))
    factory.dispatcher(environment, to=factory.to_job(factory.job(environment, "two")))
    parameters = {
        "organization": environment.organization_id,
        "environment": environment.id,
        "project": environment.project_id,
        "stored": STORED,
    }
    with db.unit():
        for statement in FILL:
            db.run(statement, parameters)
        for table in (models.Invocation, models.JobRun, models.EventRecord, models.AuditEntry, models.Outbox):
            db.run(f"ANALYZE {table._meta.table_name}")
    return environment, first


def read(monkeypatch: pytest.MonkeyPatch, ask: Any) -> dict[str, int]:
    """Rows of each table that the statements of `ask` read."""
    found: dict[str, int] = {}
    run = db.rows

    def explained(sql: str, parameters: Any = ()) -> Any:
        plan = run(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)[0]["QUERY PLAN"][0]["Plan"]
        for table, rows in rows_read(plan).items():
            found[table] = found.get(table, 0) + rows
        return run(sql, parameters)

    with monkeypatch.context() as patched, db.unit():
        patched.setattr(db, "rows", explained)
        ask()
    return found


# One dispatcher, and its job, had as much as another, and have had nothing since.
MANY = 40_000
SILENT = (
    """INSERT INTO event_records (id, event_id, name, organization_id, environment_id, project_id)
       SELECT lpad(to_hex(number), 32, '0')::uuid, number, 'order.paid', %(organization)s, %(environment)s, %(project)s
         FROM generate_series(1, %(many)s) AS number""",
    """INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable, status)
       SELECT records.id, environment_id, records.id, dispatchers.id, 'order.paid', dispatchable, 'SUCCEEDED'
         FROM event_records AS records JOIN event_dispatchers AS dispatchers USING (environment_id)
        WHERE (records.event_id::int < %(many)s / 2) = (dispatchers.id = %(silent)s)""",
    """INSERT INTO job_runs (id, environment_id, job_id, version_id, event_record_id)
       SELECT invocations.id, invocations.environment_id, versions.job_id, versions.id, event_record_id
         FROM invocations JOIN job_versions AS versions ON versions.id::text = dispatchable->>'id'""",
    "ANALYZE",
)


def test_what_a_dispatcher_or_a_job_did_last_is_read_from_its_own_end_of_the_index(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = factory.environment("alice")
    made = {slug: factory.dispatcher(alice, to=factory.to_job(factory.job(alice, slug))) for slug in ("silent", "busy")}
    owner = {"organization": alice.organization_id, "environment": alice.id, "project": alice.project_id}
    with db.unit():
        for statement in SILENT:
            db.run(statement, {**owner, "many": MANY, "silent": made["silent"]})

    def of_runs(**wanted: Any) -> dict[str, int]:
        asked = console_runs.Wanted(**wanted)
        return read(monkeypatch, lambda: console_runs.newest(alice.id, alice.project_id, asked, None, PAGE))

    for slug, dispatcher in made.items():
        assert read(monkeypatch, lambda one=dispatcher: console_dispatchers.recent([one], PAGE)) == {
            "invocations": PAGE
        }
        asked = ledger.Wanted(dispatcher=dispatcher)
        found = read(monkeypatch, lambda wanted=asked: ledger.newest(alice.id, wanted, None, PAGE))
        assert found["invocations"] == PAGE + 1
        last = read(monkeypatch, lambda one=dispatcher: console_dispatchers.last_event(one, 100, "test"))
        assert sum(last.values()) <= 2 * 20
        assert read(monkeypatch, lambda one=dispatcher: console_dispatchers.attempts(one, PAGE))["invocations"] <= PAGE
        assert of_runs(job=slug)["job_runs"] <= PAGE + 2
    assert of_runs()["job_runs"] <= 2 * (PAGE + 2)
    assert of_runs(status="SUCCESS")["job_runs"] <= 2 * (500 + 2)


@pytest.mark.parametrize("of", ["invocations", "deliveries"])
@pytest.mark.parametrize("wanted", [{}, {"name": "order.lost"}])
def test_dead_letters_are_looked_at_so_far_and_no_further(
    full: tuple[words.Environment, Any], monkeypatch: pytest.MonkeyPatch, of: str, wanted: dict[str, str]
) -> None:
    environment, _ = full
    asked = redrives.Wanted(of=of, **wanted)

    found = read(monkeypatch, lambda: console_dead_letters.newest(environment.id, asked, None, PAGE))

    assert found.get("invocations", 0) + found.get("outbox", 0) == console_dead_letters.LOOK
    assert found["event_records"] <= console_dead_letters.LOOK


@pytest.mark.parametrize("of", ["invocations", "deliveries"])
def test_they_are_counted_so_far_and_no_further(
    full: tuple[words.Environment, Any], monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    environment, _ = full
    monkeypatch.setattr(console_dead_letters, "COUNTED", 1000)
    asked = redrives.Wanted(of=of, name="order.paid")

    found = read(monkeypatch, lambda: console_dead_letters.count(environment.id, asked))

    assert found.get("invocations", 0) + found.get("outbox", 0) == 1000
    assert found["event_records"] <= 1000
    with db.unit():
        assert console_dead_letters.count(environment.id, asked) == (1000, False)


@pytest.mark.parametrize("here", [True, False])
def test_the_audit_log_is_looked_at_so_far_and_no_further(
    full: tuple[words.Environment, Any], monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    environment, _ = full
    wanted = console_audit.Wanted(operator="victor", environment=environment.id if here else None)

    found = read(monkeypatch, lambda: console_audit.newest(wanted, None, PAGE))

    assert found["audit_entries"] == 2000
