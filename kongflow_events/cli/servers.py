"""The server that workers run in, started so that its master's lines go into the log in the form of all others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final


def _dramatiq(options: list[str]) -> None:
    from dramatiq import cli

    # What it reads again when it is told to reload.
    sys.argv = ["dramatiq", "--skip-logging", *options]
    sys.exit(cli.main())


RUN: Final[Mapping[str, Callable[[list[str]], None]]] = {"dramatiq": _dramatiq}
