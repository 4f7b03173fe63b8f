"""The environment, read once and strictly: a misspelt or half-valid variable stops the start."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

PREFIX = "KONGFLOW_"
# Twelve-factor platforms set these without a prefix.
BARE = {"DATABASE_URL": "database_url", "RABBITMQ_URL": "rabbitmq_url", "PORT": "port"}
# The CLI's own variables (where is the service, with which key) and the test suite's; not settings of a process.
OTHERS = {"KONGFLOW_URL", "KONGFLOW_KEY", "KONGFLOW_PUBLIC_KEY"}
OTHER_PREFIXES = ("KONGFLOW_TEST_",)

Positive = Annotated[int, msgspec.Meta(ge=1)]
Days = Annotated[int, msgspec.Meta(ge=0, le=36_500)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
# Tokens a second; 0 is no limit. The bounds keep every product of a rate and a time within what numbers can say.
Rate = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
SLOWEST_RATE = 0.001
SECRET_KEY_BYTES = 32
Burst = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
# The points of `crashes`, each with the passing at which to end; empty for none.
CRASH_POINTS = (
    *(f"{verb}.{when}_commit" for verb in ("ingest", "relay", "deliver", "invoke") for when in ("before", "after")),
    "relay.after_publish",
    *(f"post.after_{step}" for step in ("claim", "call", "finish")),
)
CrashAt = Annotated[str, msgspec.Meta(pattern=rf"^(({'|'.join(CRASH_POINTS)}):[1-9][0-9]{{0,5}})?$")]


class BadSettings(Exception):
    """The environment cannot be used; the message names each variable and what is wrong with it."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every setting of every process. A variable is a name in capitals behind `KONGFLOW_`, but for the bare three."""

    database_url: Annotated[str, msgspec.Meta(pattern="^postgres(ql)?://")] = "postgresql://localhost/kongflow"
    rabbitmq_url: Annotated[str, msgspec.Meta(pattern="^amqps?://")] = "amqp://localhost"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8030

    # Connections that one process may hold. Of a web process's, half are for tasks, one is for its sign of life, and the
    # others are for as many threads.
    pool_size: Positive = 20
    # Seconds that a web process goes on serving after SIGTERM, while `/readyz` says that it is stopping.
    stop_grace: Annotated[float, msgspec.Meta(ge=0, le=15)] = 5.0
    # Milliseconds between two looks of the relay at the outbox.
    tick_ms: Positive = 10
    # Ids in one message, and rows in one transaction of a worker.
    batch: Annotated[int, msgspec.Meta(ge=1, le=400)] = 400
    # Messages that may wait in one queue before the relay and the workers stop filling it.
    high_water: Positive = 500
    # Seconds that one call to a URL target may take, all told; a webhook may ask for less.
    post_timeout: Seconds = 20.0
    # Calls at once to one target that does not say how many it takes: of a poster's 16 threads, a quarter.
    target_concurrency: Positive = 4
    # Calls at once of one environment in one poster process: of its 16 threads, four are left to others.
    environment_concurrency: Positive = 12
    # Calls in a row that have to fail before a target's circuit opens.
    circuit_failures: Positive = 5
    # Days of nothing but failures after which a target's dispatcher is disabled; 0 never does.
    disable_after_days: Days = 5
    # Seconds that an invocation taken alone inside PostgreSQL may take before another worker may have it.
    lease: Seconds = 30.0
    # Bytes of a single event's body, bytes and events of a bulk body.
    max_body: Positive = 1_048_576
    max_bulk_body: Positive = 8_388_608
    max_bulk_events: Positive = 1000
    # Days that events are kept, with all that came of them, and that dead letters are; 0 keeps them for ever.
    retention_days: Days = 30
    dead_retention_days: Days = 90
    # Seconds that a snapshot may keep vacuum from cleaning before the scheduler's log says so.
    snapshot_alarm: Seconds = 60.0
    # Requests a second of one API key, events a second of one organization; and how many of them at once.
    key_rate: Rate = 0.0
    key_burst: Burst = 750
    organization_rate: Rate = 0.0
    organization_burst: Burst = 750
    # Seconds that the database may take for one statement of a console's page.
    console_timeout: Annotated[float, msgspec.Meta(gt=0, le=3)] = 2.0
    # Networks (CIDR, comma separated) that URL targets may be in although they are not public.
    allowed_networks: str = ""
    # What webhooks' secrets are encrypted with: 32 bytes in base64. Several (comma separated) while one follows another:
    # the first one encrypts, each may decrypt.
    secret_key: str = ""
    # From which level on processes say something, and in which form; `auto` is for people on a terminal, else JSON.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    # Seconds after which a request that went well is said in the log all the same.
    slow_request: Seconds = 1.0
    # Where the processes of one machine gather their metrics; empty: a private folder of the service's own, in memory.
    metrics_dir: str = ""
    # Where a process that is no web process shows them; 0: nowhere.
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    # What whoever reads `/metrics` of a web process has to bring; empty: only this machine may, and not through a proxy.
    metrics_token: Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]*$")] = ""
    # Where spans go: nowhere, to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names, or to stdout.
    traces: Literal["off", "otlp", "console"] = "off"
    # Where this process is to end itself, and at which passing: for the fault harness, never for a service.
    crash_at: CrashAt = ""

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """`allowed_networks`, parsed."""
        return tuple(ipaddress.ip_network(part.strip()) for part in self.allowed_networks.split(",") if part.strip())

    @property
    def secret_keys(self) -> tuple[bytes, ...]:
        """`secret_key`, decoded; empty when there is none."""
        return tuple(_key(part.strip()) for part in self.secret_key.split(",") if part.strip())


def load(environ: Mapping[str, str]) -> Settings:
    """Settings from `environ`; raises BadSettings naming the variable that is unknown or has no valid value."""
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    for variable, value in environ.items():
        field = _field(variable)
        if field:
            values[field], names[field] = value, variable
    try:
        settings = msgspec.convert(values, Settings, strict=False)
        # Parsed here so that what is wrong stops the start, and not the first delivery.
        settings.networks  # noqa: B018
    except msgspec.ValidationError as error:
        raise BadSettings(_explain(str(error), names)) from None
    except ValueError as error:
        raise BadSettings(f"KONGFLOW_ALLOWED_NETWORKS: {error}") from None
    _check_rates(settings, names)
    settings.secret_keys  # noqa: B018 - as above
    return settings


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != SECRET_KEY_BYTES:
        # The value is nobody's to read, not even when it is wrong.
        raise BadSettings(f"KONGFLOW_SECRET_KEY: each key must be {SECRET_KEY_BYTES} bytes in base64")
    return key


def _check_rates(settings: Settings, names: Mapping[str, str]) -> None:
    for field in ("key_rate", "organization_rate"):
        if 0 < getattr(settings, field) < SLOWEST_RATE:
            raise BadSettings(f"{names[field]}: Expected 0, or `float` >= {SLOWEST_RATE}")


def _field(variable: str) -> str | None:
    if variable in BARE:
        return BARE[variable]
    if not variable.startswith(PREFIX) or variable in OTHERS or variable.startswith(OTHER_PREFIXES):
        return None
    field = variable.removeprefix(PREFIX).lower()
    if field in BARE.values():
        raise BadSettings(f"{variable}: set {field.upper()} instead, without the prefix")
    return field


def _explain(message: str, names: Mapping[str, str]) -> str:
    """Msgspec speaks of `$.port` and of unknown fields; a person at a shell wants the variable's name."""
    if "unknown field" in message:
        field = message.rsplit("`", 2)[1]
        return f"{names[field]}: no such setting"
    text, _, path = message.partition(" - at `$.")
    return f"{names[path.rstrip('`')]}: {text}"


@cache
def current() -> Settings:
    """This process's settings; read at the first call and kept."""
    return load(os.environ)
