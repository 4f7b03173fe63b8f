"""Targets that are paused, and a dispatcher's own invocations, newest first."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Add them."""
    db.execute_sql("ALTER TABLE targets ADD COLUMN paused_at TIMESTAMPTZ")
    db.execute_sql("CREATE INDEX invocations_dispatcher_newest ON invocations(dispatcher_id, id DESC)")
