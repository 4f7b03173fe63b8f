"""Remember the trace that an event's request belongs to."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Add the column; it reads and writes no row."""
    db.execute_sql("ALTER TABLE event_records ADD COLUMN traceparent TEXT")
