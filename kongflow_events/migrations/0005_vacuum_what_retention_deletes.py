"""Vacuum as often as retention deletes."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Set it."""
    for table in ("event_records", "invocations", "invocation_attempts", "job_runs"):
        db.execute_sql(f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.05)")
