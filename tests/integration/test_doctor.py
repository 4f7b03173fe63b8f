"""`doctor`: what is wrong is named with its cure, and the exit code says the worst."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result

from kongflow_events import models, schemas, settings
from kongflow_events.services import dispatchers, health, ingest
from kongflow_events.store import db
from tests import factory
from tests.integration.test_cli import run
from tests.servers import RabbitMQ


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.current.cache_clear()
    yield
    settings.current.cache_clear()


@pytest.fixture
def here(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that the doctor is told of, with a relay that has just ticked."""
    monkeypatch.setenv("DATABASE_URL", database)
    within(database, lambda: health.beat("scheduler", "host:1"))
    return database


def within(database: str, work: Any) -> Any:
    """Do `work` in a unit of its own: the doctor has the process's one pool for itself."""
    db.connect(database, pool_size=2)
    try:
        with db.unit():
            return work()
    finally:
        db.close()


def execute(database: str, statement: str) -> None:
    within(database, lambda: db.run(statement))


def examine(*words: str) -> tuple[int, dict[str, Any]]:
    result: Result = run("doctor", "--json", *words)
    return result.exit_code, {one["check"]: one for one in json.loads(result.stdout)}


def test_a_healthy_service_has_no_finding(here: str) -> None:
    code, found = examine("--no-broker")

    assert (code, {one["level"] for one in found.values()}) == (0, {"ok"}), found
    assert set(found) == {
        "database",
        "connections",
        "schema",
        "clock of this host",
        "relay",
        "outbox",
        "dead letters",
        "targets",
        "webhook secrets",
        "snapshots",
    }
    shown = run("doctor", "--no-broker")
    assert (shown.exit_code, shown.stdout.count("✓")) == (0, len(found))


def test_orphaned_work_dead_letters_and_failing_targets_are_found_with_their_cures(here: str) -> None:
    def harm() -> None:
        environment = factory.environment()
        rule = factory.dispatcher(environment, to=factory.to_url("http://127.0.0.1:9/"))
        other = factory.dispatcher(environment, to=factory.to_url("http://127.0.0.1:10/"))
        models.Target.create(dispatcher_id=rule, failures=9, opened_at=db.now())
        models.Target.create(dispatcher_id=other, failures=9, opened_at=db.now(), disabled_at=db.now())

    within(here, harm)
    past = "now() - interval '1 hour'"
    execute(
        here,
        f"""INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
            VALUES (gen_random_uuid(), 'deliver', gen_random_uuid(), {past}, {past})""",
    )
    execute(
        here,
        f"""INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, lease_until, token)
            VALUES (gen_random_uuid(), 'post', gen_random_uuid(), {past}, now(), {past}, gen_random_uuid())""",
    )
    execute(
        here,
        """INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, died_at)
           VALUES (gen_random_uuid(), 'deliver', gen_random_uuid(), now(), 'infinity', now())""",
    )
    code, found = examine("--no-broker")

    assert code == 1
    assert (found["deliver"]["level"], "1 that no worker is told of" in found["deliver"]["said"]) == ("problem", True)
    assert (found["post"]["level"], "1 left by workers that are gone" in found["post"]["said"]) == ("warning", True)
    assert (found["dead letters"]["level"], found["dead letters"]["said"]) == ("warning", "1")
    assert found["targets"]["said"] == "1 failing and left alone, 1 disabled for it: 2 in alice/alice/development"
    assert all(one["cure"] for one in found.values() if one["level"] != "ok")


def test_calls_that_wait_for_a_target_that_rests_are_not_late(here: str) -> None:
    def rest() -> None:
        rule = factory.dispatcher(factory.environment(), to=factory.to_url("http://127.0.0.1:9/"))
        models.Target.create(
            dispatcher_id=rule, failures=9, opened_at=db.now(), rests_until=db.now() + timedelta(hours=1)
        )
        for lane, due in ((rule, "1 hour"), (rule, "1 hour"), (uuid.uuid4(), "1 minute")):
            db.run(
                """INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at)
                   VALUES (gen_random_uuid(), 'post', %s, now() - %s::interval, now())""",
                (lane, due),
            )

    within(here, rest)
    said = examine("--no-broker")[1]["post"]["said"]
    execute(here, "DELETE FROM outbox WHERE lane NOT IN (SELECT dispatcher_id FROM targets)")

    assert re.fullmatch("3 owed, the first since 6[0-9] s; 2 for a target that rests or is paused", said)
    assert examine("--no-broker")[1]["post"]["said"] == "2 owed; 2 for a target that rests or is paused"


def test_the_environments_with_the_most_dead_letters_are_named(here: str) -> None:
    def harm() -> None:
        for name, number in (("few", 1), ("most", 4), ("some", 2), ("more", 3)):
            environment = factory.environment(name)
            rule = factory.dispatcher(environment, to=factory.to_url("http://127.0.0.1:9/"))
            for _ in range(number):
                ingest.ingest_send_event(environment, factory.event())
            db.run(
                """INSERT INTO invocations (environment_id, event_record_id, dispatcher_id, dispatcher_event,
                                            dispatchable, status, died_at)
                   SELECT environment_id, id, %s, name, '{}', 'DEAD', now() FROM event_records WHERE environment_id = %s""",
                (rule, environment.id),
            )
        # And a delivery of the worst.
        db.run(
            """UPDATE outbox SET hint_at = 'infinity', died_at = now()
                WHERE subject_id = (SELECT max(subject_id::text)::uuid FROM outbox WHERE lane = (
                    SELECT id FROM runtime_environments WHERE project_id = (SELECT id FROM projects WHERE slug = 'most')))"""
        )

    within(here, harm)
    said = examine("--no-broker")[1]["dead letters"]["said"]

    assert said == "11: 5 in most/most/development, 3 in more/more/development, 2 in some/some/development, 1 elsewhere"


def test_warnings_alone_have_a_code_of_their_own(here: str) -> None:
    execute(here, "UPDATE process_heartbeats SET beat_at = now()")
    execute(
        here,
        """INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, died_at)
           VALUES (gen_random_uuid(), 'deliver', gen_random_uuid(), now(), 'infinity', now())""",
    )

    assert examine("--no-broker")[0] == 5
    assert "→ kongflow-events dead list" in run("doctor", "--no-broker").stdout


def test_a_silent_relay_and_a_clock_that_is_wrong_are_found(here: str) -> None:
    execute(here, "UPDATE process_heartbeats SET beat_at = now() - interval '1 hour'")
    within(here, lambda: ingest.ingest_send_event(factory.environment(), factory.event()))
    execute(here, "UPDATE event_records SET created_at = created_at + interval '1 minute'")
    code, found = examine("--no-broker")

    assert code == 1
    assert found["relay"]["said"].startswith("the last one, host:1, was seen 36")
    clock = found["clocks of web processes"]
    assert (clock["level"], clock["said"]) == ("warning", "60.0 s behind the database's")

    execute(here, "DELETE FROM process_heartbeats")
    assert examine("--no-broker")[1]["relay"]["said"] == "none has run yet"


def test_secrets_that_the_key_does_not_open_are_found(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def webhook() -> None:
        body = {"event": "a", "dispatchable": {"type": "WEBHOOK", "url": "http://127.0.0.1:9/"}}
        dispatchers.create_event_dispatcher(factory.environment(), schemas.parse_dispatcher(json.dumps(body).encode()))

    within(here, webhook)
    assert examine("--no-broker")[1]["webhook secrets"]["said"] == "1, and KONGFLOW_SECRET_KEY opens them"

    monkeypatch.setenv("KONGFLOW_SECRET_KEY", base64.b64encode(b"another key, of 32 bytes, it is.").decode())
    settings.current.cache_clear()
    secrets = examine("--no-broker")[1]["webhook secrets"]
    assert (secrets["level"], secrets["said"]) == ("problem", "KONGFLOW_SECRET_KEY opens 0 of 1")


def test_a_schema_that_is_behind_ends_the_examination(here: str) -> None:
    execute(here, "DELETE FROM schema_migrations WHERE starts_with(name, '0005')")
    code, found = examine("--no-broker")

    assert (code, list(found)) == (1, ["database", "connections", "schema"])
    assert found["schema"]["cure"] == "run kongflow-events migrate"


def test_a_database_that_is_away_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    code, found = examine("--no-broker")

    assert code == 4
    assert found["database"]["said"].startswith("away: ")


def test_queues_without_workers_are_found(here: str, queues: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", queues.url)
    code, found = examine()

    assert code == 1
    for kind, process in (("deliver", "worker"), ("invoke", "worker"), ("post", "poster")):
        assert found[f"queue {kind}"]["said"] == "0 messages, 0 consumers"
        assert found[f"queue {kind}"]["cure"].startswith(f"start a {process}")


def test_a_broker_that_is_away_is_unreachable(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1")
    code, found = examine()

    assert code == 4
    assert "at its return" in found["broker"]["cure"]
