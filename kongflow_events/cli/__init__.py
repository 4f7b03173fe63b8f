"""The `kongflow-events` command: processes to run, environments and keys to make, and the API from a shell.

Exit codes: 0 fine, 1 failed, 2 usage, 3 nothing matched, 4 service or database unreachable, 5 warnings (`doctor`),
130 interrupted.
"""

from __future__ import annotations

from kongflow_events.cli.main import main

__all__ = ["main"]
