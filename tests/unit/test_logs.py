"""What a process says of itself."""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes import ROOT

PROGRAM = """
import sys
import logging, structlog
from kongflow_events import logs
logs.configure(*sys.argv[1:])
log = structlog.get_logger("x")
log.debug("unheard")
log.info("one\\nline", kind="post")
try:
    secret = "tr_dev_secret"
    raise ValueError("why\\nCONTEXT: a payload")
except ValueError:
    log.exception("failed")
logging.getLogger("apscheduler").warning("a library's %s", "line")
logging.getLogger("apscheduler").debug("unheard")
logging.getLogger("pika").error("unheard")
"""
OF_DATABASE = """
import psycopg2, structlog, sys
from kongflow_events import logs, models
from kongflow_events.store import db
logs.configure()
db.connect(sys.argv[1])
for statement in ("SELECT %s::uuid", "SELECT %s::jsonb", "INSERT INTO api_keys (prefix) VALUES (%s)"):
    try:
        with db.unit():
            db.rows(statement, ("canary",))
    except Exception as error:
        structlog.get_logger().error("failed", exc_info=error, reason=error)
"""


LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def events(source: str) -> Iterator[str]:
    """What a module says in its log, as far as it stands there."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("log"), attr=level), args=[event, *_]) if level in LEVELS:
                yield from texts(event)
            case ast.Call(func=ast.Name("_end" | "say"), args=[event, *_]):
                yield from texts(event)


def texts(event: ast.expr) -> Iterator[str]:
    """What an expression may say, where it is a text or a choice between texts."""
    match event:
        case ast.Constant(str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from texts(one)
            yield from texts(other)


def said(*levels: str, **environ: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *levels],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **environ},
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def on_a_terminal(**environ: str) -> str:
    """What the program writes to a terminal."""
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_COLOR")} | environ
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=theirs, check=True, cwd=ROOT, env=environ)
    os.close(theirs)
    return b"".join(_until_it_is_closed(ours)).decode()


def _until_it_is_closed(descriptor: int) -> Iterator[bytes]:
    try:
        while part := os.read(descriptor, 65_536):
            yield part
    except OSError:
        # So ends a terminal whose other side is gone.
        os.close(descriptor)


def test_one_fact_is_one_json_line_with_its_traceback_but_no_values() -> None:
    first, second, third = map(json.loads, said())

    assert (first["event"], first["kind"], first["level"]) == ("one\nline", "post", "info")
    assert second["exception"].splitlines()[-1] == "builtins.ValueError: why"
    assert "tr_dev_secret" not in second["exception"]
    assert third["event"] == "a library's line"


def test_a_librarys_line_has_the_fields_of_ours() -> None:
    ours, _, theirs = map(json.loads, said())

    assert set(ours) - {"kind"} == {"event", "level", "timestamp"} == set(theirs) - {"logger"}
    assert (theirs["level"], theirs["logger"]) == ("warning", "apscheduler")


@pytest.mark.parametrize(("level", "events"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_it_says_what_is_of_its_level_or_above(level: str, events: int) -> None:
    assert len(said(level)) == events


def test_on_a_terminal_it_speaks_to_people_in_colour() -> None:
    written = on_a_terminal()

    assert "\x1b[" in written
    assert "kind" in written
    assert "ValueError: why" in written
    assert "CONTEXT" not in written


def test_no_color_takes_the_colour_away_and_wins() -> None:
    assert "\x1b[" not in on_a_terminal(NO_COLOR="1")
    assert "\x1b[" not in on_a_terminal(NO_COLOR="1", FORCE_COLOR="1")


def test_off_a_terminal_a_setting_asks_for_lines_for_people_and_force_color_for_their_colour() -> None:
    assert "\x1b[" not in "".join(said("info", "console"))
    assert "\x1b[" in "".join(said("info", "console", FORCE_COLOR="1"))
    assert json.loads(said("info", "json", FORCE_COLOR="1")[0])["event"] == "one\nline"


def test_of_what_the_database_says_no_value_is_repeated(database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OF_DATABASE, database], capture_output=True, text=True, check=True, cwd=ROOT
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert len(lines) == 3
    assert "canary" not in done.stderr
    assert "invalid input syntax for type uuid: …" in lines[0]["exception"]
    assert 'null value in column "environment_id"' in lines[2]["exception"]


def test_the_page_of_the_logs_has_every_event() -> None:
    page = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    modules = [path.read_text(encoding="utf-8") for path in (ROOT / "kongflow_events").rglob("*.py")]
    known = {event for module in modules for event in events(module)}

    assert {"request", "dead letter", "event stored", "cannot show a page now"} <= known
    assert [event for event in sorted(known) if f"`{event}`" not in page] == []
