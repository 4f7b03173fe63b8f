"""Rounds of attempts, and the operations that redrive and replay many rows."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Add them."""
    db.execute_sql("ALTER TABLE invocations ADD COLUMN redrives INTEGER NOT NULL DEFAULT 0")
    db.execute_sql("ALTER TABLE invocations ADD COLUMN last_outcome TEXT")
    db.execute_sql("CREATE INDEX invocations_newest ON invocations(environment_id, id DESC)")
    db.execute_sql("ALTER TABLE invocation_attempts ADD COLUMN round INTEGER NOT NULL DEFAULT 0")
    db.execute_sql("""
        ALTER TABLE invocation_attempts
            DROP CONSTRAINT invocation_attempts_pkey,
            ADD PRIMARY KEY (invocation_id, round, number),
            DROP CONSTRAINT invocation_attempts_outcome_check,
            ADD CONSTRAINT invocation_attempts_outcome_check CHECK (outcome IN (
                'succeeded', 'refused', 'unreachable', 'timeout', 'blocked', 'failed', 'missing', 'lost'))
    """)
    db.execute_sql("""
        CREATE TABLE bulk_operations (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
            kind TEXT NOT NULL CHECK (kind IN ('redrive', 'replay')),
            state TEXT NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'DONE', 'CANCELED')),
            criteria JSONB NOT NULL,
            rate INTEGER NOT NULL,
            total BIGINT NOT NULL,
            seen BIGINT NOT NULL DEFAULT 0,
            done BIGINT NOT NULL DEFAULT 0,
            passed UUID,
            passed_at TIMESTAMPTZ,
            next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
            last_error TEXT,
            created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
            finished_at TIMESTAMPTZ
        )
    """)
    db.execute_sql("CREATE INDEX bulk_operations_newest ON bulk_operations(environment_id, id DESC)")
    db.execute_sql("CREATE INDEX bulk_operations_running ON bulk_operations(kind, next_at) WHERE state = 'RUNNING'")
