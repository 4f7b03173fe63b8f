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


def test_a_dispatchers_health_is_read_from_its_end_of_the_index(
    full: tuple[words.Environment, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dispatcher = full

    assert read(monkeypatch, lambda: console_dispatchers.recent([dispatcher], PAGE)) == {"invocations": PAGE}
    assert read(monkeypatch, lambda: console_dispatchers.attempts(dispatcher, PAGE)) == {
        "invocations": PAGE,
        "invocation_attempts": PAGE,
    }
    assert sum(read(monkeypatch, lambda: console_dispatchers.last_event(dispatcher, 100)).values()) <= 2


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


@pytest.mark.parametrize("status", [None, "SUCCESS"])
def test_runs_are_read_from_each_jobs_end_of_the_index(
    full: tuple[words.Environment, Any], monkeypatch: pytest.MonkeyPatch, status: str | None
) -> None:
    environment, _ = full
    wanted = console_runs.Wanted(status=status)

    found = read(monkeypatch, lambda: console_runs.newest(environment.id, environment.project_id, wanted, None, PAGE))

    looked = PAGE + 1 if status is None else 500
    assert found["job_runs"] <= 2 * (looked + 2)


@pytest.mark.parametrize("here", [True, False])
def test_the_audit_log_is_looked_at_so_far_and_no_further(
    full: tuple[words.Environment, Any], monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    environment, _ = full
    wanted = console_audit.Wanted(operator="victor", environment=environment.id if here else None)

    found = read(monkeypatch, lambda: console_audit.newest(wanted, None, PAGE))

    assert found["audit_entries"] == 2000
