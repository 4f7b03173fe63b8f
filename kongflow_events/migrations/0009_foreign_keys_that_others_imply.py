"""Invocations and runs checked against their event, and runs against their job: the rest comes and goes with those."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Drop the other checks, and the index that was only for one of them."""
    # It wants the tables alone for a moment. Behind a long reader it must not have everybody wait, but fail and be run again.
    db.execute_sql("SET LOCAL lock_timeout = '2s'")
    db.execute_sql("ALTER TABLE invocations DROP CONSTRAINT invocations_environment_id_fkey")
    db.execute_sql("ALTER TABLE job_runs DROP CONSTRAINT job_runs_environment_id_fkey")
    db.execute_sql("ALTER TABLE job_runs DROP CONSTRAINT job_runs_version_id_fkey")
    db.execute_sql("DROP INDEX job_runs_version_id")
