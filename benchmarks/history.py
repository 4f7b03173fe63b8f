"""Fills a database with what the service would have left there: past events with all that came of them, rules, delays.

Set by set, with triggers off and without the indexes, which are built again at the end: ten million events take minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg2

from benchmarks import workload
from kongflow_events import words

_FILLED = ("event_records", "invocations", "job_runs")
# Days over which the past is spread; fewer than the service keeps.
_DAYS = 20

# An id as the service makes them, for a row of that time.
_ID_OF = """
CREATE FUNCTION pg_temp.id_of(at timestamptz) RETURNS uuid LANGUAGE sql AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || right(replace(gen_random_uuid()::text, '-', ''), 19))::uuid
$$
"""

# Even events have ids of the server's form, which grow with time; odd ones random ids of their senders.
_EVENTS = f"""
INSERT INTO event_records (id, event_id, name, timestamp, payload, payload_raw, organization_id, environment_id, project_id,
                           deliver_at, delivered_at, created_at, updated_at)
SELECT pg_temp.id_of(at),
       CASE WHEN number %% 2 = 0 THEN '01' || upper(lpad(to_hex(number), 24, '0')) ELSE gen_random_uuid()::text END,
       %(name)s, at, body::jsonb, body, %(organization)s, %(environment)s, %(project)s, at, at, at, at
FROM (SELECT number, now() - interval '{_DAYS} days' * (1 - number::float8 / %(count)s) - %(until)s AS at,
             replace(replace(%(payload)s, '"order":0', '"order":' || number), '"t0"', '"t' || number %% 10 || '"') AS body
      FROM generate_series(1, %(count)s) AS number) AS past
"""

_INVOCATIONS = """
INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable, status,
                         attempts, created_at, completed_at)
SELECT pg_temp.id_of(event.created_at), event.environment_id, event.id, dispatcher.id, dispatcher.event,
       dispatcher.dispatchable, 'SUCCEEDED', 1, event.created_at, event.created_at
FROM event_records AS event
JOIN (event_dispatchers AS dispatcher
      CROSS JOIN LATERAL jsonb_array_elements(dispatcher.payload_filter->'tenant') AS asked(tenant))
  ON asked.tenant = event.payload->'tenant'
"""

_RUNS = """
INSERT INTO job_runs (id, environment_id, job_id, version_id, event_record_id, invocation_id, created_at, updated_at)
SELECT pg_temp.id_of(invocation.created_at), invocation.environment_id, version.job_id, version.id,
       invocation.event_record_id, invocation.id, invocation.created_at, invocation.created_at
FROM invocations AS invocation JOIN job_versions AS version ON version.id::text = invocation.dispatchable->>'id'
"""

_DISPATCHERS = """
WITH made AS (
    INSERT INTO event_dispatchers (id, event, source, payload_filter, dispatchable_id, dispatchable, environment_id)
    SELECT pg_temp.id_of(now()), %(name)s || CASE WHEN %(apart)s THEN '.' || number ELSE '' END, 'trigger.dev',
           %(filter)s::jsonb, gen_random_uuid()::text, %(dispatchable)s::jsonb, %(environment)s
    FROM generate_series(1, %(count)s) AS number
    RETURNING id, event, source, environment_id
)
INSERT INTO event_dispatcher_names (environment_id, source, name, dispatcher_id)
SELECT environment_id, source, event, id FROM made
"""

# Events that wait: most for days, some for the second after `first`, evenly.
_DELAYED = """
WITH waiting AS (
    INSERT INTO event_records (id, event_id, name, payload, payload_raw,
                               organization_id, environment_id, project_id, deliver_at)
    SELECT pg_temp.id_of(now()), gen_random_uuid()::text, %(name)s, body::jsonb, body, %(organization)s, %(environment)s,
           %(project)s, %(first)s::timestamptz + number * %(apart)s::interval
    FROM (SELECT number, replace(%(payload)s, '"order":0', '"order":' || number) AS body
          FROM generate_series(0, %(count)s - 1) AS number) AS future
    RETURNING id, environment_id, deliver_at
)
INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
SELECT id, 'deliver', environment_id, deliver_at, deliver_at FROM waiting
"""


def events(database: str, environment: words.Environment, count: int, *, until: timedelta = timedelta(hours=1)) -> None:
    """That many past events, the last so long ago, with their invocations and runs by the dispatchers that are there."""
    with _filling(database) as cursor, _without_indexes(cursor, _FILLED):
        cursor.execute(_EVENTS, {**_of(environment), "count": count, "until": until})
        # The planner must know what it joins.
        cursor.execute("ANALYZE event_records")
        cursor.execute(_INVOCATIONS)
        cursor.execute("ANALYZE invocations")
        cursor.execute(_RUNS)
    settle(database)


def dispatchers(
    database: str, environment: words.Environment, version_id: str, count: int, rule: dict[str, Any], *, apart: bool
) -> None:
    """Rules that start one job; they listen to the workload's name, or when they are `apart` each to a name of its own."""
    dispatchable = {"type": words.JOB_VERSION, "id": version_id}
    values = {"filter": json.dumps(rule), "dispatchable": json.dumps(dispatchable), "count": count, "apart": apart}
    with _filling(database) as cursor:
        cursor.execute(_DISPATCHERS, {**_of(environment), **values})
    settle(database)


def delayed(database: str, environment: words.Environment, count: int, first: datetime, apart: timedelta) -> None:
    """Events that wait, the first until `first`, each of the others for `apart` longer."""
    with _filling(database) as cursor:
        cursor.execute(_DELAYED, {**_of(environment), "count": count, "first": first, "apart": apart})


def _of(environment: words.Environment) -> dict[str, Any]:
    return {
        "environment": str(environment.id),
        "organization": str(environment.organization_id),
        "project": str(environment.project_id),
        "name": workload.EVENT,
        "payload": json.dumps(workload.order(0)["payload"], separators=(",", ":")),
    }


@contextmanager
def _filling(database: str) -> Iterator[Any]:
    """One transaction for rows of many; their foreign keys are right by the way they are made."""
    connection = psycopg2.connect(database)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SET session_replication_role = replica; SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'"
        )
        cursor.execute(_ID_OF)
        yield cursor
    connection.close()


@contextmanager
def _without_indexes(cursor: Any, tables: tuple[str, ...]) -> Iterator[None]:
    """Drop the keys and indexes of these tables, and what refers to them; put all of it back."""
    cursor.execute(
        """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype FROM pg_constraint
        WHERE contype IN ('p', 'u', 'f')
          AND (conrelid = ANY(%(tables)s::regclass[]) OR confrelid = ANY(%(tables)s::regclass[]))
        ORDER BY contype = 'f' DESC
        """,
        {"tables": list(tables)},
    )
    constraints = cursor.fetchall()
    for table, name, _, _ in constraints:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = ANY(%s::regclass[])",
        [list(tables)],
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    for table, name, definition, kind in reversed(constraints):
        # What the rows' making has seen to is not read through again.
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}{' NOT VALID' if kind == 'f' else ''}")
    for _, definition in indexes:
        cursor.execute(definition)


def settle(database: str) -> None:
    """Statistics, visibility and a checkpoint, as a server has them that came to this slowly."""
    connection = psycopg2.connect(database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")
    connection.close()
