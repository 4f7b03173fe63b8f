"""How each long-lived process begins, whatever it is: what it says, counts and traces goes where the settings want it."""

from __future__ import annotations

import sys

from kongflow_events import gathering, logs, settings, traces


def begin(current: settings.Settings, process: str) -> None:
    """Set up this `process` (web, worker …). Raises BadSettings when the folder of its numbers, or traces, cannot be had."""
    logs.configure(current.log_level, current.log_format)
    gathering.gather(current)
    traces.begin(current, process)


def begin_or_exit(process: str) -> settings.Settings:
    """The same where a server has called, which knows no BadSettings: they end the process with one line."""
    try:
        current = settings.current()
        begin(current, process)
    except settings.BadSettings as error:
        sys.exit(f"kongflow-events: {error}")
    return current
