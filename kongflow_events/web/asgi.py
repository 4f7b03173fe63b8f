"""What the server's workers serve: an ASGI application, whatever this process needs included."""

from __future__ import annotations

import signal
from typing import Final

from kongflow_events import beats, memory, starting
from kongflow_events.processes import stop_at_masters_death
from kongflow_events.store import db, readers
from kongflow_events.web import leave
from kongflow_events.web.app import create_app
from kongflow_events.web.bridge import Bridge

# Nobody waits longer than this for one statement of a request.
_STATEMENT_SECONDS: Final = 3

_current = starting.begin_or_exit("web")
memory.share_one_heap()
is_leaving = leave.on_sigterm(_current.stop_grace)
# An orphan would go on serving, and keep the port from those that are started in its place: it goes at once.
stop_at_masters_death(signal.SIGINT)
db.connect(_current.database_url, _current.pool_size, statement_seconds=_STATEMENT_SECONDS)
readers.connect(_current.database_url, _current.console_timeout)
beats.begin("web")
# Half of the connections are for tasks, which must not find the pool empty, and one for the sign of life.
app = Bridge(create_app(_current, is_leaving), threads=max(_current.pool_size // 2 - 1, 1))
