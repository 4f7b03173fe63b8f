"""The servers that processes run in, started so that their masters' lines go into the log in the form of all others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Final


def _granian(options: list[str]) -> None:
    from granian.cli import cli

    # Its workers are forked with its handlers, and a signal that comes before they have their own would be lost on them: the
    # process would serve on until it is killed, 25 s after it was asked to stop.
    os.register_at_fork(after_in_child=_end_when_asked)
    # It sets its loggers up from a file.
    with resources.as_file(resources.files(__package__) / "granian-logs.json") as plain:
        cli.main(["--log-config", str(plain), *options], prog_name="granian", auto_envvar_prefix="GRANIAN")


def _end_when_asked() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _dramatiq(options: list[str]) -> None:
    from dramatiq import cli

    # What it reads again when it is told to reload.
    sys.argv = ["dramatiq", "--skip-logging", *options]
    sys.exit(cli.main())


RUN: Final[Mapping[str, Callable[[list[str]], None]]] = {"granian": _granian, "dramatiq": _dramatiq}
