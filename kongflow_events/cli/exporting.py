"""`export`: stored events as lines of JSON, which `import` takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import click
import msgspec

from kongflow_events.cli import lists, output
from kongflow_events.cli.client import insist, read

_PAGE: Final = 100


class _Page(msgspec.Struct, rename="camel"):
    data: list[msgspec.Raw]
    next_cursor: str | None


@click.command("export")
@click.option("--output", "file", type=click.File("wb"), default="-", help="Where to write. [default: standard output]")
@lists.events
def export(file: BinaryIO, **query: Any) -> None:
    """Write stored events, newest first, a JSON object a line; payloads are the senders' own, digit for digit.

    What is written here, `kongflow-events import` takes. Ends with 3 when there is nothing to write.

    Example: kongflow-events export --name order.paid --since 2026-06-17 --output orders.jsonl
    """
    written = 0
    # An event that holds a line break between its tokens must stay on one line.
    breaks = bytes.maketrans(b"\r\n", b"  ")
    with click.progressbar(_events(query), label="export", show_pos=True, **output.on_progress()) as events:
        for event in events:
            file.write(bytes(event).translate(breaks) + b"\n")
            written += 1
    file.flush()
    click.echo(f"{written} exported", err=True)
    if not written:
        sys.exit(output.NOTHING)


def _events(query: dict[str, Any]) -> Iterator[msgspec.Raw]:
    cursor = None
    while True:
        answer = insist("GET", "/api/v1/events", limit=_PAGE, cursor=cursor, **query)
        if answer.status != 200:  # noqa: PLR2004 - the API's only success
            read(answer)
        page = msgspec.json.decode(answer.data, type=_Page)
        yield from page.data
        cursor = page.next_cursor
        if cursor is None:
            return
