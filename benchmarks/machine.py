"""What the machine did meanwhile: processor time by group of processes, what was taken by others, memory at its peak."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from faults.machines import peak_memory, resident_memory

_TICKS = os.sysconf("SC_CLK_TCK")


class _Process(NamedTuple):
    parent: int
    own: int
    # What its children used that have ended by now.
    inherited: int


class Clock:
    """Looks at all processor time when it is made; `passed` says what was used since."""

    def __init__(self, leaders: Mapping[str, int]) -> None:
        """`leaders` are the process ids of the groups; a group is a leader and all that it started."""
        self._leaders = leaders
        self._began = time.monotonic()
        self._groups = _groups(leaders)
        self._busy, self._stolen = _machine()

    def passed(self, known: float = 0.0) -> Used:
        """What was used since. `known` are seconds of the harness's own that no group counts."""
        seconds = time.monotonic() - self._began
        busy, stolen = _machine()
        now = _groups(self._leaders)
        groups = {name: max(0.0, now[name] - self._groups[name]) for name in now}
        others = max(0.0, busy - self._busy - sum(groups.values()) - known)
        return Used(groups, round(others / seconds, 3), round((stolen - self._stolen) / seconds, 3), seconds)


class Used(NamedTuple):
    """Processor seconds by group; cores taken by others and by the hypervisor, on average; seconds that passed."""

    groups: dict[str, float]
    foreign: float
    stolen: float
    seconds: float

    def per_thousand(self, count: int) -> dict[str, float]:
        """Processor seconds for 1,000 of what was done `count` times."""
        return {name: round(1000 * used / count, 3) for name, used in self.groups.items()}

    def outside(self) -> dict[str, float]:
        """What was not ours."""
        return {"foreign cores": self.foreign, "stolen cores": self.stolen}


def peaks(leaders: Mapping[str, int]) -> dict[str, float]:
    """The most memory in MB that the largest process of each group has had."""
    return _largest(leaders, peak_memory)


def resident(leaders: Mapping[str, int]) -> dict[str, float]:
    """The memory in MB that the largest process of each group has now."""
    return _largest(leaders, resident_memory)


def _largest(leaders: Mapping[str, int], memory: Callable[[int], float]) -> dict[str, float]:
    processes = _processes()
    return {name: max(map(memory, _family(leader, processes))) for name, leader in leaders.items()}


def state() -> dict[str, object]:
    """The machine as it is now, for whoever reads the figures."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "cpus": os.cpu_count(),
        "model": model.partition(": ")[2],
        "load": [round(one, 2) for one in os.getloadavg()],
        "kernel": os.uname().release,
    }


def own_seconds() -> float:
    """Processor seconds of this process and of those of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _groups(leaders: Mapping[str, int]) -> dict[str, float]:
    processes = _processes()
    return {
        name: sum(processes[pid].own + processes[pid].inherited for pid in _family(leader, processes)) / _TICKS
        for name, leader in leaders.items()
    }


def _family(leader: int, processes: Mapping[int, _Process]) -> list[int]:
    found = [leader] if leader in processes else []
    for one in found:
        found += [pid for pid, process in processes.items() if process.parent == one]
    return found


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        user, system, children_user, children_system = map(int, fields[11:15])
        found[int(entry.name)] = _Process(int(fields[1]), user + system, children_user + children_system)
    return found


def _machine() -> tuple[float, float]:
    """Seconds that the machine's processors were busy, and that they were kept from it."""
    user, nice, system, _, _, interrupt, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + interrupt + soft) / _TICKS, stolen / _TICKS
