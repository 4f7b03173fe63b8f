"""Measure: what the database says of the service, for whoever watches it from outside."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import structlog

from kongflow_events import metrics
from kongflow_events.store import db, gauges, health

log = structlog.get_logger(__name__)

# Seconds for which an answer is good, and how many times as long as the asking at least: however many read, and however
# much there is to count, the database is asked a twentieth of the time.
_GOOD: Final = 5.0
_TIMES_AS_LONG: Final = 20


class Reading(NamedTuple):
    """One number, of a series with these values of its labels."""

    series: metrics.Gauge
    labels: metrics.Labels
    value: float


class Measuring:
    """One process's measuring; for any thread. Those who ask while another is at it wait for his answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = -math.inf
        self._readings: list[Reading] = []

    def readings(self) -> list[Reading]:
        """The gauges, a few seconds old at the most; of a database that is away only that it is."""
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._readings = _measure()
                ended = time.monotonic()
                self._until = ended + max(_GOOD, _TIMES_AS_LONG * (ended - began))
            return self._readings


def _measure() -> list[Reading]:
    try:
        with db.unit():
            return [Reading(metrics.DATABASE_UP, (), 1), *_of_outbox(), *_of_rest(), *_of_snapshots()]
    except db.AWAY as error:
        log.warning("nothing is measured: the database is away", reason=str(error).strip())
        return [Reading(metrics.DATABASE_UP, (), 0)]


def _of_outbox() -> Iterator[Reading]:
    owed: dict[metrics.Labels, gauges.Owed] = {(one.kind, one.state): one for one in gauges.outbox()}
    for kind in metrics.OUTBOX.labels["kind"]:
        for state in metrics.OUTBOX.labels["state"]:
            found = owed.get((kind, state))
            yield Reading(metrics.OUTBOX, (kind, state), found.number if found else 0)
        due = owed.get((kind, "due"))
        yield Reading(metrics.OLDEST_DUE, (kind,), due.oldest or 0.0 if due else 0.0)
        if kind == "deliver":
            yield Reading(metrics.DEAD_LETTERS, (kind,), owed["deliver", "dead"].number)


def _of_rest() -> Iterator[Reading]:
    rest = gauges.rest()
    yield Reading(metrics.DEAD_LETTERS, ("invocation",), rest.dead)
    yield Reading(metrics.TARGETS, ("failing",), rest.failing)
    yield Reading(metrics.TARGETS, ("open",), rest.open)
    yield Reading(metrics.TARGETS, ("disabled",), rest.disabled)
    yield Reading(metrics.RELAY_AGE, (), math.inf if rest.relay_age is None else rest.relay_age)
    yield Reading(metrics.RELAYS, (), rest.relays)
    yield Reading(metrics.CONNECTIONS, ("active",), rest.active)
    yield Reading(metrics.CONNECTIONS, ("idle",), rest.idle)
    yield Reading(metrics.CONNECTIONS, ("in transaction",), rest.in_transaction)


def _of_snapshots() -> Iterator[Reading]:
    oldest = health.oldest_holder()
    yield Reading(metrics.SNAPSHOT_AGE, (), oldest.seconds if oldest else 0.0)
