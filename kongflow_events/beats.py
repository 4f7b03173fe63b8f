"""A sign of life of every process, for whoever asks who is at work. A scheduler gives its own, by its relay's thread."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Final

from kongflow_events.services import health
from kongflow_events.store import db

_SECONDS: Final = 10.0


def instance() -> str:
    """What this process is called: its host and its id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def begin(kind: str) -> None:
    """Have this process, of this type of the Procfile, say that it lives until it ends. The store has to be connected."""
    threading.Thread(target=_beat_on, args=(kind, instance()), daemon=True, name="beat").start()


def _beat_on(kind: str, name: str) -> None:
    while True:
        # That the database is away whoever works says; that nothing is heard from here says it once more.
        with suppress(*db.AWAY), db.unit():
            health.beat(kind, name)
        time.sleep(_SECONDS)
