"""How a process is started without one of the service's guards: what `broken/sitecustomize.py` is told."""

from __future__ import annotations

from pathlib import Path

_BROKEN = Path(__file__).parent / "broken"


def without(*names: str) -> dict[str, str]:
    """What a process has in its environment when it starts without these guards."""
    return {"PYTHONPATH": str(_BROKEN), "KONGFLOW_TEST_WITHOUT": ",".join(names)}
