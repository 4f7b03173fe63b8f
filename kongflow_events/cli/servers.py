"""The servers that processes run in, started so that their masters' lines go into the log in the form of all others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Final


def _granian(options: list[str]) -> None:
    from granian.cli import cli

    # It sets its loggers up from a file.
    with resources.as_file(resources.files(__package__) / "granian-logs.json") as plain:
        cli.main(["--log-config", str(plain), *options], prog_name="granian", auto_envvar_prefix="GRANIAN")


def _dramatiq(options: list[str]) -> None:
    from dramatiq import cli

    # What it reads again when it is told to reload.
    sys.argv = ["dramatiq", "--skip-logging", *options]
    sys.exit(cli.main())


RUN: Final[Mapping[str, Callable[[list[str]], None]]] = {"granian": _granian, "dramatiq": _dramatiq}
