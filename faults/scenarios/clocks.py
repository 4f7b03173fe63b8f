"""Clocks are set: F22. The database's clock is left alone, as it decides what is due."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from faults.processes import NAMES
from faults.run import Run
from faults.scenarios.registry import fault

_SOURCE = Path(__file__).parent.parent / "clock.c"
_STEPS = (-3600, 3600)
_DELIVERED = "SELECT count(*) FROM event_records WHERE delivered_at > now() - interval '0.5 second'"


@fault("F22", "the clocks of every process step by an hour, back and forth")
def clock_steps(run: Run) -> None:
    """Deliveries go on within three seconds of a step, and no retry comes early or late."""
    rule = run.add_hook("switched", quarters=frozenset({1}))
    # Its receiver takes no signature that is minutes off.
    run.add_webhook("ok", quarters=frozenset({2}))
    run.drain_bound = 60
    offset = _fake_clocks(run)
    with run.load():
        run.pause(2)
        for step in _STEPS:
            run.world.switch_sink("500")
            run.pause(1)
            _set(offset, step)
            run.within(3, f"deliveries after a step of {step} s", lambda: run.world.rows(_DELIVERED)[0][0])
            run.world.switch_sink("ok")
            run.pause(run.between(4, 10))
    run.within(run.drain_bound, "drained", lambda: run.world.owed() == 0)
    run.expect_schedule(rule)


def _fake_clocks(run: Run) -> Path:
    """Start every process with a clock that the returned file moves; raises CalledProcessError without a compiler."""
    library, offset = run.world.home / "clock.so", run.world.home / "offset"
    subprocess.run(["/usr/bin/cc", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
    _set(offset, 0)
    for name in NAMES:
        run.world.processes.dress(name, LD_PRELOAD=str(library), CLOCK_OFFSET_FILE=str(offset))
    run.world.wait_until_up()
    return offset


def _set(offset: Path, seconds: int) -> None:
    # In place: the processes look at these very bytes.
    with offset.open("r+b" if offset.exists() else "wb") as file:
        file.write(struct.pack("q", seconds))
