"""Python reads this at the start of every process whose PYTHONPATH leads here: it takes guards of the service away.

`KONGFLOW_TEST_WITHOUT` names them, with commas. What the harness does not notice without a guard, it does not prove.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel

from kongflow_events import matching, settings
from kongflow_events.broker.hints import RabbitmqHints
from kongflow_events.services import post, relay
from kongflow_events.store import db, events, outbox, posts

_LATE_CALLS = 8
_NEXT_HINT = "now() + LEAST(60, power(2, LEAST(hints, 6))) * interval '1 second'"


def _without(text: str, pattern: str, instead: str = "") -> str:
    """`text` without what matches; a pattern that matches nothing would break nothing, and prove nothing."""
    changed, count = re.subn(pattern, instead, text, flags=re.DOTALL)
    assert count, f"there is no {pattern} to take away"
    return changed


def fence() -> None:
    """A finish does not ask who holds the lease."""
    posts._FINISH, posts._POSTPONE = (
        db.Prepared(name, _without(statement.sql, r" AND token = %\(token\)s"))
        for name, statement in (("finish_post", posts._FINISH), ("postpone_post", posts._POSTPONE))
    )


def relay_off() -> None:
    """Nothing is hinted."""
    relay.Relay.tick = lambda _: 0  # type: ignore[method-assign, assignment]


def net() -> None:
    """The relay hints each row once, and never again: what is lost behind it stays lost."""
    oldest = _without(outbox._HINT_OLDEST.sql, re.escape(_NEXT_HINT), "'infinity'")
    outbox._HINT_OLDEST = db.Prepared("hint_oldest", oldest)
    outbox._HINT_LANES = _without(outbox._HINT_LANES, re.escape(_NEXT_HINT), "'infinity'")


def confirms() -> None:
    """Hints are published without waiting for the broker's word, and without the net that catches what that loses."""
    net()
    BlockingChannel.confirm_delivery = lambda _: None


def unique() -> None:
    """A send does not look whether its event is there; the scenario drops the constraint."""
    unguarded = _without(events._SEND.sql, r"ON CONFLICT \(event_id, environment_id\) DO UPDATE.*?(?=RETURNING)")
    events._SEND = db.Prepared("send_events", unguarded)


def depth() -> None:
    """Every queue looks empty, and as if a thousand workers took from it."""
    ask = RabbitmqHints.depth

    def empty(self: RabbitmqHints, queue_name: str) -> int:
        ask(self, queue_name)
        return 0

    RabbitmqHints.depth = empty  # type: ignore[method-assign]
    RabbitmqHints.consumers = lambda *_: 1000  # type: ignore[method-assign]


def lethal() -> None:
    """No guard: an event that kills each process that matches it."""
    match = matching.match

    def fatal(records: Any) -> Any:
        if any(record.name == "order.lethal" for record in records):
            os._exit(9)
        return match(records)

    matching.match = fatal  # type: ignore[assignment]


def late() -> None:
    """The first calls of a process are finished only when another has taken them over."""
    call, passed = post._try, itertools.count()

    def slow(claimed: Any) -> Any:
        number, came = next(passed), call(claimed)
        if number < _LATE_CALLS:
            # A call to /slow has taken a second already: the lease is over by then, and another one's call is under way.
            time.sleep(settings.current().post_timeout + post._TO_FINISH - 0.4)
        return came

    post._try = slow


_GUARDS = {
    "fence": fence,
    "relay": relay_off,
    "net": net,
    "confirms": confirms,
    "unique": unique,
    "depth": depth,
    "lethal": lethal,
    "late": late,
}
for _name in filter(None, os.environ.get("KONGFLOW_TEST_WITHOUT", "").split(",")):
    _GUARDS[_name]()
