"""`import`: lines of JSON sent as events; what is refused is told line by line, and a second run sends nothing twice."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Final

import click
import msgspec

from kongflow_events.cli import bulks, output

# What an exported line tells and a sender cannot: how the event stood.
_TOLD: Final = ("deliveredAt", "createdAt", "state")


class Totals:
    """What became of the lines so far."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0
        self.skipped = 0

    def __str__(self) -> str:
        return f"{self.accepted} accepted, {self.refused} refused, {self.skipped} skipped"


@click.command("import")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE|-")
@click.option(
    "--refused", "refusals", type=click.Path(path_type=Path), default=None,
    help="Where to write what is refused. [default: FILE.refused.jsonl]",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(1, 1000), default=500, show_default=True, help="Lines of one request.")
@click.option("--rate", type=click.IntRange(1), default=None, help="At most so many a second. [default: no limit]")
@click.option("--from-line", type=click.IntRange(1), default=1, help="Go on where another run ended.")
@output.as_json
def import_(path: str, refusals: Path | None, batch: int, rate: int | None, from_line: int, as_json: bool) -> None:
    """Send the events of a file, a JSON object a line.

    A line holds what an event may: id, name, payload, context, timestamp, source, payloadType; and accountId and deliverAt.

    Sends in bulks, waits while the service is full (429) or away (503), and goes on past lines that are refused: they are
    written to a file with their number and the reason, and the command ends with 1. It can be run again at any time, for
    an id that was taken is not taken twice; a line without one gets an id made of its number and its text. A line with a
    `cancelledAt` is skipped.

    Example: kongflow-events import orders.jsonl
    """
    totals = Totals()
    keep = bulks.Refusals(refusals or Path(f"{'import' if path == '-' else path}.refused.jsonl"))
    with click.open_file(path, "rb") as file, keep:
        _send(file, totals, keep, batch=batch, rate=rate, from_line=from_line)
    if as_json:
        output.show_json({**vars(totals), "refusedFile": str(keep.path) if totals.refused else None})
    else:
        click.echo(str(totals) + (f": see {keep.path}" if totals.refused else ""))
    if totals.refused:
        sys.exit(output.FAILED)


def _send(
    file: IO[bytes], totals: Totals, keep: bulks.Refusals, *, batch: int, rate: int | None, from_line: int
) -> None:
    at = from_line
    lines = islice(enumerate(file, 1), from_line - 1, None)
    try:
        with _bar(file) as bar:
            for window in _windows(lines, batch):
                at = window[0][0]
                _take(window, totals, keep, rate)
                bar.update(sum(len(line) for _, line in window))
    except (KeyboardInterrupt, SystemExit):
        click.echo(f"\n{totals}; go on with --from-line {at}", err=True)
        raise


def _take(window: Sequence[tuple[int, bytes]], totals: Totals, keep: bulks.Refusals, rate: int | None) -> None:
    """Send one window of lines, those with the same options together."""
    began = time.monotonic()
    groups: dict[bulks.Options, list[bulks.Line]] = {}
    for number, text in window:
        line = parse(number, text)
        if isinstance(line, str):
            totals.refused += 1
            keep.add(number, line, text)
        elif line is None:
            totals.skipped += bool(text.strip())
        else:
            groups.setdefault(line.options, []).append(line)
    for options, lines in groups.items():
        refused = list(bulks.send(options, lines))
        for line, reason in refused:
            keep.add(line.number, reason, line.text)
        totals.refused += len(refused)
        totals.accepted += len(lines) - len(refused)
    if rate is not None:
        time.sleep(max(0.0, len(window) / rate - (time.monotonic() - began)))


def parse(number: int, text: bytes) -> bulks.Line | str | None:
    """A line as it is sent; why it cannot be one; or None for what is not to be sent: nothing, or a cancelled event."""
    if not text.strip():
        return None
    try:
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        account, deliver_at, cancelled = (_text(fields, name) for name in ("accountId", "deliverAt", "cancelledAt"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"no event: {error}"
    if cancelled is not None:
        return None
    event = {name: bytes(raw) for name, raw in fields.items() if name not in _TOLD}
    event.setdefault("id", f'"import-{hashlib.sha256(b"%d %b" % (number, text.strip())).hexdigest()[:32]}"'.encode())
    options = bulks.Options(account, deliver_at if deliver_at and _is_to_come(deliver_at) else None)
    return bulks.Line(number, text, _object(event), options)


def _text(fields: dict[str, msgspec.Raw], name: str) -> str | None:
    raw = fields.pop(name, None)
    return None if raw is None else msgspec.json.decode(raw, type=str | None)


def _is_to_come(text: str) -> bool:
    """Whether a time lies ahead; one that cannot be read is left to the service to refuse."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return True
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) > datetime.now(UTC)


def _object(members: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + raw for name, raw in members.items()) + b"}"


def _windows(lines: Iterator[tuple[int, bytes]], most: int) -> Iterator[list[tuple[int, bytes]]]:
    """Lines, so many together as one request may hold, also by their bytes."""
    window: list[tuple[int, bytes]] = []
    size = 0
    for number, text in lines:
        if window and (len(window) == most or size + len(text) > bulks.LARGEST):
            yield window
            window, size = [], 0
        window.append((number, text))
        size += len(text)
    if window:
        yield window


def _bar(file: IO[bytes]) -> Any:
    """A bar over the bytes of a file; without a length, as of a pipe, there is none."""
    length = file.seek(0, os.SEEK_END) if file.seekable() else 0
    if not length:
        return nullcontext(SimpleNamespace(update=lambda _: None))
    file.seek(0)
    return click.progressbar(length=length, label="import", **output.on_progress())
