"""What is counted and measured: every series by its name, its labels and its meaning; docs/metrics.md is their table.

Only words are here. Counting looks a series up in a dictionary and adds to it; Prometheus' library is loaded when the
first one is made, because it asks then, and only then, where the processes of a machine gather their numbers.
Labels are of few values that are known beforehand: never an id, a name or a URL of a tenant.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from kongflow_events import words

if TYPE_CHECKING:
    from prometheus_client.metrics import MetricWrapperBase

Kind = Literal["counter", "histogram", "gauge"]
Labels = tuple[str, ...]

_making = threading.Lock()


class Series:
    """One name, with a value for each combination of its labels' values. A label without known values is a route's."""

    kind: ClassVar[Kind]

    def __init__(self, name: str, text: str, **labels: Sequence[str]) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        SERIES.append(self)


class _Written(Series):
    """A series that processes write themselves, each into a file of its own."""

    def __init__(self, name: str, text: str, **labels: Sequence[str]) -> None:
        super().__init__(name, text, **labels)
        self._metric: MetricWrapperBase | None = None
        self._children: dict[Labels, Any] = {}

    def begin(self) -> None:
        """Be there with a zero: what appears with its first event has no rate at that event."""
        combinations: list[Labels] = [()]
        for values in self.labels.values():
            combinations = [(*before, value) for before in combinations for value in values]
        for combination in combinations:
            self._child(combination)

    def _child(self, values: Labels) -> Any:
        with _making:
            if values not in self._children:
                self._metric = self._metric or self._make()
                self._children[values] = self._metric.labels(*values) if values else self._metric
            return self._children[values]

    def _make(self) -> MetricWrapperBase:
        raise NotImplementedError


class Counter(_Written):
    """How often something has happened."""

    kind = "counter"

    def add(self, *values: str, amount: float = 1) -> None:
        """It has happened `amount` times more, with these values of the labels, in their order."""
        (self._children.get(values) or self._child(values)).inc(amount)

    def _make(self) -> MetricWrapperBase:
        import prometheus_client

        return prometheus_client.Counter(self.name, self.text, tuple(self.labels))


class Histogram(_Written):
    """How many seconds something has taken, by the bounds of its buckets."""

    kind = "histogram"

    def __init__(self, name: str, text: str, bounds: Sequence[float], **labels: Sequence[str]) -> None:
        super().__init__(name, text, **labels)
        self._bounds = bounds

    def note(self, seconds: float, *values: str) -> None:
        """It has taken so long, with these values of the labels, in their order."""
        (self._children.get(values) or self._child(values)).observe(seconds)

    def _make(self) -> MetricWrapperBase:
        import prometheus_client

        return prometheus_client.Histogram(self.name, self.text, tuple(self.labels), buckets=self._bounds)


class Level(_Written):
    """What a process sees now; of several that do, what the last one saw, as long as it lives."""

    kind = "gauge"

    def set(self, value: float, *values: str) -> None:
        """It is so much, with these values of the labels, in their order."""
        (self._children.get(values) or self._child(values)).set(value)

    def _make(self) -> MetricWrapperBase:
        import prometheus_client

        return prometheus_client.Gauge(self.name, self.text, tuple(self.labels), multiprocess_mode="livemostrecent")


class Gauge(Series):
    """What the database says when it is asked; no process keeps it."""

    kind = "gauge"


SERIES: Final[list[Series]] = []

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_CALLS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)
_WAITS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_INSIDE: Final = ("deliver", "invoke")
_CALLED: Final = ("succeeded", "refused", "unreachable", "timeout", "blocked", "failed")

# What senders see.
REQUESTS = Counter(
    "kongflow_http_requests_total", "Requests answered, by route, method and status.", route=(), method=(), status=()
)
REQUEST_SECONDS = Histogram("kongflow_http_request_seconds", "What an answer took.", _FAST, route=())
EVENTS = Counter(
    "kongflow_events_total",
    "Events sent: stored or changed (new), known already (repeated), or refused by a limit or a conflict.",
    outcome=("new", "repeated", "refused"),
)
RATE_LIMITED = Counter(
    "kongflow_rate_limited_total",
    "Refusals by a rate limit, of keys, of organizations, or of sign-ins to the console.",
    limit=("key", "organization", "sign-in"),
)

# What becomes of them.
DELIVERIES = Counter(
    "kongflow_deliveries_total",
    "Events delivered, to at least one dispatcher (matched) or to none.",
    outcome=("matched", "unmatched"),
)
MATCHES = Counter("kongflow_matches_total", "Invocations made by deliveries.", kind=("invoke", "post"))
INVOCATIONS = Counter(
    "kongflow_invocations_total",
    "Invocations ended, by what carried them out and how they ended.",
    kind=("invoke", "post"),
    outcome=("succeeded", "skipped", "canceled", "dead"),
)
DEAD = Counter("kongflow_dead_total", "Work that has become a dead letter.", kind=words.KINDS)
FAILED = Counter(
    "kongflow_failed_attempts_total", "Attempts inside PostgreSQL that failed and were counted.", kind=_INSIDE
)
CLAIMS_LOST = Counter(
    "kongflow_claims_lost_total",
    "Work ended by a worker whose lease had run out: its end changed nothing.",
    kind=words.KINDS,
)
SEND_TO_RUN = Histogram(
    "kongflow_send_to_run_seconds", "From the time an event was due to its runs, at the first delivery.", _WAITS
)
SEND_TO_CALL = Histogram(
    "kongflow_send_to_call_seconds", "From the time an event was due to its first call of a URL.", _WAITS
)
POST_SECONDS = Histogram("kongflow_post_seconds", "Calls of URLs, by what came of them.", _CALLS, outcome=_CALLED)
CIRCUITS = Counter(
    "kongflow_circuit_changes_total",
    "Changes of a target's circuit.",
    change=("opened", "closed", "disabled"),
)

# What carries them.
TICKS = Counter("kongflow_relay_ticks_total", "Looks of the relay at the outbox.")
HINTS = Counter("kongflow_hints_total", "Rows hinted by the relay.", kind=words.KINDS)
HINTS_DROPPED = Counter("kongflow_hints_dropped_total", "Hints of workers that were dropped; the relay repeats them.")
BROKER_AWAY = Counter("kongflow_relay_failures_total", "Looks of the relay that met no broker or no database.")
MESSAGES = Counter(
    "kongflow_messages_total",
    "Messages worked on, by whether the work went through, the database was away, or something unforeseen came up.",
    queue=words.KINDS,
    outcome=("done", "away", "failed"),
)
MESSAGE_SECONDS = Histogram("kongflow_message_seconds", "Work on one message.", _CALLS, queue=words.KINDS)
POOL_EXHAUSTED = Counter(
    "kongflow_pool_exhausted_total", "Units of work that found no free database connection in time."
)
QUEUE_DEPTH = Level(
    "kongflow_queue_messages", "Messages that wait in the broker, as the scheduler saw it.", queue=words.KINDS
)
QUEUE_CONSUMERS = Level(
    "kongflow_queue_consumers", "Worker processes that take messages, as the scheduler saw it.", queue=words.KINDS
)

# What is there, as the database says.
DATABASE_UP = Gauge(
    "kongflow_database_up", "Whether the database answered this scrape; the series below are missing if not."
)
OUTBOX = Gauge(
    "kongflow_outbox_rows",
    "Rows that are due, not due yet, leased to a worker, or dead; counted up to 100,000 of each kind.",
    kind=words.KINDS,
    state=("due", "later", "leased", "dead"),
)
OLDEST_DUE = Gauge(
    "kongflow_outbox_oldest_due_seconds", "For how long the oldest due row has waited.", kind=words.KINDS
)
DEAD_LETTERS = Gauge(
    "kongflow_dead_letters",
    "Dead letters that nobody has redriven or dismissed; counted up to 100,000.",
    kind=("deliver", "invocation"),
)
TARGETS = Gauge(
    "kongflow_targets",
    "Targets of webhooks whose last call failed, whose circuit is open, or that the service has disabled.",
    state=("failing", "open", "disabled"),
)
RELAY_AGE = Gauge("kongflow_relay_age_seconds", "Since a relay last said that it lives; +Inf when none did for a day.")
RELAYS = Gauge("kongflow_relays", "Schedulers that said so within the last 30 seconds.")
CONNECTIONS = Gauge(
    "kongflow_database_connections",
    "Connections of the service to the database, of all machines.",
    state=("active", "idle", "in transaction"),
)
SNAPSHOT_AGE = Gauge("kongflow_oldest_snapshot_seconds", "For how long a transaction has kept vacuum from cleaning.")


def begin() -> None:
    """Make every series of known labels that counts, so that it is there with a zero from the start."""
    for series in SERIES:
        if isinstance(series, (Counter, Histogram)) and all(series.labels.values()):
            series.begin()
