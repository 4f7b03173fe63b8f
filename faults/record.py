"""What is kept of a scenario's run: one record, in the words that Jepsen's tests use, and the table on the terminal."""

from __future__ import annotations

import platform
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from faults import invariants
from faults.evidence import Evidence, percentile

FOLDER = Path(".cache/faults")
# The findings that a stalled machine can bring about all by itself.
_LATE = re.compile(r": not within |^I6: drained after |^I10: p99 |^a claim takes |^a call took |^attempt \d+ came ")


class Record(msgspec.Struct, frozen=True):
    """One run. Counts are of events, but `duplicated` of effects, `repeated` of calls, `unexpected` of findings.

    `recovered` are events whose client got no answer to its first attempt, and that were stored and carried out.
    """

    name: str
    seed: int
    attempted: int = 0
    acknowledged: int = 0
    ok: int = 0
    lost: int = 0
    duplicated: int = 0
    unexpected: int = 0
    recovered: int = 0
    calls: int = 0
    repeated: int = 0
    invocations: int = 0
    drain_seconds: float = 0.0
    depth: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    failed_requests: int = 0
    seconds: float = 0.0
    findings: list[str] = []
    measured: dict[str, float] = {}
    note: str = ""
    at: str = ""
    machine: str = ""

    @classmethod
    def of(
        cls, name: str, seed: int, seen: Evidence, findings: list[str], measured: dict[str, float], seconds: float
    ) -> Record:
        """The record of what was seen."""
        stored = {record.event_id for record in seen.records}
        failed = [one for one in seen.attempts if one.status is None or one.status >= 500]
        shaky = {one for attempt in failed if attempt.attempt == 1 for one in attempt.ids}
        times = [one.ms for one in seen.attempts if one.status == 200]
        lost = invariants.lost(seen)
        return cls(
            name=name,
            seed=seed,
            attempted=len(seen.sent),
            acknowledged=len(seen.acknowledged),
            ok=len(seen.acknowledged) - lost,
            lost=lost,
            duplicated=invariants.duplicated(seen),
            unexpected=len(findings),
            recovered=len(shaky & stored),
            calls=len(seen.calls),
            repeated=len(seen.repeats),
            invocations=len(seen.invocations),
            drain_seconds=round(seen.drained, 1),
            depth=seen.deepest,
            p50_ms=round(percentile(times, 0.5), 1),
            p99_ms=round(percentile(times, 0.99), 1),
            failed_requests=len(failed),
            seconds=round(seconds, 1),
            findings=findings,
            measured=measured,
            at=time.strftime("%Y-%m-%dT%H:%M:%S"),
            machine=f"{platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        )

    @classmethod
    def broken(cls, name: str, seed: int, reason: str, seconds: float) -> Record:
        """The record of a scenario that could not be carried through, which is red: a skipped fault proves nothing."""
        return cls(name, seed, unexpected=1, findings=[reason], seconds=round(seconds, 1))

    @property
    def green(self) -> bool:
        """Whether everything held."""
        return not self.findings and not self.lost and not self.duplicated

    @property
    def only_late(self) -> bool:
        """Whether everything came about and nothing was done twice, but something took longer than was promised."""
        on_time = [finding for finding in self.findings if not _LATE.search(finding)]
        return bool(self.findings) and not on_time and not self.lost and not self.duplicated


def new_file(name: str) -> Path:
    """Where the records of a run that begins now are kept."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}.json"


def keep(records: Sequence[Record], path: Path) -> None:
    """Write the records of one run to its file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(list(records))))


HEAD = (
    f"{'fault':<10} {'seed':>4} {'attempt':>7} {'acked':>7} {'ok':>7} {'lost':>4} {'dupl':>4} {'unexp':>5} {'recov':>5}"
    f" {'calls':>6} {'rep':>3} {'drain':>6} {'depth':>5} {'p50':>6} {'p99':>7} {'5xx':>5} {'secs':>6}"
)


def line(record: Record) -> str:
    """One line of the table, with what was wrong below it."""
    row = (
        f"{record.name:<10} {record.seed:>4} {record.attempted:>7} {record.acknowledged:>7} {record.ok:>7} {record.lost:>4}"
        f" {record.duplicated:>4} {record.unexpected:>5} {record.recovered:>5} {record.calls:>6} {record.repeated:>3}"
        f" {record.drain_seconds:>6} {record.depth:>5} {record.p50_ms:>6} {record.p99_ms:>7} {record.failed_requests:>5}"
        f" {record.seconds:>6} {'green' if record.green else 'RED'} {record.note}"
    )
    return "\n".join([row.rstrip(), *(f"    {finding}" for finding in record.findings)])


def last(records: Iterable[Record]) -> list[Record]:
    """Of each fault and seed the last run: what was done again counts as it was the second time."""
    return list({(one.name, one.seed): one for one in records}.values())


def share_repeated(records: Sequence[Record]) -> float:
    """Calls that were made again after their 2xx, in percent of all; controls repeat on purpose and do not count."""
    counted = [one for one in records if not one.note]
    calls = sum(one.calls for one in counted)
    return 100 * sum(one.repeated for one in counted) / calls if calls else 0.0


def totals(records: Sequence[Record]) -> str:
    """What all of them come to; controls, which lose and repeat on purpose, count as green or not and as nothing else."""
    sums: Counter[str] = Counter()
    for record in (one for one in records if not one.note):
        for name in ("attempted", "acknowledged", "lost", "duplicated", "calls", "repeated", "invocations"):
            sums[name] += getattr(record, name)
    green = sum(record.green for record in records)
    return (
        f"{green} of {len(records)} green; {sums['acknowledged']} events acknowledged, {sums['lost']} lost;"
        f" {sums['invocations']} invocations, {sums['duplicated']} duplicated; {sums['calls']} calls,"
        f" {sums['repeated']} repeated ({share_repeated(records):.2f} %)"
    )
