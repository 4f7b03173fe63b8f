-- KongFlow Events: the whole database, for PostgreSQL 15 to 18.
--
-- One sentence holds the house: services write rows, the relay publishes ids, actors call services.
-- A row is the promise; a message in RabbitMQ is only a hint. Losing every message loses nothing, because what is
-- still owed stands in `outbox` until the transaction that does it also deletes it.
--
-- Lock order everywhere: event record first, then outbox, each by id; dispatcher and target last.
--
-- Ids are made by the service in UUIDv7 form, so that they grow with time and indexes fill at their right end; the
-- defaults below serve rows written by hand.

-- Who ------------------------------------------------------------------------------------------------------------------

-- The customer. Nothing is ingested while runs_enabled is false (403, before anything is stored).
CREATE TABLE organizations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    slug TEXT NOT NULL CONSTRAINT organizations_slug_key UNIQUE,
    title TEXT NOT NULL,
    runs_enabled BOOLEAN NOT NULL DEFAULT TRUE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    deleted_at TIMESTAMPTZ
);

-- A project shares its jobs between its environments. The keys of a deleted project are refused.
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

-- The border of all data: no key sees another environment's rows.
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

-- Keys are shown once and stored as a hash: a random 256-bit secret needs no slow one. Several may live at a time, so
-- that they can be rotated.
CREATE TABLE api_keys (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('private', 'public')),
    prefix TEXT NOT NULL,                                   -- what a person may see of the key: `tr_dev_Ab12`
    sha256 BYTEA NOT NULL CONSTRAINT api_keys_sha256_key UNIQUE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ                                -- written at most once a minute, or it would be a hot row
);
CREATE INDEX api_keys_environment_id ON api_keys(environment_id);

-- The customer's customers: made at the first use of an `accountId`, never changed by later ones.
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

-- What came in ---------------------------------------------------------------------------------------------------------

-- Retention deletes a thirtieth of the four large tables a day. Autovacuum's usual fifth would come once in six days, and
-- a page of an index is used again only two vacuums after it became empty: with a twentieth they keep their size.

-- An event as it was accepted. `delivered_at` means "its invocations exist", not "its runs ended"; an event that nobody
-- listens to keeps it NULL, and sending its id again delivers it to whoever listens by then.
CREATE TABLE event_records (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id TEXT NOT NULL,                                 -- the sender's id
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

    -- Beyond the migration plan, all additive:
    payload_raw TEXT NOT NULL DEFAULT '{}',                 -- the sender's own bytes: jsonb reorders keys and turns 1.10 into 1.1
    payload_type TEXT NOT NULL DEFAULT 'JSON' CHECK (payload_type IN ('JSON', 'REQUEST')),
    source_context JSONB,                                   -- {id, metadata} of the trigger source it came through
    cancelled_at TIMESTAMPTZ,                               -- set once; a cancelled event that was not delivered never is
    internal BOOLEAN NOT NULL DEFAULT FALSE,                -- made by the service itself, not by a sender
    traceparent TEXT,                                       -- W3C's, of the request that it came with: the calls it leads to carry it on

    -- The promise of idempotency: one record for one id in one environment.
    CONSTRAINT event_records_event_id_environment_id_key UNIQUE (event_id, environment_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX idx_event_records_environment_id ON event_records(environment_id);
CREATE INDEX idx_event_records_deliver_at ON event_records(deliver_at) WHERE delivered_at IS NULL;
CREATE INDEX idx_event_records_created_at ON event_records(created_at);
-- Listing an environment's events, newest first, from any cursor.
CREATE INDEX event_records_newest ON event_records(environment_id, id DESC);
-- Deleting an account must not read every event.
CREATE INDEX event_records_external_account_id ON event_records(external_account_id) WHERE external_account_id IS NOT NULL;

-- Who listens ----------------------------------------------------------------------------------------------------------

-- A rule: events of these names from this source that pass these filters set off this dispatchable. A NULL filter asks
-- nothing. A manual dispatcher is never matched, only invoked by name.
CREATE TABLE event_dispatchers (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    event TEXT NOT NULL,                                    -- the first of its names; all stand in event_dispatcher_names
    source TEXT NOT NULL,
    payload_filter JSONB,
    context_filter JSONB,
    manual BOOLEAN NOT NULL DEFAULT FALSE,

    dispatchable_id TEXT NOT NULL,                          -- job, dynamic trigger or URL: what the rule is for
    -- {"type": "JOB_VERSION" | "DYNAMIC_TRIGGER", "id"}, {"type": "EPHEMERAL" | "WEBHOOK", "url"}; a webhook's settings too:
    -- {"format": "event" | "cloudevent", "headers", "timeoutInSeconds", "rateLimit" (calls a second), "maxConcurrency"}
    dispatchable JSONB NOT NULL,

    enabled BOOLEAN NOT NULL DEFAULT TRUE,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,

    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),

    -- Beyond the migration plan, all additive:
    external_account_id UUID REFERENCES external_accounts(id) ON DELETE CASCADE,  -- only this account's events
    expires_at TIMESTAMPTZ,                                 -- an ephemeral dispatcher is deleted then
    one_shot BOOLEAN NOT NULL DEFAULT FALSE,                -- at most one pending invocation; the first success deletes it

    CONSTRAINT event_dispatchers_dispatchable_id_environment_id_key UNIQUE (dispatchable_id, environment_id)
);
CREATE INDEX idx_event_dispatchers_environment_id ON event_dispatchers(environment_id);
CREATE INDEX idx_event_dispatchers_event_source ON event_dispatchers(event, source) WHERE enabled = TRUE;
-- Listing an environment's dispatchers, newest first, from any cursor.
CREATE INDEX event_dispatchers_newest ON event_dispatchers(environment_id, id DESC);
CREATE INDEX event_dispatchers_expires_at ON event_dispatchers(expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX event_dispatchers_external_account_id ON event_dispatchers(external_account_id) WHERE external_account_id IS NOT NULL;

-- Every name of every dispatcher: the one look-up of delivery, by an event's name and by the few patterns (`order.*`) that
-- it matches, which stand here as they are written. Its cost depends on how many dispatchers hear the event in this
-- environment, not on how many there are. Written with the dispatcher, in the same transaction.
CREATE TABLE event_dispatcher_names (
    environment_id UUID NOT NULL,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    dispatcher_id UUID NOT NULL REFERENCES event_dispatchers(id) ON DELETE CASCADE,
    PRIMARY KEY (environment_id, source, name, dispatcher_id)
);
CREATE INDEX event_dispatcher_names_dispatcher_id ON event_dispatcher_names(dispatcher_id);

-- What a webhook's calls are signed with. One secret for each webhook, and for a while those before it: they all sign, so
-- that the receiver can change to the new one when it likes.
CREATE TABLE webhook_secrets (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    dispatcher_id UUID NOT NULL REFERENCES event_dispatchers(id) ON DELETE CASCADE,
    sealed BYTEA NOT NULL,                                  -- AES-256-GCM, bound to the dispatcher's id; shown in clear once
    public_key TEXT,                                        -- what verifies its signatures (ed25519); NULL: the secret itself
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    expires_at TIMESTAMPTZ                                  -- signs until then; NULL: it is the one that signs now
);
CREATE INDEX webhook_secrets_dispatcher_id ON webhook_secrets(dispatcher_id);
-- One is the current one; two rotations at once wait for each other.
CREATE UNIQUE INDEX webhook_secrets_current_key ON webhook_secrets(dispatcher_id) WHERE expires_at IS NULL;
CREATE INDEX webhook_secrets_expires_at ON webhook_secrets(expires_at) WHERE expires_at IS NOT NULL;

-- What is owed ---------------------------------------------------------------------------------------------------------

-- One small hot table. A row goes away in the transaction that does its work; publishing never removes it. The key is
-- the subject's id (event record or invocation), so that a re-send or a cancel finds it.
CREATE TABLE outbox (
    subject_id UUID PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('deliver', 'invoke', 'post')),
    lane UUID NOT NULL,                                     -- who waits: the environment; for `post` the dispatcher
    due_at TIMESTAMPTZ NOT NULL,                            -- not to be done before; asked of the database's clock
    hint_at TIMESTAMPTZ NOT NULL,                           -- not to be hinted (again) before; infinity once dead
    hints INTEGER NOT NULL DEFAULT 0,                       -- hints since the last progress; each doubles the pause, 1 s to 60 s
    lease_until TIMESTAMPTZ,                                -- somebody works on it alone until then
    token UUID,                                             -- who: a finish with another token changes nothing
    attempts INTEGER NOT NULL DEFAULT 0,                    -- counted before the work, so that a worker's death counts too
    last_error TEXT,
    died_at TIMESTAMPTZ                                     -- a delivery that used up its attempts: kept, listed, redriven
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
-- The relay's scan, first in first out. By kind, so that a full queue of one kind never stands before another's rows.
CREATE INDEX outbox_due ON outbox(kind, hint_at);
-- The relay's other order, for when it cannot take everything: a bite of each lane in turn.
CREATE INDEX outbox_lanes ON outbox(kind, lane, hint_at);

-- How the receivers of posts are doing: one row for each dispatcher that calls a URL and stays, made at its first call (a
-- one-shot dispatcher has one call to make, and none). Whoever lets a call in holds the row's lock while he decides, which
-- is one short statement, never the length of a call: so the limits are exact over any number of workers. Letting a call in
-- is one update that no index sees; a call that succeeds at a healthy target changes nothing here.
--   Its circuit is closed while opened_at is NULL; open until rests_until; after that half-open: one call is let in, the probe.
CREATE TABLE targets (
    dispatcher_id UUID PRIMARY KEY REFERENCES event_dispatchers(id) ON DELETE CASCADE,
    calls UUID[] NOT NULL DEFAULT '{}',                     -- invocations let in; one counts while its lease in the outbox lasts,
                                                            -- so that no death of a worker can leave a place taken
    paced_until TIMESTAMPTZ,                                -- under a rate limit: when the next call may begin
    failures INTEGER NOT NULL DEFAULT 0,                    -- calls that failed in a row, up to the last one
    failing_since TIMESTAMPTZ,                              -- when the first of them had failed
    opened_at TIMESTAMPTZ,
    pauses INTEGER NOT NULL DEFAULT 0,                      -- of the circuit since it opened; each is twice as long
    probe UUID,                                             -- the token of the call that decides whether it closes
    rests_until TIMESTAMPTZ,                                -- no call before: a pause of the circuit, or the receiver's Retry-After
    held_until TIMESTAMPTZ,                                 -- no hint by the relay before: there was no place for a call
    paused_at TIMESTAMPTZ,                                  -- since when an operator has its calls wait; NULL: they do not
    disabled_at TIMESTAMPTZ,                                -- when the service disabled the dispatcher, and why; forgotten with
    disabled_reason TEXT                                    -- everything else once somebody enables it
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- The ledger of what must happen: one row for one (event, dispatcher) pair. It outlives its dispatcher, so it has no
-- foreign key to it and keeps what it was called.
--   PENDING    owed; its outbox row says when it is tried next
--   SUCCEEDED  done: its runs exist, or its target answered 2xx
--   DEAD       used up its attempts, or failed for good: waits to be redriven
--   SKIPPED    never carried out, for the reason given: disabled, deleted, expired, superseded
--   CANCELED   its event was cancelled before its target was called
CREATE TABLE invocations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    environment_id UUID NOT NULL,                           -- its event's, which goes away with it: no second foreign key to check
    event_record_id UUID NOT NULL REFERENCES event_records(id) ON DELETE CASCADE,
    dispatcher_id UUID NOT NULL,
    dispatcher_event TEXT NOT NULL,                         -- the dispatcher's first name, as it was
    dispatchable JSONB NOT NULL,                            -- its target, as it was; without headers, which may be secrets
    replay BIGINT NOT NULL DEFAULT 0,                       -- 0 = the first delivery, else the id of the replay
    status TEXT NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'SUCCEEDED', 'DEAD', 'SKIPPED', 'CANCELED')),
    reason TEXT,                                            -- why it was skipped, died or was cancelled
    attempts INTEGER NOT NULL DEFAULT 0,                    -- in this round
    redrives INTEGER NOT NULL DEFAULT 0,                    -- rounds before this one: each redrive gives new attempts
    last_error TEXT,
    last_outcome TEXT,                                      -- the class of the last error: an attempt's outcome
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    completed_at TIMESTAMPTZ,
    died_at TIMESTAMPTZ,                                    -- set while DEAD; its own column, so that an ordinary completion stays a HOT update
    pending_one_shot UUID,                                  -- the dispatcher, while a one-shot invocation is pending
    -- The promise of exactly once: a second delivery of the same event finds the row and does nothing.
    CONSTRAINT invocations_event_dispatcher_replay_key UNIQUE (event_record_id, dispatcher_id, replay)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
-- A one-shot dispatcher has at most one pending invocation; the database decides which event came first.
CREATE UNIQUE INDEX invocations_pending_one_shot_key ON invocations(pending_one_shot) WHERE pending_one_shot IS NOT NULL;
-- Listing an environment's invocations, newest first, from any cursor; no completion touches it.
CREATE INDEX invocations_newest ON invocations(environment_id, id DESC);
-- The dead letters of an environment, newest first.
CREATE INDEX invocations_dead ON invocations(environment_id, id DESC) WHERE died_at IS NOT NULL;
-- How a dispatcher is doing: its invocations, newest first, however many those of others are.
CREATE INDEX invocations_dispatcher_newest ON invocations(dispatcher_id, id DESC);

-- One row for each attempt that failed or went over HTTP. Texts come from strangers: cut and cleaned before they get here.
CREATE TABLE invocation_attempts (
    invocation_id UUID NOT NULL REFERENCES invocations(id) ON DELETE CASCADE,
    round INTEGER NOT NULL DEFAULT 0,                       -- how often it had been redriven by then
    number INTEGER NOT NULL,                                -- counted from 1 in each round
    started_at TIMESTAMPTZ NOT NULL,
    duration_ms INTEGER NOT NULL,
    -- refused: answered, but not with a 2xx; missing: what it was to start does not exist; lost: its worker died
    outcome TEXT NOT NULL CHECK (outcome IN ('succeeded', 'refused', 'unreachable', 'timeout', 'blocked', 'failed', 'missing', 'lost')),
    status_code INTEGER,
    error TEXT,                                             -- at most 2 kB
    answer TEXT,                                            -- the first 8 kB of it
    request_headers JSONB,                                  -- of its request, secrets masked; NULL: there was none
    PRIMARY KEY (invocation_id, round, number)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- Work on many rows that an operator asked for: redrives of dead letters, replays of past events. The row carries it from
-- batch to batch (its cursor is committed with each), so that it survives restarts; any scheduler may take the next step.
CREATE TABLE bulk_operations (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,     -- a replay's id stands in the invocations it makes
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('redrive', 'replay')),
    state TEXT NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'DONE', 'CANCELED')),
    criteria JSONB NOT NULL,                                -- which rows, as they were asked for
    rate INTEGER NOT NULL,                                  -- rows a second at the most
    total BIGINT NOT NULL,                                  -- rows that matched when it was started
    seen BIGINT NOT NULL DEFAULT 0,                         -- of those, passed by now
    done BIGINT NOT NULL DEFAULT 0,                         -- rows redriven, invocations made
    passed UUID,                                            -- the last row looked at: where the next step goes on,
    passed_at TIMESTAMPTZ,                                  -- and when that row was made, for what goes by time
    next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),             -- not to go on before
    last_error TEXT,                                        -- why the last step failed; it is taken again
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),          -- what comes later is none of its business
    finished_at TIMESTAMPTZ
);
-- Listing an environment's operations, newest first.
CREATE INDEX bulk_operations_newest ON bulk_operations(environment_id, id DESC);
CREATE INDEX bulk_operations_running ON bulk_operations(kind, next_at) WHERE state = 'RUNNING';

-- What runs ------------------------------------------------------------------------------------------------------------

-- A job belongs to the project; its versions to an environment.
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
    version TEXT NOT NULL,                                  -- semantic version
    event_specification JSONB NOT NULL,                     -- the trigger as it was registered
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT job_versions_job_id_version_environment_id_key UNIQUE (job_id, version, environment_id)
);
CREATE INDEX job_versions_environment_id ON job_versions(environment_id);

-- `latest` is the highest version by semantic versioning, not the last one registered.
CREATE TABLE job_aliases (
    job_id UUID NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    environment_id UUID NOT NULL REFERENCES runtime_environments(id) ON DELETE CASCADE,
    name TEXT NOT NULL DEFAULT 'latest',
    version_id UUID NOT NULL REFERENCES job_versions(id) ON DELETE CASCADE,
    PRIMARY KEY (job_id, environment_id, name)
);
CREATE INDEX job_aliases_version_id ON job_aliases(version_id);

-- One trigger, many jobs: a matching event starts one run of each that has a `latest` version in the environment.
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

-- One execution of a job version for an event. The words are upstream's, because its clients refuse others; the last
-- seven are final. Runs are created, read and cancelled here; executing them is a later step.
CREATE TABLE job_runs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),          -- of one that came with its delivery: its invocation's
    environment_id UUID NOT NULL,                           -- its event's, which goes away with it
    job_id UUID NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    version_id UUID NOT NULL,                               -- of that job, and never deleted while that has runs
    event_record_id UUID NOT NULL REFERENCES event_records(id) ON DELETE CASCADE,
    external_account_id UUID REFERENCES external_accounts(id) ON DELETE SET NULL,
    invocation_id UUID,                                     -- no foreign key: its event's cascade removes both
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
    -- The promise of exactly once, for runs: an invocation starts a job once, whatever is retried.
    CONSTRAINT job_runs_invocation_id_job_id_key UNIQUE (invocation_id, job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
-- A job's runs in an environment, newest first.
CREATE INDEX job_runs_newest ON job_runs(job_id, environment_id, id DESC);
-- An event's runs.
CREATE INDEX job_runs_event_record_id ON job_runs(event_record_id);
-- Deleting an account must not read every run.
CREATE INDEX job_runs_external_account_id ON job_runs(external_account_id) WHERE external_account_id IS NOT NULL;

-- How much is let in --------------------------------------------------------------------------------------------------

-- The rate limits of API keys and organizations, exact over any number of processes: what each has left. A row is made
-- at the first use and deleted when it is full again, for a bucket without a row is a full one; while the limits are off
-- there is none. Unlogged, so that a request waits for no disk: after a crash every bucket is full, and no more.
CREATE UNLOGGED TABLE token_buckets (
    owner_id UUID PRIMARY KEY,                              -- an API key or an organization; no foreign key: it soon goes away by itself
    burst INTEGER NOT NULL,                                 -- the tokens of a full one, and those it gets a second, as last asked for
    rate DOUBLE PRECISION NOT NULL,
    tokens DOUBLE PRECISION NOT NULL,                       -- those left at refilled_at; below zero after a bulk larger than the burst
    let_in BOOLEAN NOT NULL,                                -- the last request was; what the statement that decides has to tell
    refilled_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

-- Who looks after it ---------------------------------------------------------------------------------------------------

-- People who sign in to the console. A viewer looks, an operator changes things too; both see every environment.
CREATE TABLE operators (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name TEXT NOT NULL CONSTRAINT operators_name_key UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator')),
    password TEXT,                                          -- an argon2id hash; NULL: signs in by link only
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    disabled_at TIMESTAMPTZ                                 -- signs in no more, and is signed out everywhere
);

-- Who is signed in: the cookie's random token, as its hash. Signing out deletes the row, so a copied cookie is worth nothing.
CREATE TABLE operator_sessions (
    sha256 BYTEA PRIMARY KEY,
    operator_id UUID NOT NULL REFERENCES operators(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX operator_sessions_operator_id ON operator_sessions(operator_id);
CREATE INDEX operator_sessions_expires_at ON operator_sessions(expires_at);

-- A link that signs somebody in, once: using it deletes the row.
CREATE TABLE operator_links (
    sha256 BYTEA PRIMARY KEY,
    operator_id UUID NOT NULL REFERENCES operators(id) ON DELETE CASCADE,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX operator_links_operator_id ON operator_links(operator_id);

-- What people did in the console: written in the transaction of the change itself, and never changed. It outlives whom and
-- what it is about, so it keeps names and has no foreign keys.
CREATE TABLE audit_entries (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    operator_id UUID,                                       -- NULL: nobody was signed in, as when a sign-in failed
    operator TEXT NOT NULL,                                 -- the name, as it was, or as it was given
    address TEXT NOT NULL,                                  -- where the request came from; `shell` for a command
    environment_id UUID,                                    -- NULL: it is about none
    action TEXT NOT NULL,                                   -- what was done: `event.cancel`
    subject TEXT NOT NULL,                                  -- on what: `event order-1`
    details JSONB                                           -- what else there is to know; never a secret
);
-- An environment's entries, newest first.
CREATE INDEX audit_entries_newest ON audit_entries(environment_id, id DESC);

-- How it is doing ------------------------------------------------------------------------------------------------------

-- Each process says that it is alive; readiness asks when a relay last did.
CREATE TABLE process_heartbeats (
    kind TEXT NOT NULL,                                     -- its type, as the Procfile calls it
    instance TEXT NOT NULL,                                 -- host and process id
    started_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    beat_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    PRIMARY KEY (kind, instance)
);

-- The migration plan's trigger: `updated_at` follows every update.
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
