"""What processes say of themselves: one JSON object a line, or lines for people on a terminal."""

from __future__ import annotations

import logging
import os
import sys

import structlog


def configure() -> None:
    """Send this process's log to stderr: JSON lines, or plain words when stderr is a terminal (NO_COLOR is honoured).

    Tracebacks are plain in both: values of variables do not belong into a log, since they may be payloads or keys.
    """
    terminal = sys.stderr.isatty()
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR"), exception_formatter=structlog.dev.plain_traceback
        )
        if terminal
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
