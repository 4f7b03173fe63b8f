"""The console: pages at `/console` for the people who look after the service.

A page reads through `store.readers` and is drawn here on the server; a change calls a service, in one transaction with its
entry in the audit log. `door` lets people in and says what went wrong, `rendering` draws.
"""

from __future__ import annotations

from kongflow_events.console.app import mount

__all__ = ["mount"]
