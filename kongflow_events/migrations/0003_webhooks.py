"""Webhooks: their secrets, and what their calls sent."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Add them."""
    db.execute_sql("""
        CREATE TABLE webhook_secrets (
            id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
            dispatcher_id UUID NOT NULL REFERENCES event_dispatchers(id) ON DELETE CASCADE,
            sealed BYTEA NOT NULL,
            public_key TEXT,
            created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
            expires_at TIMESTAMPTZ
        )
    """)
    db.execute_sql("CREATE INDEX webhook_secrets_dispatcher_id ON webhook_secrets(dispatcher_id)")
    db.execute_sql(
        "CREATE UNIQUE INDEX webhook_secrets_current_key ON webhook_secrets(dispatcher_id) WHERE expires_at IS NULL"
    )
    db.execute_sql(
        "CREATE INDEX webhook_secrets_expires_at ON webhook_secrets(expires_at) WHERE expires_at IS NOT NULL"
    )
    db.execute_sql("ALTER TABLE invocation_attempts ADD COLUMN request_headers JSONB")
