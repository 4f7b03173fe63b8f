"""The tables as Peewee models. `schema.sql` is the truth; a test compares the two.

Models are shapes only: they are bound to a database by `store.db.connect`, and only `store` queries with them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import peewee

from kongflow_events import words


class Timestamp(peewee.DateTimeField):
    """timestamptz: aware datetimes in and out, where Peewee's own field would drop the zone."""

    field_type = "TIMESTAMPTZ"


class Jsonb(peewee.Field):
    """jsonb through msgspec: strict, and exact for integers of any size. `store.db` sets the decoder for reading."""

    field_type = "JSONB"

    def db_value(self, value: Any) -> str | None:
        """The JSON text of `value`; None is SQL's NULL."""
        return None if value is None else msgspec.json.encode(value).decode()


class Uuids(peewee.Field):
    """uuid[]: a list of UUIDs in and out."""

    field_type = "UUID[]"


class Table(peewee.Model):
    """The root of all tables; bound as a whole."""


class _Dated(Table):
    created_at = Timestamp()
    updated_at = Timestamp()


class Organization(_Dated):
    """The customer; nothing is ingested while `runs_enabled` is false."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    slug = peewee.TextField(unique=True)
    title = peewee.TextField()
    runs_enabled = peewee.BooleanField(default=True)
    deleted_at = Timestamp(null=True)

    class Meta:
        table_name = "organizations"


class Project(_Dated):
    """Shares its jobs between its environments."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    slug = peewee.TextField(unique=True)
    name = peewee.TextField()
    organization_id = peewee.UUIDField()
    deleted_at = Timestamp(null=True)

    class Meta:
        table_name = "projects"


class RuntimeEnvironment(_Dated):
    """The border of all data."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    slug = peewee.TextField()
    type = peewee.TextField()
    organization_id = peewee.UUIDField()
    project_id = peewee.UUIDField()

    class Meta:
        table_name = "runtime_environments"


class ApiKey(Table):
    """A key, as its hash."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    environment_id = peewee.UUIDField()
    kind = peewee.TextField()
    prefix = peewee.TextField()
    sha256 = peewee.BlobField(unique=True)
    created_at = Timestamp()
    expires_at = Timestamp(null=True)
    revoked_at = Timestamp(null=True)
    last_used_at = Timestamp(null=True)

    class Meta:
        table_name = "api_keys"


class ExternalAccount(_Dated):
    """One of the customer's customers."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    identifier = peewee.TextField()
    metadata = Jsonb(null=True)
    organization_id = peewee.UUIDField()
    environment_id = peewee.UUIDField()

    class Meta:
        table_name = "external_accounts"


class EventRecord(_Dated):
    """An event as it was accepted."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    event_id = peewee.TextField()
    name = peewee.TextField()
    timestamp = Timestamp()
    payload = Jsonb()
    context = Jsonb(null=True)
    source = peewee.TextField()
    organization_id = peewee.UUIDField()
    environment_id = peewee.UUIDField()
    project_id = peewee.UUIDField()
    external_account_id = peewee.UUIDField(null=True)
    deliver_at = Timestamp()
    delivered_at = Timestamp(null=True)
    is_test = peewee.BooleanField()
    payload_raw = peewee.TextField()
    payload_type = peewee.TextField()
    source_context = Jsonb(null=True)
    cancelled_at = Timestamp(null=True)
    internal = peewee.BooleanField()
    traceparent = peewee.TextField(null=True)

    class Meta:
        table_name = "event_records"


class EventDispatcher(_Dated):
    """A stored rule: these names, this source, these filters, this dispatchable."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    event = peewee.TextField()
    source = peewee.TextField()
    payload_filter = Jsonb(null=True)
    context_filter = Jsonb(null=True)
    manual = peewee.BooleanField(default=False)
    dispatchable_id = peewee.TextField()
    dispatchable = Jsonb()
    enabled = peewee.BooleanField(default=True)
    environment_id = peewee.UUIDField()
    external_account_id = peewee.UUIDField(null=True)
    expires_at = Timestamp(null=True)
    one_shot = peewee.BooleanField(default=False)

    class Meta:
        table_name = "event_dispatchers"


class EventDispatcherName(Table):
    """One name of one dispatcher."""

    environment_id = peewee.UUIDField()
    source = peewee.TextField()
    name = peewee.TextField()
    dispatcher_id = peewee.UUIDField()

    class Meta:
        table_name = "event_dispatcher_names"
        primary_key = peewee.CompositeKey("environment_id", "source", "name", "dispatcher_id")


class WebhookSecret(Table):
    """What a webhook's calls are signed with, sealed."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    dispatcher_id = peewee.UUIDField()
    sealed = peewee.BlobField()
    public_key = peewee.TextField(null=True)
    created_at = Timestamp()
    expires_at = Timestamp(null=True)

    class Meta:
        table_name = "webhook_secrets"


class Outbox(Table):
    """What is still owed."""

    subject_id = peewee.UUIDField(primary_key=True)
    kind = peewee.TextField()
    lane = peewee.UUIDField()
    due_at = Timestamp()
    hint_at = Timestamp()
    hints = peewee.IntegerField()
    lease_until = Timestamp(null=True)
    token = peewee.UUIDField(null=True)
    attempts = peewee.IntegerField()
    last_error = peewee.TextField(null=True)
    died_at = Timestamp(null=True)

    class Meta:
        table_name = "outbox"


class Target(Table):
    """How the receiver of one dispatcher's posts is doing."""

    dispatcher_id = peewee.UUIDField(primary_key=True)
    calls = Uuids()
    paced_until = Timestamp(null=True)
    failures = peewee.IntegerField()
    failing_since = Timestamp(null=True)
    opened_at = Timestamp(null=True)
    pauses = peewee.IntegerField()
    probe = peewee.UUIDField(null=True)
    rests_until = Timestamp(null=True)
    held_until = Timestamp(null=True)
    paused_at = Timestamp(null=True)
    disabled_at = Timestamp(null=True)
    disabled_reason = peewee.TextField(null=True)

    class Meta:
        table_name = "targets"


class Invocation(Table):
    """One (event, dispatcher) pair, its state and its attempts."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    environment_id = peewee.UUIDField()
    event_record_id = peewee.UUIDField()
    dispatcher_id = peewee.UUIDField()
    dispatcher_event = peewee.TextField()
    dispatchable = Jsonb()
    replay = peewee.BigIntegerField()
    status = peewee.TextField()
    reason = peewee.TextField(null=True)
    attempts = peewee.IntegerField()
    redrives = peewee.IntegerField()
    last_error = peewee.TextField(null=True)
    last_outcome = peewee.TextField(null=True)
    created_at = Timestamp()
    completed_at = Timestamp(null=True)
    died_at = Timestamp(null=True)
    pending_one_shot = peewee.UUIDField(null=True)

    class Meta:
        table_name = "invocations"


class InvocationAttempt(Table):
    """One attempt that failed or went over HTTP."""

    invocation_id = peewee.UUIDField()
    round = peewee.IntegerField()
    number = peewee.IntegerField()
    started_at = Timestamp()
    duration_ms = peewee.IntegerField()
    outcome = peewee.TextField()
    status_code = peewee.IntegerField(null=True)
    error = peewee.TextField(null=True)
    answer = peewee.TextField(null=True)
    request_headers = Jsonb(null=True)

    class Meta:
        table_name = "invocation_attempts"
        primary_key = peewee.CompositeKey("invocation_id", "round", "number")


class BulkOperation(Table):
    """Work on many rows, carried from batch to batch."""

    id = peewee.BigAutoField()
    environment_id = peewee.UUIDField()
    kind = peewee.TextField()
    state = peewee.TextField()
    criteria = Jsonb()
    rate = peewee.IntegerField()
    total = peewee.BigIntegerField()
    seen = peewee.BigIntegerField()
    done = peewee.BigIntegerField()
    passed = peewee.UUIDField(null=True)
    passed_at = Timestamp(null=True)
    next_at = Timestamp()
    last_error = peewee.TextField(null=True)
    created_at = Timestamp()
    finished_at = Timestamp(null=True)

    class Meta:
        table_name = "bulk_operations"


class Job(_Dated):
    """Something that runs; the project's."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    slug = peewee.TextField()
    title = peewee.TextField()
    internal = peewee.BooleanField(default=False)
    organization_id = peewee.UUIDField()
    project_id = peewee.UUIDField()

    class Meta:
        table_name = "jobs"


class JobVersion(_Dated):
    """A version of a job in one environment."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    job_id = peewee.UUIDField()
    environment_id = peewee.UUIDField()
    version = peewee.TextField()
    event_specification = Jsonb()

    class Meta:
        table_name = "job_versions"


class JobAlias(Table):
    """A name for a version; `latest` is the highest by semantic versioning."""

    job_id = peewee.UUIDField()
    environment_id = peewee.UUIDField()
    name = peewee.TextField(default="latest")
    version_id = peewee.UUIDField()

    class Meta:
        table_name = "job_aliases"
        primary_key = peewee.CompositeKey("job_id", "environment_id", "name")


class DynamicTrigger(_Dated):
    """One trigger that starts many jobs."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    slug = peewee.TextField()
    environment_id = peewee.UUIDField()

    class Meta:
        table_name = "dynamic_triggers"


class DynamicTriggerJob(Table):
    """One job of one dynamic trigger."""

    dynamic_trigger_id = peewee.UUIDField()
    job_id = peewee.UUIDField()

    class Meta:
        table_name = "dynamic_trigger_jobs"
        primary_key = peewee.CompositeKey("dynamic_trigger_id", "job_id")


class JobRun(_Dated):
    """One execution of a job version for an event."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    environment_id = peewee.UUIDField()
    job_id = peewee.UUIDField()
    version_id = peewee.UUIDField()
    event_record_id = peewee.UUIDField()
    external_account_id = peewee.UUIDField(null=True)
    invocation_id = peewee.UUIDField(null=True)
    status = peewee.TextField()
    is_test = peewee.BooleanField()
    internal = peewee.BooleanField()
    output = Jsonb(null=True)
    queued_at = Timestamp(null=True)
    started_at = Timestamp(null=True)
    completed_at = Timestamp(null=True)

    class Meta:
        table_name = "job_runs"


class Operator(Table):
    """Somebody who signs in to the console."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    name = peewee.TextField(unique=True)
    role = peewee.TextField()
    password = peewee.TextField(null=True)
    created_at = Timestamp()
    disabled_at = Timestamp(null=True)

    class Meta:
        table_name = "operators"


class OperatorSession(Table):
    """Somebody who is signed in, by the hash of the cookie's token."""

    sha256 = peewee.BlobField(primary_key=True)
    operator_id = peewee.UUIDField()
    created_at = Timestamp()
    expires_at = Timestamp()

    class Meta:
        table_name = "operator_sessions"


class OperatorLink(Table):
    """A link that signs somebody in, once."""

    sha256 = peewee.BlobField(primary_key=True)
    operator_id = peewee.UUIDField()
    expires_at = Timestamp()

    class Meta:
        table_name = "operator_links"


class AuditEntry(Table):
    """What somebody did in the console."""

    id = peewee.UUIDField(primary_key=True, default=words.new_id)
    at = Timestamp()
    operator_id = peewee.UUIDField(null=True)
    operator = peewee.TextField()
    address = peewee.TextField()
    environment_id = peewee.UUIDField(null=True)
    action = peewee.TextField()
    subject = peewee.TextField()
    details = Jsonb(null=True)

    class Meta:
        table_name = "audit_entries"


class ProcessHeartbeat(Table):
    """A sign of life of one process."""

    kind = peewee.TextField()
    instance = peewee.TextField()
    started_at = Timestamp()
    beat_at = Timestamp()

    class Meta:
        table_name = "process_heartbeats"
        primary_key = peewee.CompositeKey("kind", "instance")


class TokenBucket(Table):
    """How many tokens a key or an organization has left under its rate limit."""

    owner_id = peewee.UUIDField(primary_key=True)
    burst = peewee.IntegerField()
    rate = peewee.DoubleField()
    tokens = peewee.DoubleField()
    let_in = peewee.BooleanField()
    refilled_at = Timestamp()

    class Meta:
        table_name = "token_buckets"


TABLES: Final[tuple[type[Table], ...]] = (
    Organization,
    Project,
    RuntimeEnvironment,
    ApiKey,
    ExternalAccount,
    EventRecord,
    EventDispatcher,
    EventDispatcherName,
    WebhookSecret,
    Outbox,
    Target,
    Invocation,
    InvocationAttempt,
    BulkOperation,
    Job,
    JobVersion,
    JobAlias,
    DynamicTrigger,
    DynamicTriggerJob,
    JobRun,
    Operator,
    OperatorSession,
    OperatorLink,
    AuditEntry,
    ProcessHeartbeat,
    TokenBucket,
)
