"""What is kept of a run, and what is shown of it: all results as JSON, their medians as a table in Markdown."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.load import CACHE

# Of each row its title and where its figure stands in a system's results.
_ROWS = (
    ("A ingest, requests/s", ("flood", "requests/s")),
    ("A p50, ms", ("flood", "request p50 ms")),
    ("A p99, ms", ("flood", "request p99 ms")),
    ("B send to the last run, events/s", ("flood", "events/s")),
    ("C at 100/s, p50, ms", ("offer", "100", "send to run p50 ms")),
    ("C at 100/s, p99, ms", ("offer", "100", "send to run p99 ms")),
    ("C at 500/s, p50, ms", ("offer", "500", "send to run p50 ms")),
    ("C at 500/s, p99, ms", ("offer", "500", "send to run p99 ms")),
    ("D processor s per 1,000 events, own", ("flood", "own cpu s per 1000")),
    ("D PostgreSQL", ("flood", "cpu s per 1000", "PostgreSQL")),
    ("D RabbitMQ", ("flood", "cpu s per 1000", "RabbitMQ")),
    ("D load generator", ("flood", "load generator cpu s per 1000")),
    ("E bulk of 1,000, events/s", ("bulk", "events/s")),
    ("E to the last run, events/s", ("bulk", "to the last run events/s")),
    ("F largest process, MB", ("largest MB",)),
    ("one-row INSERT, rows/s", ("rows/s",)),
    ("1,000-row INSERT, rows/s", ("rows/s, 1000 a statement",)),
    ("cores taken by others during B", ("flood", "foreign cores")),
    ("cores stolen during B", ("flood", "stolen cores")),
)
_NONE = "–"
_BIG = 100


def keep(found: dict[str, Any], name: str) -> Path:
    """Write everything that was measured to a file of its own."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}.json"
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return path


def medians(found: dict[str, Any]) -> dict[str, Any]:
    """Of every figure of every system the median of the rounds."""
    return _median(found["rounds"])  # type: ignore[no-any-return]


def table(found: dict[str, Any]) -> str:
    """One column for each system, with the machine's state above and the ratios below."""
    middle, state = medians(found), found["machine"]
    head = (
        f"{state['cpus']} CPUs ({state['model']}), kernel {state['kernel']}, load {state['load'][0]} before it began;"
        f" medians of {len(found['rounds'])}, in turn. {_NONE}: not measured, or offered more than B takes."
    )
    body = [[title, *(_shown(_at(middle[name], path)) for name in middle)] for title, path in _ROWS]
    below = [*_by_type(middle["ours"]), *_ratios(middle), *_disturbed(found["rounds"])]
    return "\n".join([head, "", grid(["", *middle], body), "", *below])


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_type(ours: dict[str, Any]) -> list[str]:
    """Our own time and memory by type of process."""
    used, peak = _at(ours, ("flood", "cpu s per 1000")) or {}, ours.get("peak MB", {})
    return [f"- {kind}: {used.get(kind, _NONE)} s per 1,000 events, {_shown(size)} MB" for kind, size in peak.items()]


def _ratios(middle: dict[str, Any]) -> list[str]:
    """Ours beside each of the others."""
    ours = _at(middle["ours"], ("flood", "events/s"))
    others = {name: _at(middle[name], ("flood", "events/s")) or middle[name].get("rows/s") for name in middle}
    return [f"- B: {ours / other:.2f} × {name}" for name, other in others.items() if name != "ours" and ours and other]


def _disturbed(rounds: Any) -> list[str]:
    """The most that was taken from any one phase of any system."""
    return [
        f"- {name}, at most in any phase: {max(_all(rounds, name), default=0):g}"
        for name in ("foreign cores", "stolen cores")
    ]


def _all(results: Any, name: str) -> list[float]:
    """Every figure of this name, however deep it stands."""
    if isinstance(results, list):
        return [one for part in results for one in _all(part, name)]
    if not isinstance(results, dict):
        return []
    below = [one for part in results.values() for one in _all(part, name)]
    return [*below, results[name]] if name in results else below


def _at(results: dict[str, Any], path: Sequence[str]) -> Any:
    """The figure that stands there, if there is one."""
    found: Any = results
    for name in path:
        found = (found or {}).get(name)
    return found


def _shown(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:,.0f}" if value >= _BIG else f"{value:g}"


def _median(values: list[Any]) -> Any:
    """Of numbers the median; of dictionaries that of each entry that all of them have."""
    if isinstance(values[0], dict):
        return {
            name: _median([one[name] for one in values]) for name in values[0] if all(name in one for one in values)
        }
    return round(statistics.median(values), 3)
