"""What processes say of themselves: one JSON object a line, or lines for people on a terminal.

The libraries' lines go the same way as ours. Neither secrets nor payloads belong into a log: tracebacks have no values,
and of an error's words only the first line, of a database's none that it quotes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any, Final, Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

# Where a worker of a server writes to is a pipe to its master: this is where its lines end up.
_STDERR: Final = 2
_LONGEST: Final = 500
# How PostgreSQL quotes a value that it does not like: `invalid input syntax for type uuid: "…"`.
_QUOTED: Final = re.compile(r': ".*')
# Words of strangers and of the database, which may be of many lines.
_SAID: Final = ("reason", "error")
# RabbitMQ's client tells each lost connection several times, with tracebacks; ours tells it once.
_SILENT: Final = ("pika",)


def configure(level: Level = "info", form: Format = "auto") -> None:
    """Send this process's log to stderr, from this level on; the libraries' from info on at most.

    `auto` is for people when stderr is a terminal, else JSON. NO_COLOR and FORCE_COLOR are heard.
    """
    console = os.isatty(_STDERR) if form == "auto" else form == "console"
    common: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_values,
    ]
    structlog.configure(
        processors=[*common, _renderer(console)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _take_over(common, console, max(logging.getLevelNamesMapping()[level.upper()], logging.INFO))


def _renderer(console: bool) -> structlog.typing.Processor:
    if console:
        return structlog.dev.ConsoleRenderer(
            colors=_coloured(), exception_formatter=structlog.dev.plain_traceback, force_colors=_coloured()
        )
    return structlog.processors.JSONRenderer(json.dumps, default=str)


def _coloured() -> bool:
    """As the two variables say, NO_COLOR first; a terminal has colours."""
    return not os.environ.get("NO_COLOR") and (bool(os.environ.get("FORCE_COLOR")) or os.isatty(_STDERR))


def _take_over(common: list[structlog.typing.Processor], console: bool, level: int) -> None:
    """Give the libraries' lines our form: uvicorn's, dramatiq's, apscheduler's, and those of whoever else says something."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(console)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _without_values(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make a traceback of an exception, and cut what others say."""
    raised = line.pop("exc_info", None)
    if raised:
        error = raised if isinstance(raised, BaseException) else (sys.exc_info() if raised is True else raised)[1]
        if error is not None:
            line["exception"] = "\n".join(_told(error))
    for key in _SAID:
        if key in line:
            line[key] = _QUOTED.sub(": …", _first_line(str(line[key])))
    return line


def _told(error: BaseException) -> Iterator[str]:
    """An exception and those it came of, the first one first, as Python tells them, but for their words."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before)
        yield ""
    yield "Traceback (most recent call last):"
    yield from ("".join(traceback.format_tb(error.__traceback__))).splitlines()
    yield f"{type(error).__module__}.{type(error).__qualname__}: {_words(error)}"


def _words(error: BaseException) -> str:
    said = _first_line(str(error))
    # Peewee wraps the driver's errors; the driver's know their code.
    is_of_database = hasattr(error, "pgcode") or hasattr(error, "orig") or hasattr(error.__context__, "pgcode")
    return _QUOTED.sub(": …", said) if is_of_database else said


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:_LONGEST]
