"""Schema, models, keys and environments: what stands in the database, and who may come in."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import peewee
import psycopg2
import pytest

from kongflow_events import embedded, errors, models, words
from kongflow_events.services import environments, health, keys
from kongflow_events.store import counts, db, schema
from tests import factory
from tests.processes import query

# What the catalogue calls each type that a model's field says it has.
TYPES = {
    "UUID": "uuid",
    "TEXT": "text",
    "TIMESTAMPTZ": "timestamp with time zone",
    "JSONB": "jsonb",
    "BOOL": "boolean",
    "BLOB": "bytea",
    "INT": "integer",
    "BIGINT": "bigint",
    "BIGAUTO": "bigint",
    "DOUBLE": "double precision",
    "UUID[]": "ARRAY",
}

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable = 'YES' FROM information_schema.columns
 WHERE table_schema = 'public' AND table_name <> 'schema_migrations'
"""
PRIMARY_KEYS = """
SELECT conrelid::regclass::text, array(
       SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS keys(number, place)
         JOIN pg_attribute ON attrelid = conrelid AND attnum = keys.number ORDER BY place)
  FROM pg_constraint WHERE contype = 'p' AND connamespace = 'public'::regnamespace
"""

# Everything that makes a schema, but for the order in which columns were added.
CATALOGUE = """
SELECT table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default) FROM information_schema.columns
 WHERE table_schema = 'public'
 UNION ALL
SELECT relname, relkind::text, concat_ws(' ', relpersistence, reloptions) FROM pg_class
 WHERE relnamespace = 'public'::regnamespace
 UNION ALL
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
 UNION ALL
SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
 UNION ALL
SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
 UNION ALL
SELECT proname, proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""
# The schema of databases that were made before the first numbered step.
BEFORE_ALL_STEPS = Path(__file__).parent.parent / "data" / "schema-0000.sql"


def make_and_fail() -> None:
    db.run("CREATE TABLE never_committed ()")
    db.run("SELECT 1 / 0")


class TestSchema:
    def test_the_models_say_what_the_catalogue_says(self, database: str) -> None:
        stored = {(table, column): (kind, null) for table, column, kind, null in query(database, COLUMNS)}
        said = {
            (table._meta.table_name, field.column_name): (TYPES[field.field_type], field.null)
            for table in models.TABLES
            for field in table._meta.sorted_fields
        }

        # A context may be NULL in the migration plan; nothing of ours leaves it so.
        assert said == stored

    def test_the_models_have_the_catalogues_primary_keys(self, database: str) -> None:
        said = {
            table._meta.table_name: [field.column_name for field in table._meta.get_primary_keys()]
            for table in models.TABLES
        }

        stored = {table: columns for table, columns in query(database, PRIMARY_KEYS) if table != "schema_migrations"}
        assert said == stored

    def test_migrating_twice_does_nothing_more(self, empty_database: str) -> None:
        assert schema.migrate(empty_database) == ["schema.sql"]
        assert schema.migrate(empty_database) == []

    def test_an_older_database_is_brought_to_what_a_new_one_is(self, database: str, empty_database: str) -> None:
        older = psycopg2.connect(empty_database)
        with older, older.cursor() as cursor:
            cursor.execute(BEFORE_ALL_STEPS.read_text())
        older.close()
        steps = sorted(path.stem for path in schema.steps_directory().glob("[0-9]*.py"))

        assert schema.migrate(empty_database) == steps
        assert schema.migrate(empty_database) == []
        assert sorted(query(empty_database, CATALOGUE)) == sorted(query(database, CATALOGUE))

    def test_readiness_names_the_steps_that_are_missing(self, empty_database: str) -> None:
        schema.migrate(empty_database)
        db.connect(empty_database)
        with db.unit():
            db.run("DELETE FROM schema_migrations WHERE name = '0001_token_buckets'")
        found = health.readiness()
        db.close()

        assert not found.ready
        assert found.checks["schema"] == "run kongflow-events migrate: 0001_token_buckets missing"

    def test_two_processes_at_once_migrate_once(self, empty_database: str) -> None:
        program = f"from kongflow_events.store import schema; print(schema.migrate({empty_database!r}))"
        started = [
            subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        said = sorted(process.communicate()[0].strip() for process in started)

        assert said == ["['schema.sql']", "[]", "[]"]

    def test_a_statement_that_takes_too_long_is_ended(self, database: str) -> None:
        db.connect(database, statement_seconds=0.2)
        with pytest.raises(db.AWAY), db.unit():
            db.run("SELECT pg_sleep(5)")
        db.close()

    def test_a_unit_of_work_gives_its_connection_back_whatever_happens(self, database: str) -> None:
        db.connect(database, pool_size=1, wait_seconds=0.1)
        for _ in range(3):
            with pytest.raises(Exception, match="division by zero"), db.unit(), db.atomic():
                make_and_fail()
        with db.unit():
            assert db.rows("SELECT to_regclass('never_committed') AS it") == [{"it": None}]
        db.close()

    def test_a_server_that_is_frozen_is_given_up(self, home: Path) -> None:
        home.mkdir()
        with embedded.EmbeddedPostgres(home / "postgres") as server:
            db.connect(server.url, pool_size=1, statement_seconds=0.2)
            with db.unit():
                [row] = db.rows("SELECT pg_backend_pid() AS pid")
            os.kill(row["pid"], signal.SIGSTOP)
            try:
                with pytest.raises(db.AWAY), db.unit():
                    db.rows("SELECT 1 AS one")
            finally:
                os.kill(row["pid"], signal.SIGCONT)
            with db.unit():
                assert db.rows("SELECT 1 AS one") == [{"one": 1}]
            db.close()

    def test_many_who_dial_a_frozen_server_do_not_wait_for_each_other(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as frozen:
            db.connect(f"postgresql://nobody@127.0.0.1:{frozen.getsockname()[1]}/x", pool_size=12, statement_seconds=3)

            def enter() -> None:
                with db.unit():
                    raise AssertionError("nobody is there")

            with ThreadPoolExecutor(12) as units:
                entering = [units.submit(enter) for _ in range(12)]
                # One after the other they would take two seconds each.
                wait(entering, 10)
                assert all(one.done() and isinstance(one.exception(), db.AWAY) for one in entering)
            db.close()

    def test_a_connection_that_the_server_ended_is_replaced(self, database: str) -> None:
        db.connect(database, pool_size=1)
        with db.unit():
            [row] = db.rows("SELECT pg_backend_pid() AS pid")
        query(database, f"SELECT pg_terminate_backend({row['pid']}, 10000)")
        with db.unit():
            assert db.rows("SELECT 1 AS one") == [{"one": 1}]
        db.close()


@pytest.mark.usefixtures("store")
class TestKeys:
    @pytest.fixture(autouse=True)
    def _forgotten(self) -> None:
        keys._verified.clear()

    @pytest.fixture
    def alice(self) -> words.Environment:
        return factory.environment("alice")

    def make(self, environment: words.Environment, kind: str = keys.PRIVATE) -> keys.NewKey:
        with db.unit():
            return keys.create_key(environment, kind)

    def test_a_key_looks_as_upstreams_client_wants_it_and_is_stored_as_its_hash(self, alice: words.Environment) -> None:
        made = self.make(alice)

        assert made.key.startswith("tr_dev_")
        assert made.key.removeprefix("tr_dev_").isalnum()
        assert self.make(alice, keys.PUBLIC).key.startswith("pk_dev_")
        with db.unit():
            row = models.ApiKey.get_by_id(made.id)
            assert bytes(row.sha256) == hashlib.sha256(made.key.encode()).digest()
            assert row.prefix == made.key[:11]
            assert made.key not in str(db.rows("SELECT to_jsonb(api_keys)::text AS it FROM api_keys"))

    @pytest.mark.parametrize("form", ["Bearer {}", "{}"])
    def test_it_lets_in_with_and_without_bearer(self, alice: words.Environment, form: str) -> None:
        assert keys.authenticate(form.format(self.make(alice).key)) == alice

    def test_its_use_is_noted(self, alice: words.Environment) -> None:
        made = self.make(alice)
        keys.authenticate(made.key)

        with db.unit():
            assert models.ApiKey.get_by_id(made.id).last_used_at is not None

    @pytest.mark.parametrize("form", ["bearer {}", "Bearer  {}", "Token {}", "{} ", "Bearer Bearer {}"])
    def test_other_forms_are_refused(self, alice: words.Environment, form: str) -> None:
        with pytest.raises(errors.Unauthorized):
            keys.authenticate(form.format(self.make(alice).key))

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE api_keys SET revoked_at = now()",
            "UPDATE api_keys SET expires_at = now()",
            "UPDATE projects SET deleted_at = now()",
            "UPDATE organizations SET deleted_at = now()",
        ],
    )
    def test_a_key_that_ended_is_refused(self, alice: words.Environment, change: str) -> None:
        made = self.make(alice)
        with db.unit():
            db.run(change)

        with pytest.raises(errors.Unauthorized):
            keys.authenticate(made.key)

    def test_a_public_key_is_for_reading(self, alice: words.Environment) -> None:
        made = self.make(alice, keys.PUBLIC)

        assert keys.authenticate(made.key, public_allowed=True) == alice
        with pytest.raises(errors.Unauthorized):
            keys.authenticate(made.key)

    def test_a_verified_key_is_believed_for_five_seconds_and_no_longer(
        self, alice: words.Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr(keys.time, "monotonic", lambda: now)
        made = self.make(alice)
        keys.authenticate(made.key)
        with db.unit():
            db.run("UPDATE api_keys SET revoked_at = now()")

        now = 1004.9
        assert keys.authenticate(made.key) == alice
        now = 1005.1
        with pytest.raises(errors.Unauthorized):
            keys.authenticate(made.key)

    def test_several_keys_live_at_a_time_and_one_is_revoked_by_its_prefix(self, alice: words.Environment) -> None:
        old, new = self.make(alice), self.make(alice)
        keys.authenticate(old.key)
        with db.unit():
            keys.revoke_key(alice, old.prefix)
            with pytest.raises(errors.NotFound):
                keys.revoke_key(alice, old.prefix)
            assert [key.revoked_at is None for key in keys.list_keys(alice)] == [True, False]

        assert keys.authenticate(new.key) == alice
        with pytest.raises(errors.Unauthorized):
            keys.authenticate(old.key)

    def test_another_tenants_key_cannot_be_revoked(self, alice: words.Environment) -> None:
        made = self.make(alice)
        with db.unit(), pytest.raises(errors.NotFound):
            keys.revoke_key(factory.environment("bob"), str(made.id))

        assert keys.authenticate(made.key) == alice


@pytest.mark.usefixtures("store")
class TestEnvironments:
    def make(self, *place: str) -> words.Environment:
        with db.unit():
            return environments.create_environment(*place)

    def test_organization_and_project_are_made_once(self) -> None:
        first = self.make("acme", "shop", "PRODUCTION")
        second = self.make("acme", "shop", "DEVELOPMENT")

        assert (first.slug, second.slug) == ("prod", "dev")
        assert (first.organization_id, first.project_id) == (second.organization_id, second.project_id)
        with db.unit():
            assert environments.find_environment("acme/shop/production").id == first.id
            assert environments.find_environment("acme/shop/dev").id == second.id

    @pytest.mark.parametrize("place", [("acme", "shop", "PRODUCTION"), ("other", "shop", "STAGING")])
    def test_a_place_that_is_taken_is_a_conflict(self, place: tuple[str, str, str]) -> None:
        self.make("acme", "shop", "PRODUCTION")

        with pytest.raises(errors.Conflict):
            self.make(*place)

    def test_ensuring_finds_what_is_there(self) -> None:
        made = self.make("acme", "shop", "DEVELOPMENT")
        with db.unit():
            assert environments.ensure_environment("acme", "shop", "DEVELOPMENT").id == made.id

    @pytest.mark.parametrize("place", ["acme", "acme/shop/dev", "a/b/c/d"])
    def test_a_place_that_is_none_is_not_found(self, place: str) -> None:
        with db.unit(), pytest.raises(errors.NotFound):
            environments.find_environment(place)


@pytest.mark.usefixtures("store")
class TestCounts:
    def test_what_is_counted_quickly_is_exact(self) -> None:
        with db.unit():
            assert counts.matching("FROM generate_series(1, %(most)s) WHERE TRUE", {"most": 7}) == 7

    def test_what_would_take_too_long_is_estimated_and_other_statements_have_their_time_as_before(self) -> None:
        slow = "FROM generate_series(1, 500) AS one WHERE pg_sleep(0.01) IS NOT NULL"
        with db.unit(), db.atomic():
            [before] = db.rows("SHOW statement_timeout")
            estimate = counts.matching(slow, {}, 0.1)
            assert estimate in range(1, 501)
            assert len(str(estimate).rstrip("0")) <= 2
            assert db.rows("SHOW statement_timeout") == [before]
            assert counts.matching("FROM generate_series(1, 2) WHERE TRUE", {}) == 2
            assert db.rows("SHOW statement_timeout") == [before]

    def test_another_failure_is_one(self) -> None:
        with db.unit(), pytest.raises(peewee.ProgrammingError):
            counts.matching("FROM nowhere WHERE TRUE", {})


@pytest.mark.usefixtures("store")
def test_a_process_that_fell_silent_a_day_ago_is_forgotten() -> None:
    with db.unit():
        health.beat("scheduler", "old")
        db.run("UPDATE process_heartbeats SET beat_at = now() - interval '25 h'")
        health.beat("scheduler", "new")
        health.beat("scheduler", "new")
        rows: list[dict[str, Any]] = db.rows("SELECT instance FROM process_heartbeats")

    assert rows == [{"instance": "new"}]
