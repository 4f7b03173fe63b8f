-- The schema of databases that were made before the first numbered step, without its words.
CREATE TABLE organizations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    slug TEXT NOT NULL CONSTRAINT organizations_slug_key UNIQUE,
    title TEXT NOT NULL,
    runs_enabled BOOLEAN NOT NULL DEFAULT TRUE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    deleted_at TIMESTAMPTZ
);
CREATE TABLE projects (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    slug TEXT NOT NULL CONSTRAINT projects_slug_key UNIQUE,
    name TEXT NOT NULL,
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    deleted_at TIMESTAMPTZ
);
CREATE INDEX projects_organization_id ON projects(organization_id);
CREATE TABLE runtime_environments (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    slug TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('DEVELOPMENT', 'STAGING', 'PRODUCTION', 'PREVIEW')),
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT runtime_environments_project_id_slug_key UNIQUE (project_id, slug)
);
CREATE INDEX runtime_environments_organization_id ON runtime_environments(organization_id);
CREATE TABLE api_keys (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('private', 'public')),
    prefix TEXT NOT NULL,
    sha256 BYTEA NOT NULL CONSTRAINT api_keys_sha256_key UNIQUE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ
);
CREATE INDEX api_keys_environment_id ON api_keys(environment_id);
CREATE TABLE external_accounts (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    identifier TEXT NOT NULL,
    metadata JSONB,
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT external_accounts_environment_id_identifier_key UNIQUE (environment_id, identifier)
);
CREATE INDEX external_accounts_organization_id ON external_accounts(organization_id);
CREATE TABLE event_records (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id TEXT NOT NULL,
    name TEXT NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    payload JSONB NOT NULL DEFAULT '{}',
    context JSONB DEFAULT '{}',
    source TEXT NOT NULL DEFAULT 'trigger.dev',
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    external_account_id UUID REFERENCES external_accounts(id) ON DELETE SET NULL,
    deliver_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    delivered_at TIMESTAMPTZ,
    is_test BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    payload_raw TEXT NOT NULL DEFAULT '{}',
    payload_type TEXT NOT NULL DEFAULT 'JSON' CHECK (payload_type IN ('JSON', 'REQUEST')),
    source_context JSONB,
    cancelled_at TIMESTAMPTZ,
    internal BOOLEAN NOT NULL DEFAULT FALSE,
    CONSTRAINT event_records_event_id_environment_id_key UNIQUE (event_id, environment_id)
);
CREATE INDEX idx_event_records_environment_id ON event_records(environment_id);
CREATE INDEX idx_event_records_deliver_at ON event_records(deliver_at) WHERE delivered_at IS NULL;
CREATE INDEX idx_event_records_created_at ON event_records(created_at);
CREATE INDEX event_records_newest ON event_records(environment_id, id DESC);
CREATE INDEX event_records_external_account_id ON event_records(external_account_id) WHERE external_account_id IS NOT NULL;
CREATE TABLE event_dispatchers (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    event TEXT NOT NULL,
    source TEXT NOT NULL,
    payload_filter JSONB,
    context_filter JSONB,
    manual BOOLEAN NOT NULL DEFAULT FALSE,
    dispatchable_id TEXT NOT NULL,
    dispatchable JSONB NOT NULL,
    enabled BOOLEAN NOT NULL DEFAULT TRUE,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    external_account_id UUID REFERENCES external_accounts(id) ON DELETE CASCADE,
    expires_at TIMESTAMPTZ,
    one_shot BOOLEAN NOT NULL DEFAULT FALSE,
    CONSTRAINT event_dispatchers_dispatchable_id_environment_id_key UNIQUE (dispatchable_id, environment_id)
);
CREATE INDEX idx_event_dispatchers_environment_id ON event_dispatchers(environment_id);
CREATE INDEX idx_event_dispatchers_event_source ON event_dispatchers(event, source) WHERE enabled = TRUE;
CREATE INDEX event_dispatchers_newest ON event_dispatchers(environment_id, id DESC);
CREATE INDEX event_dispatchers_expires_at ON event_dispatchers(expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX event_dispatchers_external_account_id ON event_dispatchers(external_account_id) WHERE external_account_id IS NOT NULL;
CREATE TABLE event_dispatcher_names (
    environment_id UUID NOT NULL,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    dispatcher_id UUID NOT NULL REFERENCES event_dispatchers(id) ON DELETE CASCADE,
    PRIMARY KEY (environment_id, source, name, dispatcher_id)
);
CREATE INDEX event_dispatcher_names_dispatcher_id ON event_dispatcher_names(dispatcher_id);
CREATE TABLE outbox (
    subject_id UUID PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('deliver', 'invoke', 'post')),
    lane UUID NOT NULL,
    due_at TIMESTAMPTZ NOT NULL,
    hint_at TIMESTAMPTZ NOT NULL,
    hints INTEGER NOT NULL DEFAULT 0,
    lease_until TIMESTAMPTZ,
    token UUID,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    died_at TIMESTAMPTZ
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_due ON outbox(kind, hint_at);
CREATE INDEX outbox_lanes ON outbox(kind, lane, hint_at);
CREATE TABLE invocations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    event_record_id UUID NOT NULL REFERENCES event_records(id) ON DELETE CASCADE,
    dispatcher_id UUID NOT NULL,
    dispatcher_event TEXT NOT NULL,
    dispatchable JSONB NOT NULL,
    replay BIGINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'SUCCEEDED', 'DEAD', 'SKIPPED', 'CANCELED')),
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    completed_at TIMESTAMPTZ,
    died_at TIMESTAMPTZ,
    pending_one_shot UUID,
    CONSTRAINT invocations_event_dispatcher_replay_key UNIQUE (event_record_id, dispatcher_id, replay)
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX invocations_pending_one_shot_key ON invocations(pending_one_shot) WHERE pending_one_shot IS NOT NULL;
CREATE INDEX invocations_dead ON invocations(environment_id, id DESC) WHERE died_at IS NOT NULL;
CREATE TABLE invocation_attempts (
    invocation_id UUID NOT NULL REFERENCES invocations(id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('succeeded', 'refused', 'unreachable', 'timeout', 'blocked', 'failed', 'lost')),
    status_code INTEGER,
    error TEXT,
    answer TEXT,
    PRIMARY KEY (invocation_id, number)
);
CREATE TABLE jobs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    slug TEXT NOT NULL,
    title TEXT NOT NULL,
    internal BOOLEAN NOT NULL DEFAULT FALSE,
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT jobs_project_id_slug_key UNIQUE (project_id, slug)
);
CREATE INDEX jobs_organization_id ON jobs(organization_id);
CREATE TABLE job_versions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id UUID NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    event_specification JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT job_versions_job_id_version_environment_id_key UNIQUE (job_id, version, environment_id)
);
CREATE INDEX job_versions_environment_id ON job_versions(environment_id);
CREATE TABLE job_aliases (
    job_id UUID NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    name TEXT NOT NULL DEFAULT 'latest',
    version_id UUID NOT NULL REFERENCES job_versions(id) ON DELETE CASCADE,
    PRIMARY KEY (job_id, environment_id, name)
);
CREATE INDEX job_aliases_version_id ON job_aliases(version_id);
CREATE TABLE dynamic_triggers (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    slug TEXT NOT NULL,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT dynamic_triggers_environment_id_slug_key UNIQUE (environment_id, slug)
);
CREATE TABLE dynamic_trigger_jobs (
    dynamic_trigger_id UUID NOT NULL REFERENCES dynamic_triggers(id) ON DELETE CASCADE,
    job_id UUID NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    PRIMARY KEY (dynamic_trigger_id, job_id)
);
CREATE INDEX dynamic_trigger_jobs_job_id ON dynamic_trigger_jobs(job_id);
CREATE TABLE job_runs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    job_id UUID NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    version_id UUID NOT NULL REFERENCES job_versions(id) ON DELETE CASCADE,
    event_record_id UUID NOT NULL REFERENCES event_records(id) ON DELETE CASCADE,
    external_account_id UUID REFERENCES external_accounts(id) ON DELETE SET NULL,
    invocation_id UUID,
    status TEXT NOT NULL DEFAULT 'PENDING' CHECK (status IN (
        'PENDING', 'QUEUED', 'WAITING_ON_CONNECTIONS', 'PREPROCESSING', 'STARTED',
        'EXECUTING', 'WAITING_TO_CONTINUE', 'WAITING_TO_EXECUTE',
        'SUCCESS', 'FAILURE', 'TIMED_OUT', 'ABORTED', 'CANCELED', 'UNRESOLVED_AUTH', 'INVALID_PAYLOAD')),
    is_test BOOLEAN NOT NULL DEFAULT FALSE,
    internal BOOLEAN NOT NULL DEFAULT FALSE,
    output JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    queued_at TIMESTAMPTZ,
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    CONSTRAINT job_runs_invocation_id_job_id_key UNIQUE (invocation_id, job_id)
);
CREATE INDEX job_runs_newest ON job_runs(job_id, environment_id, id DESC);
CREATE INDEX job_runs_event_record_id ON job_runs(event_record_id);
CREATE INDEX job_runs_version_id ON job_runs(version_id);
CREATE INDEX job_runs_external_account_id ON job_runs(external_account_id) WHERE external_account_id IS NOT NULL;
CREATE TABLE process_heartbeats (
    kind TEXT NOT NULL,
    instance TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    beat_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    PRIMARY KEY (kind, instance)
);
CREATE OR REPLACE FUNCTION update_updated_at_column() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER update_event_records_updated_at BEFORE UPDATE ON event_records
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_event_dispatchers_updated_at BEFORE UPDATE ON event_dispatchers
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
