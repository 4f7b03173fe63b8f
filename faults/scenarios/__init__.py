"""The faults, one short function each: do it under load, and say what has to be true besides the invariants."""

from __future__ import annotations

from faults.scenarios import broker, clocks, database, processes, registry, retention, targets
from faults.scenarios.registry import Fault

FAULTS: dict[str, Fault] = dict(sorted(registry.FAULTS.items(), key=lambda one: int(one[0][1:])))

__all__ = ["FAULTS", "Fault", "broker", "clocks", "database", "processes", "retention", "targets"]
