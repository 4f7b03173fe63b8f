"""The buckets of the rate limits."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Add them."""
    db.execute_sql("""
        CREATE UNLOGGED TABLE token_buckets (
            owner_id UUID PRIMARY KEY,
            burst INTEGER NOT NULL,
            rate DOUBLE PRECISION NOT NULL,
            tokens DOUBLE PRECISION NOT NULL,
            let_in BOOLEAN NOT NULL,
            refilled_at TIMESTAMPTZ NOT NULL
        ) WITH (fillfactor = 50)
    """)
