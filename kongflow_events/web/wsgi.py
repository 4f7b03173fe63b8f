"""What granian serves: `granian --interface wsgi kongflow_events.web.wsgi:app`."""

from __future__ import annotations

import sys
from typing import Final

from kongflow_events import logs, settings
from kongflow_events.processes import stop_at_masters_death
from kongflow_events.store import db
from kongflow_events.web.app import create_app

# Nobody waits longer than this for one statement of a request.
_STATEMENT_SECONDS: Final = 3

try:
    _current = settings.current()
except settings.BadSettings as error:
    sys.exit(f"kongflow-events: {error}")

# An orphan would go on serving, and share the port with those that are started in its place.
stop_at_masters_death()
logs.configure()
db.connect(_current.database_url, _current.pool_size, statement_seconds=_STATEMENT_SECONDS)
app = create_app(_current)
