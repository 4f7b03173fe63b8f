"""The variables of a command: those of its shell, else those that `dev` left where it was started."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

# Seen from where `dev` was started.
_DEV_ENV: Final = Path(".kongflow/dev.env")
_DATABASE: Final = "DATABASE_URL"
_SECRET_KEY: Final = "KONGFLOW_SECRET_KEY"  # noqa: S105 - the variable's name


def variable(name: str) -> str | None:
    """The shell's value, which may be empty; else the one that `dev` left."""
    return os.environ[name] if name in os.environ else _left().get(name)


def settle() -> None:
    """Let this process have the database that `dev` left, and its key, when its shell names none.

    Comes before the first `settings.current()`.
    """
    left = _left()
    if _DATABASE in os.environ or _DATABASE not in left:
        return
    for name in (_DATABASE, _SECRET_KEY):
        os.environ.setdefault(name, left.get(name, ""))


def is_of_dev(database_url: str) -> bool:
    """Whether this is the database that `dev` left."""
    return _left().get(_DATABASE) == database_url


def _left() -> dict[str, str]:
    # None, or one of somebody else who keeps it private.
    with suppress(OSError):
        lines = _DEV_ENV.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}
