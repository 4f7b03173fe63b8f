"""Operators of the console, their sessions, and what they did."""

from __future__ import annotations

import peewee
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: peewee.PostgresqlDatabase) -> None:  # noqa: ARG001 - the runner's signature
    """Add them."""
    db.execute_sql("""
        CREATE TABLE operators (
            id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
            name TEXT NOT NULL CONSTRAINT operators_name_key UNIQUE,
            role TEXT NOT NULL CHECK (role IN ('viewer', 'operator')),
            password TEXT,
            created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
            disabled_at TIMESTAMPTZ
        )
    """)
    db.execute_sql("""
        CREATE TABLE operator_sessions (
            sha256 BYTEA PRIMARY KEY,
            operator_id UUID NOT NULL REFERENCES operators(id) ON DELETE CASCADE,
            created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
            expires_at TIMESTAMPTZ NOT NULL
        )
    """)
    db.execute_sql("CREATE INDEX operator_sessions_operator_id ON operator_sessions(operator_id)")
    db.execute_sql("CREATE INDEX operator_sessions_expires_at ON operator_sessions(expires_at)")
    db.execute_sql("""
        CREATE TABLE operator_links (
            sha256 BYTEA PRIMARY KEY,
            operator_id UUID NOT NULL REFERENCES operators(id) ON DELETE CASCADE,
            expires_at TIMESTAMPTZ NOT NULL
        )
    """)
    db.execute_sql("CREATE INDEX operator_links_operator_id ON operator_links(operator_id)")
    db.execute_sql("""
        CREATE TABLE audit_entries (
            id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
            at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
            operator_id UUID,
            operator TEXT NOT NULL,
            address TEXT NOT NULL,
            environment_id UUID,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            details JSONB
        )
    """)
    db.execute_sql("CREATE INDEX audit_entries_newest ON audit_entries(environment_id, id DESC)")
