"""What a scenario left behind, as plain values: the client's ledger, the sink's calls, the rows of the database."""

from __future__ import annotations

import itertools
import math
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from faults.processes import Happened
from faults.world import World


class Attempt(msgspec.Struct, frozen=True):
    """One request of the client: `status` is None when no answer came; `stored` the ids that the answer names."""

    ids: list[str]
    attempt: int
    at: float
    ms: float
    status: int | None = None
    error: str | None = None
    retry_after: str | None = None
    stored: list[str] = []


class Call(msgspec.Struct, frozen=True):
    """One call that the sink got; `status` 0 when it gave no answer; `verified`: the webhooks' secret has signed it."""

    id: str
    hash: str
    at: float
    path: str
    mode: str
    status: int
    verified: bool = False


class Record(msgspec.Struct, frozen=True):
    """A stored event."""

    id: uuid.UUID
    event_id: str


class Invocation(msgspec.Struct, frozen=True):
    """A row of the ledger of what must happen; `rule` is the label of its dispatcher."""

    id: uuid.UUID
    event_id: str
    rule: str
    status: str
    attempts: int
    reason: str | None


class Try(msgspec.Struct, frozen=True):
    """A row of the attempts; `at` is when it began."""

    invocation_id: uuid.UUID
    number: int
    outcome: str
    at: float


class Rule(msgspec.Struct, frozen=True):
    """A dispatcher of the tenant: which quarters of the numbers it wants, the jobs it starts, or the URL it calls.

    The calls of one that is `signed` are a webhook's. `ends` is what each of its invocations has to have come to.
    """

    label: str
    dispatcher_id: uuid.UUID
    quarters: frozenset[int]
    jobs: frozenset[uuid.UUID] = frozenset()
    url: str | None = None
    signed: bool = False
    ends: frozenset[str] = frozenset({"SUCCEEDED"})

    @property
    def path(self) -> str:
        """The path of its URL."""
        return urlsplit(self.url or "").path

    def wants(self, event_id: str) -> bool:
        """Whether it matches the event of this id."""
        return int(event_id.rpartition("-")[2]) % 4 in self.quarters


class Evidence(msgspec.Struct, frozen=True, dict=True):
    """Everything that the invariants are asked about."""

    rules: list[Rule]
    attempts: list[Attempt]
    calls: list[Call]
    records: list[Record]
    invocations: list[Invocation]
    runs: list[tuple[uuid.UUID, uuid.UUID]]
    tries: list[Try]
    owed: int
    leases: int
    deepest: int
    drained: float
    journal: list[Happened]

    @cached_property
    def sent(self) -> set[str]:
        """The ids of the events that the client ever sent."""
        return {one for attempt in self.attempts for one in attempt.ids}

    @cached_property
    def acknowledged(self) -> set[str]:
        """Those of them that got a 200."""
        return {one for attempt in self.attempts if attempt.status == 200 for one in attempt.ids}

    @cached_property
    def calls_of(self) -> dict[str, list[Call]]:
        """The calls by their message id, in order."""
        found = defaultdict(list)
        for call in self.calls:
            found[call.id].append(call)
        return found

    @cached_property
    def called(self) -> list[Invocation]:
        """The invocations that go to a URL."""
        urls = {rule.label for rule in self.rules if rule.url}
        return [one for one in self.invocations if one.rule in urls]

    @cached_property
    def repeats(self) -> list[tuple[Call, Call]]:
        """Every call that was made although an earlier one of its id had been answered 2xx, behind that one."""
        return [
            (earlier, later)
            for calls in self.calls_of.values()
            for earlier, later in itertools.pairwise(calls)
            if 200 <= earlier.status < 300
        ]


def gather(
    world: World,
    tenant: uuid.UUID,
    rules: Sequence[Rule],
    ignored: Collection[uuid.UUID],
    ledger: Path,
    drained: float,
    since: float,
) -> Evidence:
    """Read everything that belongs to one tenant's environment, since `since`; nothing of the `ignored` dispatchers."""
    labels = {rule.dispatcher_id: rule.label for rule in rules}
    mine = f"environment_id = '{tenant}'"
    records = [Record(*row) for row in world.rows(f"SELECT id, event_id FROM event_records WHERE {mine}")]
    names = {record.id: record.event_id for record in records}
    found = world.rows(
        f"SELECT id, event_record_id, dispatcher_id, status, attempts, reason FROM invocations WHERE {mine}"
    )
    invocations = [
        Invocation(row[0], names[row[1]], labels.get(row[2], str(row[2])), *row[3:])
        for row in found
        if row[2] not in ignored
    ]
    tries = world.rows(
        "SELECT invocation_id, number, outcome, extract(epoch FROM started_at)::float"
        " FROM invocation_attempts a JOIN invocations i ON i.id = a.invocation_id"
        f" WHERE i.{mine} ORDER BY number"
    )
    ids = {str(one.id) for one in invocations}
    return Evidence(
        rules=list(rules),
        attempts=attempts_in(ledger),
        calls=[call for call in calls_in(world.sink_log) if call.id in ids],
        records=records,
        invocations=invocations,
        runs=_runs(world, mine, ignored),
        tries=[Try(*row) for row in tries],
        owed=world.owed(),
        leases=int(world.rows("SELECT count(*) FROM outbox WHERE lease_until < now() - interval '1 second'")[0][0]),
        deepest=world.deepest(since),
        drained=drained,
        journal=[one for one in world.journal if one.at >= since],
    )


def _runs(world: World, mine: str, ignored: Collection[uuid.UUID]) -> list[tuple[uuid.UUID, uuid.UUID]]:
    found = world.rows(
        "SELECT invocation_id, job_id, i.dispatcher_id FROM job_runs r LEFT JOIN invocations i ON i.id = r.invocation_id"
        f" WHERE r.{mine}"
    )
    return [(row[0], row[1]) for row in found if row[2] not in ignored]


def attempts_in(ledger: Path) -> list[Attempt]:
    """What the client has written down so far."""
    return _lines(ledger, Attempt)


def calls_in(log: Path) -> list[Call]:
    """What the sink has written down so far."""
    return _lines(log, Call)


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which this share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _lines(path: Path, kind: Any) -> list[Any]:
    """The complete lines of a file; one that its writer was killed in the middle of is none."""
    if not path.exists():
        return []
    return [
        msgspec.json.decode(line, type=kind)
        for line in path.read_bytes().splitlines(keepends=True)
        if line[-1:] == b"\n"
    ]
