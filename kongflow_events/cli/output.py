"""What commands print: tables for people, JSON for programs, and errors in one clear line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

import click

from kongflow_events import errors

FAILED: Final = 1
USAGE: Final = 2
NOTHING: Final = 3
UNREACHABLE: Final = 4
WARNED: Final = 5
# The shell's own for what SIGINT has ended.
INTERRUPTED: Final = 130

# States worth a colour; the words say it too.
_COLOURS: Final = {
    "delivered": "green",
    "SUCCEEDED": "green",
    "SUCCESS": "green",
    "enabled": "green",
    "ok": "green",
    "pending": "cyan",
    "PENDING": "cyan",
    "cancelled": "yellow",
    "CANCELED": "yellow",
    "SKIPPED": "yellow",
    "unmatched": "yellow",
    "warning": "yellow",
    "FAILURE": "red",
    "DEAD": "red",
    "dead": "red",
    "disabled": "red",
    "problem": "red",
}

# What a terminal may take for a command: names, ids and answers are the words of strangers.
_CONTROLS: Final = {code: f"\\u{code:04x}" for code in (*range(32), *range(127, 160))}
_CONTROLS_OF_JSON: Final = {code: text for code, text in _CONTROLS.items() if code >= 127}  # noqa: PLR2004 - DEL and C1

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def plain(text: str) -> str:
    """A text on one line, with its control characters written out."""
    return text.translate(_CONTROLS)


def mistakes(issues: Iterable[errors.Issue]) -> str:
    """What is wrong with what was given, each with its place; empty when nothing is."""
    return "; ".join(f"{one.path}: {one.message}" if one.path else one.message for one in issues)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """End with one line on stderr."""
    click.echo(f"{click.style('error', fg='red')}: {plain(message)}", err=True)
    sys.exit(code)


def fail_away(error: Exception) -> NoReturn:
    """End because the database is away; what the driver says of it has lines and tabs."""
    fail(f"the database is away: {' '.join(str(error).split())}", UNREACHABLE)


def on_progress() -> dict[str, Any]:
    """How every bar is drawn: on stderr, and on a terminal alone."""
    return {"file": sys.stderr, "hidden": not sys.stderr.isatty()}


def want_colour(asked: bool | None) -> bool | None:
    """Whether to colour: as asked, else as NO_COLOR and FORCE_COLOR say, else as the terminal does (None)."""
    if asked is not None:
        return asked
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def show_json(value: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2).translate(_CONTROLS_OF_JSON))


def show_list(document: Any) -> None:
    """A list, or a page of one, as one JSON document; ends with 3 when there is nothing in it, as its table does."""
    show_json(document)
    if not (document["data"] if isinstance(document, dict) else document):
        sys.exit(NOTHING)


def show_json_line(value: Any) -> None:
    """One JSON document on a line of its own, for streams of them."""
    click.echo(json.dumps(value, ensure_ascii=False).translate(_CONTROLS_OF_JSON))


def show_more(page: dict[str, Any]) -> None:
    """Where a list goes on, on stderr."""
    if page["nextCursor"]:
        click.echo(f"\nmore with --cursor {page['nextCursor']}", err=True)


def coloured(word: str) -> str:
    """A state in its colour."""
    return _coloured(word, word)


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns under their names; ends with 3 when there is nothing to show."""
    if not rows:
        click.echo("nothing found", err=True)
        sys.exit(NOTHING)
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    click.echo(_line(head, widths, bold=True))
    for row in rows:
        click.echo(_line(row, widths))


def show_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {_coloured(value, plain(value))}")


def _line(cells: Sequence[str], widths: Sequence[int], *, bold: bool = False) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    padded[-1] = padded[-1].rstrip()
    if bold:
        return click.style("  ".join(padded), bold=True)
    return "  ".join(_coloured(cell, text) for cell, text in zip(cells, padded, strict=True))


def _coloured(word: str, text: str) -> str:
    colour = _COLOURS.get(word)
    return click.style(text, fg=colour) if colour else text
