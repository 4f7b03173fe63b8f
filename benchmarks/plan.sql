-- The migration plan's own `event_records`, with all its keys, indexes and its trigger, and what it refers to: the
-- physical limit is one row of it for one event. Nothing of the service is in here.
CREATE TABLE organizations (id UUID PRIMARY KEY DEFAULT gen_random_uuid());
CREATE TABLE projects (id UUID PRIMARY KEY DEFAULT gen_random_uuid());
CREATE TABLE runtime_environments (id UUID PRIMARY KEY DEFAULT gen_random_uuid());
CREATE TABLE external_accounts (id UUID PRIMARY KEY DEFAULT gen_random_uuid());
INSERT INTO organizations VALUES ('00000000-0000-0000-0000-000000000001');
INSERT INTO projects VALUES ('00000000-0000-0000-0000-000000000002');
INSERT INTO runtime_environments VALUES ('00000000-0000-0000-0000-000000000003');

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
    CONSTRAINT event_records_event_id_environment_id_key UNIQUE (event_id, environment_id)
);
CREATE INDEX idx_event_records_environment_id ON event_records(environment_id);
CREATE INDEX idx_event_records_deliver_at ON event_records(deliver_at) WHERE delivered_at IS NULL;
CREATE INDEX idx_event_records_created_at ON event_records(created_at);

CREATE FUNCTION update_updated_at_column() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER update_event_records_updated_at BEFORE UPDATE ON event_records
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
