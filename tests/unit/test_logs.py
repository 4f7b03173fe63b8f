"""What a process says of itself."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import structlog
from kongflow_events import logs
logs.configure()
log = structlog.get_logger("x")
log.debug("unheard")
log.info("one\\nline", kind="post")
try:
    secret = "tr_dev_secret"
    raise ValueError("why")
except ValueError:
    log.exception("failed")
"""


def test_one_fact_is_one_json_line_with_its_traceback_but_no_values() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, second = map(json.loads, said.stderr.splitlines())

    assert said.stdout == ""
    assert (first["event"], first["kind"], first["level"]) == ("one\nline", "post", "info")
    assert "ValueError: why" in second["exception"]
