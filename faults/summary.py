"""`python -m faults.summary RECORDS…`: the table of docs/reliability.md, from the records that runs have kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from faults import record
from faults.record import Record

_HEAD = """\
| | seeds | acked | lost | dupl. | calls | repeated | drain, s | p99, ms | again |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def main(paths: Sequence[str]) -> None:
    """Print a line for each fault, and what all of them come to."""
    records = [one for path in paths for one in msgspec.json.decode(Path(path).read_bytes(), type=list[Record])]
    print(_HEAD)
    for name in dict.fromkeys(one.name for one in records):
        print(_row(name, [one for one in records if one.name == name]))
    print(record.totals(record.last(records)))


def _row(name: str, runs: Sequence[Record]) -> str:
    last = record.last(runs)
    seeds = ", ".join(f"{one.seed}" if one.green else f"{one.seed} RED" for one in last)
    sums = [
        sum(getattr(one, what) for one in last) for what in ("acknowledged", "lost", "duplicated", "calls", "repeated")
    ]
    most = [max(getattr(one, what) for one in last) for what in ("drain_seconds", "p99_ms")]
    figures = [*(f"{one:,}" for one in sums), *(f"{one:.1f}" for one in most)]
    again = len(runs) - len(last)
    return f"| {name} | {seeds} | {' | '.join(figures)} | {again or ''} |"


if __name__ == "__main__":
    main(sys.argv[1:])
