-- What both peers stand on, beside the plan's events in ../plan.sql.
CREATE TABLE api_keys (
    sha256 BYTEA PRIMARY KEY,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE
);
CREATE TABLE event_dispatchers (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    event TEXT NOT NULL,
    source TEXT NOT NULL DEFAULT 'trigger.dev',
    payload_filter JSONB,
    job_id TEXT NOT NULL,
    enabled BOOLEAN NOT NULL DEFAULT TRUE,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE
);
CREATE INDEX event_dispatchers_heard ON event_dispatchers(environment_id, event, source) WHERE enabled;
CREATE TABLE job_runs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id TEXT NOT NULL,
    event_record_id UUID NOT NULL REFERENCES event_records(id) ON DELETE CASCADE,
    dispatcher_id UUID NOT NULL,
    status TEXT NOT NULL DEFAULT 'PENDING',
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    UNIQUE (event_record_id, dispatcher_id)
);
