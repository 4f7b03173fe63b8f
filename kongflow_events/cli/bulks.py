"""Lines sent in bulks: as many together as the service takes, and the ones that it refuses found among them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from kongflow_events.cli.client import insist, read

# Bytes of one request: below what the service takes by default, with room for what surrounds the lines.
LARGEST: Final = 4_000_000
# Refusals that are about what was sent. Others (no key, no right) would meet every line, and end the command.
_ABOUT_LINES: Final = (400, 409, 413, 422)
_PLACE: Final = re.compile(r"events\[(\d+)\]")


class Options(NamedTuple):
    """What a bulk says of all its events at once."""

    account: str | None
    deliver_at: str | None


class Line(NamedTuple):
    """A line of a file: its number, its text, and the event in it as it is sent."""

    number: int
    text: bytes
    event: bytes
    options: Options


class Refusals:
    """A file of refused lines, which is made when there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def add(self, number: int, reason: str, text: bytes) -> None:
        """Write down a line and why it was refused."""
        if self._file is None:
            self._file = self.path.open("wb")
        told = {"line": number, "reason": reason, "text": text.decode(errors="replace").strip()}
        self._file.write(json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n")

    def __enter__(self) -> Refusals:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def send(options: Options, lines: Sequence[Line]) -> Iterator[tuple[Line, str]]:
    """Send the lines; the ones that are refused, each with the reason. All others are stored when this ends.

    A bulk is stored as a whole or not at all: what its refusal names is taken out, and when it names nothing the bulk is
    halved until the culprit stands alone.
    """
    waiting = [list(lines)]
    while waiting:
        bulk = waiting.pop()
        answer = insist("POST", "/api/v1/events/bulk", _body(options, bulk))
        if answer.status == 200:  # noqa: PLR2004 - the API's only success
            continue
        if answer.status not in _ABOUT_LINES:
            read(answer)
        refusal = json.loads(answer.data)
        named = _named(refusal, len(bulk))
        if len(bulk) == 1:
            yield bulk[0], named.get(0, refusal["error"])
        elif named:
            yield from ((bulk[at], reason) for at, reason in named.items())
            if len(named) < len(bulk):
                waiting.append([line for at, line in enumerate(bulk) if at not in named])
        else:
            half = len(bulk) // 2
            waiting += [bulk[half:], bulk[:half]]


def _named(refusal: dict[str, Any], size: int) -> dict[int, str]:
    """Which lines a refusal names, and the first thing that is wrong with each."""
    named: dict[int, str] = {}
    for issue in refusal.get("issues") or ():
        place = _PLACE.match(issue["path"])
        if place and int(place[1]) < size:
            named.setdefault(
                int(place[1]), f"{issue['path'][place.end() :].lstrip('.')}: {issue['message']}".lstrip(": ")
            )
    return named


def _body(options: Options, bulk: Sequence[Line]) -> bytes:
    known = {"accountId": options.account, "deliverAt": options.deliver_at}
    said = msgspec.json.encode({name: value for name, value in known.items() if value is not None})
    return b'{"events":[' + b",".join(line.event for line in bulk) + b'],"options":' + said + b"}"
