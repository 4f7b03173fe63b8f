"""The published JavaScript packages that the service is held against, at the versions of their lock."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent / "sdk"


class Script:
    """A script of the project as a process: it answers each line of JSON with another."""

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [_node(), name], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: Any) -> Any:
        """One line there, one line back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def asked(name: str, questions: Iterable[Any]) -> list[Any]:
    """What a script answers to many questions at once."""
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    told = subprocess.run([_node(), name], cwd=PROJECT, input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in told.stdout.splitlines()]


def file_of(path: str) -> str:
    """The text of a file of one of the packages."""
    _node()
    return (PROJECT / "node_modules" / path).read_text()


def _node() -> str:
    """Node.js; the packages are installed when one is missing."""
    node = shutil.which("node")
    assert node, "Node.js is missing: apt-get install -y nodejs npm"
    wanted = json.loads((PROJECT / "package.json").read_text())["dependencies"]
    if not all((PROJECT / "node_modules" / name).exists() for name in wanted):
        npm = shutil.which("npm")
        assert npm, "npm is missing: apt-get install -y nodejs npm"
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=PROJECT, check=True, capture_output=True)
    return node
