"""`schema.sql` into a new database, later steps by `playhouse.migrations`; safe to run twice and by two at once."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import peewee
from playhouse.migrations import Runner

from kongflow_events.store import db

HISTORY = "schema_migrations"
# Any constant will do, as long as every process that migrates takes the same lock.
LOCK = 5_067_103_021


def migrate(database_url: str) -> list[str]:
    """Bring the database at `database_url` to this package's schema; returns the names of the steps it took.

    A new database gets `schema.sql` in one transaction and every later step recorded as done. The session-wide
    advisory lock makes a second process wait; the URL must therefore be a direct one, not a transaction pooler's.
    """
    database = peewee.PostgresqlDatabase(database_url, autoconnect=False, connect_timeout=10)
    with database.connection_context():
        database.execute_sql("SELECT pg_advisory_lock(%s)", (LOCK,))
        runner = Runner(database, directory=str(steps_directory()), table_name=HISTORY)
        if database.table_exists("event_records"):
            return [str(name) for name in runner.up()]
        # A bare cursor without parameters: Peewee's own execute would choke on a % in a comment or default.
        with database.atomic(), database.connection().cursor() as cursor:
            cursor.execute(schema_sql())
            runner.fake()
        return ["schema.sql"]


def pending() -> list[str]:
    """The steps that this package has and the connected database does not; `schema.sql` itself when it is empty."""
    if not db.rows("SELECT to_regclass('event_records') IS NOT NULL AS there")[0]["there"]:
        return ["schema.sql"]
    applied = {row["name"] for row in db.rows(f"SELECT name FROM {HISTORY}")}
    return [path.stem for path in sorted(steps_directory().glob("[0-9]*.py")) if path.stem not in applied]


def steps_directory() -> Path:
    """Where the numbered steps lie."""
    return Path(str(resources.files("kongflow_events"))) / "migrations"


def schema_sql() -> str:
    """The text of `schema.sql`: inside the installed wheel, one directory up in a checkout."""
    package = Path(str(resources.files("kongflow_events")))
    inside, beside = package / "schema.sql", package.parent / "schema.sql"
    return (inside if inside.exists() else beside).read_text(encoding="utf-8")
