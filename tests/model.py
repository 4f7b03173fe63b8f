"""What the service promises, over dictionaries: the machine of test_model holds the database against this.

It is written from the guarantees, and knows no statement of SQL. Time is in whole hours; rows are named by what they are
for: an event by its record's id, an invocation by `event/dispatcher`. What depends on chance or on a second more or less
(a pause, a next hint) is None until `adopt` has read it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

LIMITS: Final = {"deliver": 5, "invoke": 6, "post": 10}
# Hints without progress from which on a row is taken alone.
SUSPECT: Final = 6
# Seconds that a target may put its next try off.
LONGEST_WISH: Final = 3600
LOST: Final = "worker lost"
BROKEN: Final = "it broke"
NOWHERE: Final = "nowhere"

# What a transaction of a worker may come to: it commits, it fails, or its worker is killed before it.
GOES, BREAKS, DIES = "goes", "breaks", "dies"


@dataclass
class Event:
    """An event, whose payload is {"n": n}."""

    environment: str
    n: int
    due: int
    delivered: bool = False
    cancelled: bool = False


@dataclass
class Dispatcher:
    """A rule: events with the n it wants (None: any) start `runs` jobs (None: its target is missing), or call a URL.

    A URL that asked for it is not called until the hour `rests`, unless the rule is for one call only.
    """

    environment: str
    wants: int | None
    runs: int | None = 0
    url: str | None = None
    one_shot: bool = False
    expires: int | None = None
    enabled: bool = True
    rests: int = -1


@dataclass
class Owed:
    """A row of the outbox. `pause`: the most seconds that its due time, still None, may be ahead."""

    kind: str
    due: int | None
    hint: int | None
    pause: float = 0.0
    attempts: int = 0
    hints: int = 0
    holder: object = None
    lease: int = -1
    dead: bool = False


@dataclass
class Invocation:
    """One event for one dispatcher. `holds` says that its one-shot dispatcher waits for it."""

    event: str
    dispatcher: str
    kind: str
    holds: bool
    status: str = "PENDING"
    reason: str | None = None
    attempts: int = 0
    round: int = 0


@dataclass
class Step:
    """What the next transaction of a worker comes to, and what a URL would answer it."""

    outcome: str = GOES
    answers: int = 200
    asks: str | None = None


Program = Generator[None, Step, None]


@dataclass
class Model:
    """The state, and the verbs that change it."""

    now: int = 0
    events: dict[str, Event] = field(default_factory=dict)
    dispatchers: dict[str, Dispatcher] = field(default_factory=dict)
    owed: dict[str, Owed] = field(default_factory=dict)
    invocations: dict[str, Invocation] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    ledger: dict[str, str] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # For each call that ended: the rows of its lane of which one was hinted; `adopt` reads which.
    following: list[dict[str, Owed]] = field(default_factory=list)

    # Verbs of a sender ------------------------------------------------------------------------------------------------

    def send(self, record: str, environment: str, n: int, delay: int) -> None:
        """An event of this record's id is sent, for the first time or again."""
        event = self.events.get(record)
        if event is None:
            self.events[record] = Event(environment, n, self.now + delay)
        elif event.delivered or event.cancelled:
            return
        elif event.due > self.now:
            event.n, event.due = n, self.now + delay
        elif record in self.owed:
            return
        due = self.events[record].due
        self.owed[record] = Owed("deliver", due, max(due, self.now))

    def cancel(self, record: str) -> None:
        """The event is cancelled: it is not delivered any more, and a URL that nobody is calling now is not called."""
        event = self.events[record]
        if event.cancelled:
            return
        event.cancelled = True
        if not event.delivered:
            self.owed.pop(record, None)
        for name, invocation in self.invocations.items():
            row = self.owed.get(name)
            if invocation.event == record and row is not None and row.kind == "post" and row.lease <= self.now:
                del self.owed[name]
                self._end(name, "CANCELED", "event cancelled", invocation.attempts)

    def expired(self) -> list[str]:
        """The dispatchers whose time is over."""
        return [one for one, dispatcher in self.dispatchers.items() if (dispatcher.expires or math.inf) <= self.now]

    def leases_run_out(self) -> None:
        """Whoever works alone on a row has taken too long."""
        for row in self.owed.values():
            row.lease = min(row.lease, self.now)

    def dead(self) -> list[str]:
        """The dead letters: events' deliveries, and invocations."""
        ended = [name for name, one in self.invocations.items() if one.status == "DEAD"]
        return [name for name, row in self.owed.items() if row.dead] + ended

    def redrive(self, name: str) -> bool:
        """Give a dead letter new attempts; not one whose dispatcher would have it skipped, or waits for another event."""
        if name in self.owed:
            row = self.owed[name]
            self.owed[name] = Owed("deliver", row.due, self.now)
            return True
        if self._skipped(name):
            return False
        invocation = self.invocations[name]
        one_shot = self.dispatchers[invocation.dispatcher].one_shot
        if one_shot and self._is_waiting(invocation.dispatcher):
            return False
        invocation.status, invocation.reason, invocation.attempts, invocation.holds = "PENDING", None, 0, one_shot
        invocation.round += 1
        self.owed[name] = Owed(invocation.kind, self.now, self.now)
        return True

    # What the relay hints ---------------------------------------------------------------------------------------------

    def hint(self) -> dict[str, bool]:
        """Every row that is due for a hint, and whether it must be taken alone; each is put off."""
        due = {name: row for name, row in self.owed.items() if self._is_to_be_hinted(row) and not self._rests(name)}
        for row in due.values():
            row.hint = None
            row.hints += 1
        return {name: row.hints > SUSPECT for name, row in due.items()}

    def _is_to_be_hinted(self, row: Owed) -> bool:
        return not row.dead and row.hint is not None and row.hint <= self.now and row.lease <= self.now

    def _rests(self, name: str) -> bool:
        """Whether nobody calls the URL of this row now."""
        if self.owed[name].kind != "post":
            return False
        dispatcher = self.dispatchers.get(self.invocations[name].dispatcher)
        return dispatcher is not None and dispatcher.rests > self.now

    # What a worker does -----------------------------------------------------------------------------------------------

    def work(self, kind: str, names: Sequence[str], *, alone: bool) -> Program:
        """A worker with a message: stops before each of its transactions to be told what becomes of it."""
        if kind != "post" and not alone:
            step = yield
            if step.outcome == GOES:
                self._carry_out(kind, names, None)
            if step.outcome != BREAKS:
                return
        for name in names:
            lives = yield from (self._post(name) if kind == "post" else self._alone(kind, name))
            if not lives:
                return

    def _alone(self, kind: str, name: str) -> Generator[None, Step, bool]:
        """One row taken alone; whether the worker lives on."""
        if (yield).outcome != GOES:
            return False
        holder = self._claim(kind, name)
        if holder is None:
            return True
        row = self.owed[name]
        number = row.attempts
        step = yield
        if number > LIMITS[kind]:
            if step.outcome == GOES and self._holds(name, row, holder):
                self._bury(name, LOST, "lost")
            return step.outcome == GOES
        if step.outcome == GOES:
            self._carry_out(kind, [name], holder)
        elif step.outcome == BREAKS and (step := (yield)).outcome == GOES:
            self._failed(name, row, holder, number)
        return step.outcome == GOES

    def _failed(self, name: str, row: Owed, holder: object, number: int) -> None:
        if not self._holds(name, row, holder):
            return
        if number >= LIMITS[row.kind]:
            self._bury(name, BROKEN, "failed")
        else:
            self._postpone(name, number)
            self._note(name, number, "failed")

    def _post(self, name: str) -> Generator[None, Step, bool]:
        """One call; whether the worker lives on. A finish that fails ends it like a death: the row stays leased."""
        step = yield
        if step.outcome != GOES:
            return False
        holder = None if self._is_put_back(name) else self._claim("post", name)
        if holder is None:
            return True
        row, one = self.owed[name], self.invocations[name].dispatcher
        stays = one in self.dispatchers and not self.dispatchers[one].one_shot
        ending = self._ending(name, row.attempts)
        target = self._target(name)
        if ending is None and target != NOWHERE:
            self.calls[name] += 1
        if (yield).outcome != GOES:
            return False
        if self._holds(name, row, holder):
            self._finish(name, *ending) if ending else self._answered(name, row, step, target)
        if stays:
            self._follow(one)
        return True

    def _is_put_back(self, name: str) -> bool:
        """Whether the row's URL lets no call in; it keeps its place then."""
        if not (self._is_to_be_done("post", name) and self._rests(name)):
            return False
        if not self.dispatchers[self.invocations[name].dispatcher].enabled:
            return False
        self.owed[name].hint, self.owed[name].hints = self.owed[name].due, 0
        return True

    def _follow(self, one: str) -> None:
        """The end of a call hints one of those that wait for the same URL."""
        waiting = {
            name: row
            for name, row in self.owed.items()
            if row.kind == "post" and self.invocations[name].dispatcher == one and self._is_to_be_hinted(row)
        }
        if waiting and not any(self._rests(name) for name in waiting):
            self.following.append(waiting)

    def _answered(self, name: str, row: Owed, step: Step, target: str | None) -> None:
        if target == NOWHERE:
            self._finish(name, "DEAD", NOWHERE, "failed")
            return
        if step.answers == 200:
            self._finish(name, "SUCCEEDED", None, "succeeded")
            return
        dispatcher = self.dispatchers.get(self.invocations[name].dispatcher)
        if step.asks and dispatcher is not None and not dispatcher.one_shot:
            dispatcher.rests = self.now + 1
        if row.attempts >= LIMITS["post"]:
            self._finish(name, "DEAD", f"the target answered {step.answers}", "refused")
            return
        self._postpone(name, row.attempts, wish=LONGEST_WISH if step.asks else 0)
        self._note(name, row.attempts, "refused")

    def _ending(self, name: str, attempts: int) -> tuple[str, str, str | None] | None:
        """How a claimed call ends without being made: status, reason, and its line in the ledger."""
        if self.events[self.invocations[name].event].cancelled:
            return "CANCELED", "event cancelled", None
        if skipped := self._skipped(name):
            return "SKIPPED", skipped, None
        return ("DEAD", LOST, "lost") if attempts > LIMITS["post"] else None

    def _target(self, name: str) -> str | None:
        dispatcher = self.dispatchers.get(self.invocations[name].dispatcher)
        return dispatcher.url if dispatcher else None

    # Delivering and invoking ------------------------------------------------------------------------------------------

    def _carry_out(self, kind: str, names: Iterable[str], holder: object) -> None:
        for name in sorted(set(names)):
            if self._is_to_be_done(kind, name, holder):
                row = self.owed.pop(name)
                if kind == "deliver":
                    self._deliver(name, together=holder is None)
                else:
                    self._invoke(name, row.attempts + (holder is None))

    def _deliver(self, record: str, *, together: bool) -> None:
        event = self.events[record]
        for one, dispatcher in self.dispatchers.items():
            if dispatcher.environment == event.environment and self._hears(dispatcher, event):
                event.delivered = True
                self._invocation(record, one, dispatcher)
                if together and dispatcher.runs == 1 and not dispatcher.one_shot:
                    # A version of a job that exists: its run comes with the delivery.
                    del self.owed[f"{record}/{one}"]
                    self._invoke(f"{record}/{one}", 1)

    def _hears(self, dispatcher: Dispatcher, event: Event) -> bool:
        alive = dispatcher.enabled and (dispatcher.expires is None or dispatcher.expires > self.now)
        return alive and dispatcher.wants in (None, event.n)

    def _invocation(self, record: str, one: str, dispatcher: Dispatcher) -> None:
        name, kind = f"{record}/{one}", "post" if dispatcher.url else "invoke"
        if dispatcher.one_shot and self._is_waiting(one):
            reason = "superseded: an earlier event is pending for this one-shot dispatcher"
            self.invocations[name] = Invocation(record, one, kind, holds=False, status="SKIPPED", reason=reason)
        else:
            self.invocations[name] = Invocation(record, one, kind, holds=dispatcher.one_shot)
            self.owed[name] = Owed(kind, self.now, None)

    def _is_waiting(self, one: str) -> bool:
        return any(made.holds and made.dispatcher == one for made in self.invocations.values())

    def _invoke(self, name: str, attempts: int) -> None:
        dispatcher = self.dispatchers.get(self.invocations[name].dispatcher)
        if skipped := self._skipped(name):
            self._end(name, "SKIPPED", skipped, attempts)
        elif dispatcher is None or dispatcher.runs is None:
            self._end(name, "DEAD", NOWHERE, attempts)
            self._note(name, attempts, "missing")
        else:
            self._end(name, "SUCCEEDED", None, attempts)
            self.runs |= {name: dispatcher.runs} if dispatcher.runs else {}

    def _skipped(self, name: str) -> str | None:
        dispatcher = self.dispatchers.get(self.invocations[name].dispatcher)
        if dispatcher is None:
            return "the dispatcher was deleted"
        if not dispatcher.enabled:
            return "the dispatcher is disabled"
        return "the dispatcher has expired" if (dispatcher.expires or math.inf) <= self.now else None

    # Rows -------------------------------------------------------------------------------------------------------------

    def _is_to_be_done(self, kind: str, name: str, holder: object = None) -> bool:
        """Whether the row is there, due, and free or held by `holder`."""
        row = self.owed.get(name)
        if row is None or row.kind != kind or row.dead or row.due is None or row.due > self.now:
            return False
        return row.lease <= self.now or (holder is not None and row.holder is holder)

    def _claim(self, kind: str, name: str) -> object | None:
        if not self._is_to_be_done(kind, name):
            return None
        row = self.owed[name]
        row.attempts += 1
        row.lease = self.now + 1
        row.holder = object()
        return row.holder

    def _holds(self, name: str, row: Owed, holder: object) -> bool:
        return self.owed.get(name) is row and row.holder is holder

    def _postpone(self, name: str, number: int, wish: int = 0) -> None:
        old = self.owed[name]
        pause = max(1.2 * min(math.exp(min(number, 10)), 6 * 3600), wish)
        self.owed[name] = Owed(old.kind, None, None, pause=pause, attempts=number)

    def _finish(self, name: str, status: str, reason: str | None, outcome: str | None) -> None:
        number = self.owed.pop(name).attempts
        self._end(name, status, reason, number)
        if outcome:
            self._note(name, number, outcome)
        one = self.invocations[name].dispatcher
        if status == "SUCCEEDED" and one in self.dispatchers and self.dispatchers[one].one_shot:
            del self.dispatchers[one]

    def _bury(self, name: str, reason: str, outcome: str) -> None:
        row = self.owed[name]
        if row.kind == "deliver":
            row.dead, row.lease, row.holder = True, -1, None
            return
        del self.owed[name]
        self._end(name, "DEAD", reason, row.attempts)
        self._note(name, row.attempts, outcome)

    def _note(self, name: str, number: int, outcome: str) -> None:
        if name in self.invocations:
            self.ledger[f"{name}/{self.invocations[name].round}/{number}"] = outcome
            self.invocations[name].attempts = number

    def _end(self, name: str, status: str, reason: str | None, attempts: int) -> None:
        invocation = self.invocations[name]
        invocation.status, invocation.reason, invocation.attempts = status, reason, attempts
        invocation.holds = False

    # Against the database ---------------------------------------------------------------------------------------------

    def adopt(self, owed: dict[str, dict[str, Any]]) -> None:
        """Take over from the stored rows what is left to chance, within its bounds."""
        for waiting in self.following:
            self._adopt_following(waiting, owed)
        self.following.clear()
        for name, row in self.owed.items():
            if name not in owed:
                continue
            if row.due is None:
                assert owed[name]["due"] <= math.ceil(row.pause / 3600), "a pause is longer than it may be"
                row.due = self.now + owed[name]["due"]
            if row.hint is None and not row.dead:
                row.hint = self.now + owed[name]["hint"]

    def _adopt_following(self, waiting: dict[str, Owed], owed: dict[str, dict[str, Any]]) -> None:
        """Find out which of the rows was hinted; one that came to its turn since then tells nothing any more."""
        left = {name: row for name, row in waiting.items() if self.owed.get(name) is row}
        hinted = [row for name, row in left.items() if name in owed and owed[name]["hints"] == row.hints + 1]
        assert hinted or len(left) < len(waiting) or len(self.following) > 1, "the end of a call hinted nothing"
        for row in hinted[:1]:
            row.hints += 1
            row.hint = None

    def state(self) -> dict[str, Any]:
        """Everything, in the form in which the machine reads it from the database."""
        return {
            "events": {
                record: {"n": event.n, "due": self._ahead(event.due)}
                | {"delivered": event.delivered, "cancelled": event.cancelled}
                for record, event in self.events.items()
            },
            "owed": {
                name: {"kind": row.kind, "due": self._ahead(row.due), "attempts": row.attempts, "hints": row.hints}
                | {"hint": None if row.dead else self._ahead(row.hint), "dead": row.dead}
                | {"leased": row.lease > self.now}
                for name, row in self.owed.items()
            },
            "invocations": {
                name: {"status": one.status, "reason": one.reason, "attempts": one.attempts, "holds": one.holds}
                for name, one in self.invocations.items()
            },
            "runs": self.runs,
            "ledger": self.ledger,
            "dispatchers": {one: dispatcher.enabled for one, dispatcher in self.dispatchers.items()},
        }

    def _ahead(self, hour: int | None) -> int | None:
        return None if hour is None else max(0, hour - self.now)
