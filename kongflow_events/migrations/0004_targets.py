"""How the receivers of posts are doing."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Add it."""
    db.execute_sql("""
        CREATE TABLE targets (
            dispatcher_id UUID PRIMARY KEY REFERENCES event_dispatchers(id) ON DELETE CASCADE,
            calls UUID[] NOT NULL DEFAULT '{}',
            paced_until TIMESTAMPTZ,
            failures INTEGER NOT NULL DEFAULT 0,
            failing_since TIMESTAMPTZ,
            opened_at TIMESTAMPTZ,
            pauses INTEGER NOT NULL DEFAULT 0,
            probe UUID,
            rests_until TIMESTAMPTZ,
            held_until TIMESTAMPTZ,
            disabled_at TIMESTAMPTZ,
            disabled_reason TEXT
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
                autovacuum_vacuum_cost_delay = 0)
    """)
