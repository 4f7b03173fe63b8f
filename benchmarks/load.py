"""Sends bodies with the generator in load.c, which is compiled when it is first needed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_SOURCE = Path(__file__).with_name("load.c")
CACHE = Path(".cache/bench")
_OK = 200


class Sent(NamedTuple):
    """When each body was due and when its answer was there, in seconds of the epoch; what the generator used."""

    due: list[float]
    done: list[float]
    cpu: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return len(self.due) / (max(self.done) - min(self.due))

    @property
    def milliseconds(self) -> list[float]:
        """How long each request took."""
        return [1000 * (done - due) for due, done in zip(self.due, self.done, strict=True)]


def send(port: int, path: str, key: str, bodies: Sequence[bytes], *, connections: int, rate: float = 0) -> Sent:
    """Post the bodies over `connections` of loopback: as fast as they are answered, or at `rate` a second.

    Raises RuntimeError unless every answer is 200.
    """
    before = os.times()
    made = subprocess.run(
        [_generator(), str(port), path, key, str(connections), str(rate)],
        input=b"".join(body + b"\n" for body in bodies),
        capture_output=True,
        check=False,
    )
    if made.returncode:
        raise RuntimeError(made.stderr.decode())
    times = [line.split() for line in made.stdout.splitlines()]
    refused = [int(status) for _, _, status in times if int(status) != _OK]
    if refused:
        raise RuntimeError(f"{len(refused)} of {len(times)} requests were not answered with 200: {set(refused)}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Sent([int(due) / 1e6 for due, _, _ in times], [int(done) / 1e6 for _, done, _ in times], cpu)


def _generator() -> Path:
    binary = CACHE / "load"
    if not binary.exists() or binary.stat().st_mtime < _SOURCE.stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-o", binary, _SOURCE], check=True)
    return binary.absolute()
