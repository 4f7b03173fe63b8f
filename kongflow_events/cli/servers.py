"""The servers that processes run in, started so that their masters' lines go into the log in the form of all others."""

from __future__ import annotations

import sys

from kongflow_events import logs, settings


def web(host: str, port: int | None, workers: int) -> None:
    """Run the web server, at PORT's port unless another is given."""
    from kongflow_events.web import server

    current = _begin()
    server.serve(host, port or current.port, workers)


def dramatiq(options: list[str]) -> None:
    """Run the workers' server with these options of its own."""
    from dramatiq import cli

    _begin()
    # What it reads again when it is told to reload.
    sys.argv = ["dramatiq", "--skip-logging", *options]
    sys.exit(cli.main())


def _begin() -> settings.Settings:
    # Here a bad setting stops the start with one line; in the server's own processes it would try again and again.
    current = settings.current()
    logs.configure(current.log_level, current.log_format)
    return current
