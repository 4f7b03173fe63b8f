"""Crash points: a process that is told to ends there, and nowhere else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kongflow_events import crashes, settings

PACKAGE = Path(crashes.__file__).parent
PASS_FOUR_TIMES = """
from kongflow_events import crashes
for number in range(4):
    crashes.point("deliver.after_commit")
    print(number, flush=True)
    crashes.point("deliver.before_commit")
"""


def passing(told: str) -> subprocess.CompletedProcess[str]:
    """A process that passes two points, four times each."""
    return subprocess.run(
        [sys.executable, "-c", PASS_FOUR_TIMES],
        env={"KONGFLOW_CRASH_AT": told, "PATH": "/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_process_ends_at_the_named_passing_of_the_named_point() -> None:
    ended = passing("deliver.before_commit:3")

    assert (ended.returncode, ended.stdout) == (crashes.EXIT, "0\n1\n2\n")
    assert ended.stderr == crashes.said("deliver.before_commit")


@pytest.mark.parametrize("told", ["", "deliver.before_commit:5", "post.after_call:1"])
def test_a_process_that_is_told_nothing_of_its_points_passes_them(told: str) -> None:
    assert (passing(told).returncode, passing(told).stdout) == (0, "0\n1\n2\n3\n")


@pytest.mark.parametrize("told", ["deliver.before_commit", "deliver.before_commit:0", "deliver.soon:1", "x", ":1"])
def test_a_point_that_does_not_exist_stops_the_start(told: str) -> None:
    with pytest.raises(settings.BadSettings, match="^KONGFLOW_CRASH_AT: "):
        settings.load({"KONGFLOW_CRASH_AT": told})


def test_every_point_is_passed_somewhere_and_no_other_is() -> None:
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    passed = set(re.findall(r'crashes\.point\("([\w.]+)"\)', source))

    assert passed == set(settings.CRASH_POINTS)
    assert all(settings.load({"KONGFLOW_CRASH_AT": f"{point}:1"}).crash_at for point in settings.CRASH_POINTS)
