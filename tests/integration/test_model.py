"""Whatever happens, in whatever order: the database says what a dictionary of the promises says.

A machine sends, cancels, changes rules, lets time pass, loses and repeats hints, and holds slow workers between their
transactions, to let them go on too late, fail, or die. Workers are the actors themselves, their targets real sockets.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dramatiq
import pytest
import structlog
from dramatiq.brokers.stub import StubBroker
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kongflow_events import actors, errors, logs, schemas, words
from kongflow_events import settings as configuration
from kongflow_events.services import cancel, dispatchers, expire, ingest, redrive
from kongflow_events.services.relay import Relay
from kongflow_events.store import db
from tests import factory, receiver
from tests.model import BREAKS, BROKEN, DIES, GOES, LIMITS, NOWHERE, SUSPECT, Dispatcher, Model, Program, Step
from tests.receiver import Receiver
from tests.stepping import Killed, Worker, halting

_PASS = """
UPDATE outbox SET due_at = due_at - %(time)s::interval, hint_at = hint_at - %(time)s::interval,
                  lease_until = lease_until - %(time)s::interval;
UPDATE event_records SET deliver_at = deliver_at - %(time)s::interval;
UPDATE targets SET rests_until = rests_until - %(time)s::interval, failing_since = failing_since - %(time)s::interval;
UPDATE event_dispatchers SET expires_at = expires_at - %(time)s::interval;
"""

_FORGET = "DELETE FROM outbox; DELETE FROM event_records; DELETE FROM event_dispatchers"

_INDEX = st.integers(0, 7)
_TENANT = st.sampled_from([0, 0, 0, 1])
_ANSWER = st.sampled_from([(200, None), (500, None), (503, "31536000")])


class Hint(NamedTuple):
    """A message that nobody has taken yet."""

    kind: str
    ids: tuple[str, ...]
    alone: bool = False


class Hints:
    """A broker: keeps what it is given, in one heap; `away` makes it refuse."""

    def __init__(self) -> None:
        self.waiting: list[Hint] = []
        self.away = False

    def depth(self, queue_name: str) -> int:
        return 0

    def consumers(self, queue_name: str) -> int:
        return 2

    def publish(self, queue_name: str, messages: Sequence[words.HintBatch]) -> None:
        if self.away:
            raise errors.Retryable("no broker")
        self.waiting += [Hint(queue_name, batch.ids, batch.alone) for batch in messages]

    def offer(self, queue: str, ids: Sequence[str]) -> None:
        self.waiting.append(Hint(queue, tuple(ids)))


class Tenant(NamedTuple):
    """An environment and what its rules can set off, with how many runs that gives (None: it does not exist)."""

    environment: words.Environment
    targets: list[tuple[dict[str, Any], int | None]]


class Slow(NamedTuple):
    """A worker that stands between two transactions, and the model of it, which stands there too."""

    worker: Worker
    program: Program


def _when(holds: Callable[[Service], object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A step that does nothing while there is nothing to do it to.

    A precondition would let what is drawn depend on it, and it on chance: on which of two rows came first.
    """

    def decorate(step: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(step)
        def guarded(self: Service, **drawn: Any) -> None:
            if holds(self):
                step(self, **drawn)

        return guarded

    return decorate


class Service(RuleBasedStateMachine):
    """The service, and the model of it."""

    tenants: list[Tenant]
    receiver: Receiver

    def __init__(self) -> None:
        super().__init__()
        with db.unit():
            db.run(_FORGET)
        self.model = Model()
        self.hints = Hints()
        self.agrees = True
        self.slow: list[Slow] = []
        self.records: dict[tuple[int, str], str] = {}
        self.ids: dict[str, str] = {}
        self.receiver.calls.clear()
        broker = StubBroker(middleware=[])
        actors.declare(broker, self.hints)
        self.actors: dict[str, dramatiq.Actor[..., Any]] = {kind: broker.get_actor(kind) for kind in words.KINDS}

    # Senders and rules ------------------------------------------------------------------------------------------------

    @initialize(
        rules=st.lists(st.tuples(_TENANT, _INDEX), min_size=2, max_size=5),
        sent=st.lists(st.tuples(_TENANT, st.booleans()), max_size=3),
    )
    def a_day_begins(self, rules: list[tuple[int, int]], sent: list[tuple[int, bool]]) -> None:
        """There are rules, and events, some of which are delivered already."""
        for tenant, target in rules:
            self.somebody_begins_to_listen(tenant, target, None, None)
        for number, (tenant, delivered) in enumerate(sent):
            self.send(tenant, str(number), 1, 0)
            if delivered:
                record = self.records[tenant, str(number)]
                self._work_off(Hint("deliver", (record,)), alone=False, answer=(200, None))
        self.hints.waiting.clear()

    @rule(tenant=_TENANT, name=st.sampled_from("012"), n=st.integers(1, 2), delay=st.sampled_from([0, 0, 2]))
    def send(self, tenant: int, name: str, n: int, delay: int) -> None:
        environment = self.tenants[tenant].environment
        with db.unit():
            event = factory.event(id=name, payload=f'{{"n":{n}}}')
            sent = ingest.ingest_send_event(environment, event, schemas.SendOptions(deliver_after=delay * 3600 or None))
        record = self.records.setdefault((tenant, name), str(sent.id))
        self.model.send(record, str(environment.id), n, delay)

        kept = self.model.events[record]
        assert (str(sent.id), sent.payload) == (record, {"n": kept.n})
        assert (sent.delivered_at is not None, sent.cancelled_at is not None) == (kept.delivered, kept.cancelled)

    @rule(index=_INDEX)
    @_when(lambda self: self.records)
    def cancel(self, index: int) -> None:
        (tenant, name), record = _pick(self.records.items(), index)
        with db.unit():
            assert cancel.cancel_event(self.tenants[tenant].environment, name).cancelled_at is not None
        self.model.cancel(record)

    @rule(tenant=_TENANT, to=_INDEX, wants=st.sampled_from([None, 1]), expires=st.sampled_from([None, 3]))
    def somebody_begins_to_listen(self, tenant: int, to: int, wants: int | None, expires: int | None) -> None:
        environment, targets = self.tenants[tenant]
        target, runs = _pick(targets, to)
        one_shot = "url" in target and to % 2 == 0
        with db.unit():
            [clock] = db.rows("SELECT now() + %s * interval '1 hour' AS at", (expires,))
        columns = {"payload_filter": wants and {"n": [wants]}, "expires_at": clock["at"], "one_shot": one_shot}
        made = str(factory.dispatcher(environment, to=target, **columns))
        until = None if expires is None else self.model.now + expires
        self.model.dispatchers[made] = Dispatcher(
            str(environment.id), wants, runs, target.get("url"), one_shot, until, enabled=True
        )

    @rule(index=_INDEX, change=st.sampled_from(["enabled", "disabled", "deleted"]))
    @_when(lambda self: self.model.dispatchers)
    def a_rule_changes(self, index: int, change: str) -> None:
        one, dispatcher = _pick(self.model.dispatchers.items(), index)
        environment = next(tenant[0] for tenant in self.tenants if str(tenant[0].id) == dispatcher.environment)
        with db.unit():
            if change == "deleted":
                dispatchers.delete_event_dispatcher(environment, one)
                del self.model.dispatchers[one]
                return
            dispatcher.enabled, dispatcher.rests = change == "enabled", -1
            switched = schemas.DispatcherChange(enabled=dispatcher.enabled)
            dispatchers.update_event_dispatcher(environment, one, switched)

    @rule(index=_INDEX)
    @_when(lambda self: self.model.dead())
    def a_dead_letter_is_redriven(self, index: int) -> None:
        name = _pick(self.model.dead(), index)
        record = name.partition("/")[0]
        [(tenant, event)] = [sent for sent, known in self.records.items() if known == record]
        environment = self.tenants[tenant].environment
        redriven = self.model.redrive(name)
        with db.unit(), contextlib.nullcontext() if redriven else pytest.raises(errors.Conflict):
            if name == record:
                redrive.redrive_event(environment, event)
            else:
                redrive.redrive_invocation(environment, self._id(name))

    # Time -------------------------------------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 1, 24]), swept=st.booleans())
    def time_passes(self, hours: int, swept: bool) -> None:
        with db.unit():
            db.run(_PASS, {"time": f"{hours} hours"})
        self.model.now += hours
        over = self.model.expired() if swept else []
        with db.unit():
            assert (expire.expire_dispatchers() if swept else 0) == len(over)
        for one in over:
            del self.model.dispatchers[one]

    @rule(index=_INDEX, often=st.booleans())
    @_when(lambda self: self.model.owed)
    def a_row_grows_old(self, index: int, often: bool) -> None:
        """It was hinted in vain for long, or its last attempt comes next."""
        name, row = _pick(self.model.owed.items(), index)
        if often:
            row.hints = SUSPECT
        elif row.holder is None:
            row.attempts = LIMITS[row.kind] - 1
        with db.unit():
            db.run(
                "UPDATE outbox SET hints = %s, attempts = %s WHERE subject_id = %s",
                (row.hints, row.attempts, self._id(name)),
            )

    # The broker -------------------------------------------------------------------------------------------------------

    @rule(away=st.sampled_from([False, False, False, True]))
    @_when(lambda self: self.model.owed)
    def the_relay_ticks(self, away: bool) -> None:
        self.hints.away = away
        before = len(self.hints.waiting)
        Relay(self.hints, batch=100, high_water=100, places=100).tick()
        self.hints.away = False
        if not away:
            hinted = {one: hint.alone for hint in self.hints.waiting[before:] for one in hint.ids}
            assert hinted == {self._id(name): alone for name, alone in self.model.hint().items()}

    @rule(index=_INDEX, twice=st.booleans())
    @_when(lambda self: self.hints.waiting)
    def a_hint_is_lost_or_comes_twice(self, index: int, twice: bool) -> None:
        hint = _pick(self.hints.waiting, index)
        if twice:
            self.hints.waiting.append(hint)
        else:
            self.hints.waiting.remove(hint)

    # Workers ----------------------------------------------------------------------------------------------------------

    @rule(index=_INDEX, alone=st.booleans(), answer=_ANSWER)
    @_when(lambda self: self._messages())
    def a_worker_works(self, index: int, alone: bool, answer: tuple[int, str | None]) -> None:
        self._work_off(_pick(self._messages(), index), alone=alone, answer=answer)

    @rule(
        kind=st.sampled_from(words.KINDS),
        indexes=st.lists(_INDEX, min_size=1, max_size=3),
        alone=st.booleans(),
        answer=_ANSWER,
    )
    @_when(lambda self: self.model.events)
    def a_worker_gets_a_hint_out_of_nowhere(
        self, kind: words.Kind, indexes: list[int], alone: bool, answer: tuple[int, str | None]
    ) -> None:
        known = [*self.model.events, *self.model.invocations]
        ids = tuple(self._id(_pick(known, index)) for index in indexes)
        self._work_off(Hint(kind, ids), alone=alone, answer=answer)

    @rule(
        index=_INDEX,
        alone=st.sampled_from([True, True, False]),
        begins=st.sampled_from(["waits", "claims", "is overtaken", "is overtaken", None, None]),
        outcomes=st.sampled_from([[GOES], [GOES], [BREAKS], [BREAKS, GOES], [BREAKS, GOES], [DIES]]),
        answer=_ANSWER,
    )
    @_when(lambda self: self.slow or self._messages())
    def a_slow_worker_begins_or_goes_on(
        self, index: int, alone: bool, begins: str | None, outcomes: list[str], answer: tuple[int, str | None]
    ) -> None:
        """A worker stops before its first transaction or its second, when another may have its rows; or goes on."""
        if self._messages() and (not self.slow or (begins and len(self.slow) < 4)):
            self._begin(_pick(self._messages(), index), alone=alone, then=begins or "claims", answer=answer)
            return
        slow = _pick(self.slow, index)
        for outcome in outcomes:
            if slow in self.slow:
                self._go_on(slow, outcome, answer)

    # What has to be so ------------------------------------------------------------------------------------------------

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        with db.unit():
            found = {
                table: rows or {} for table, rows in json.loads(db.rows("SELECT everything()")[0]["everything"]).items()
            }
        self.ids = found.pop("names")
        self.model.adopt(found["owed"])
        for invocation in found["invocations"].values():
            invocation["reason"] = _told(invocation["reason"])

        self.agrees = False
        assert found == self.model.state()
        self._is_sound(found)
        self.agrees = True

    def _is_sound(self, found: dict[str, Any]) -> None:
        """What holds whatever the model says: nothing owed for what is finished, everything owed that is not."""
        owed, events = found["owed"], found["events"]
        pending = {name for name, one in found["invocations"].items() if one["status"] == "PENDING"}

        assert {name for name, row in owed.items() if row["kind"] != "deliver"} == pending
        assert all(not events[name]["delivered"] for name, row in owed.items() if row["kind"] == "deliver")
        assert all(found["invocations"][name]["status"] == "SUCCEEDED" for name in found["runs"])
        calls = [call.headers["webhook-id"] for call in self.receiver.calls]
        assert {one: calls.count(one) for one in calls} == {
            self._id(name): count for name, count in self.model.calls.items()
        }
        assert len({(call.headers["webhook-id"], call.body) for call in self.receiver.calls}) == len(set(calls))

    def teardown(self) -> None:
        """Every hint is lost and every worker killed; then everything that is owed is done, and nothing but that."""
        for slow in self.slow:
            slow.worker.kill()
        self.slow.clear()
        self.hints.waiting.clear()
        while self.agrees and any(not row.dead for row in self.model.owed.values()):
            self.time_passes(24, swept=False)
            self.the_relay_ticks(away=False)
            while self.hints.waiting:
                self.the_database_says_what_the_model_says()
                self._work_off(self.hints.waiting[0], alone=False, answer=(200, None))
            self.the_database_says_what_the_model_says()

    # Help -------------------------------------------------------------------------------------------------------------

    def _messages(self) -> list[Hint]:
        """Messages that the relay could send, and those that wait."""
        return [*(Hint(row.kind, (self._id(name),)) for name, row in self.model.owed.items()), *self.hints.waiting]

    def _work_off(self, hint: Hint, *, alone: bool, answer: tuple[int, str | None]) -> None:
        program = self._taken(hint, alone=alone)
        step = self._answering(GOES, answer)
        self.actors[hint.kind](list(hint.ids), hint.alone or alone)
        next(program)
        while not _goes_on(program, step):
            pass

    def _begin(self, hint: Hint, *, alone: bool, then: str, answer: tuple[int, str | None]) -> None:
        program = self._taken(hint, alone=alone)
        actor = self.actors[hint.kind]
        worker = Worker(lambda: actor(list(hint.ids), hint.alone or alone), transactions=True)
        next(program)
        self.slow.append(Slow(worker, program))
        if then != "waits":
            self._go_on(self.slow[-1], GOES, answer)
        if then == "is overtaken":
            with db.unit():
                db.run("UPDATE outbox SET lease_until = now() - interval '1 second' WHERE lease_until > now()")
            self.model.leases_run_out()
            self._work_off(hint, alone=alone, answer=answer)

    def _go_on(self, slow: Slow, outcome: str, answer: tuple[int, str | None]) -> None:
        """One transaction of a slow worker, and of the model of it."""
        step = self._answering(outcome, answer)
        slow.worker.step({GOES: None, BREAKS: RuntimeError(BROKEN), DIES: Killed()}[outcome])
        ended = _goes_on(slow.program, step)

        assert slow.worker.ended == ended
        assert isinstance(slow.worker.error, (type(None), Killed, RuntimeError)), slow.worker.error
        if ended:
            self.slow.remove(slow)

    def _taken(self, hint: Hint, *, alone: bool) -> Program:
        """The model of a worker that has this message now."""
        if hint in self.hints.waiting:
            self.hints.waiting.remove(hint)
        names = {one: name for name, one in self.ids.items()}
        return self.model.work(hint.kind, [names.get(one, one) for one in hint.ids], alone=hint.alone or alone)

    def _answering(self, outcome: str, answer: tuple[int, str | None]) -> Step:
        status, asks = answer
        self.receiver.answers = [receiver.status(status, **({"Retry_After": asks} if asks else {}))]
        return Step(outcome, status, asks)

    def _id(self, name: str) -> str:
        return self.ids.get(name, name)


def _pick(choices: Any, index: int) -> Any:
    listed = list(choices)
    return listed[index % len(listed)]


def _goes_on(program: Program, step: Step) -> bool:
    """Tell a worker's model what became of its transaction; whether that was the last."""
    try:
        program.send(step)
    except StopIteration:
        return True
    return False


def _told(reason: str | None) -> str | None:
    """A reason without what only one machine can know in it."""
    return NOWHERE if reason and ("does not exist" in reason or "absolute http" in reason) else reason


def _tenant(name: str, url: str) -> Tenant:
    environment = factory.environment(name)
    versions = [factory.job(environment, f"{name}-{slug}") for slug in ("one", "two")]
    trigger = factory.trigger(environment, *(version.job_id for version in versions))
    to_url, to_job = (factory.to_url(url), 0), (factory.to_job(versions[0]), 1)
    to_trigger = ({"type": words.DYNAMIC_TRIGGER, "id": str(trigger)}, 2)
    nowhere = [({"type": words.JOB_VERSION, "id": str(uuid.uuid4())}, None), (factory.to_url(NOWHERE), 0)]
    targets: list[tuple[dict[str, Any], int | None]] = [
        to_url,
        to_url,
        to_job,
        to_job,
        to_trigger,
        to_trigger,
        *nowhere,
    ]
    return Tenant(environment, targets)


@pytest.fixture
def service(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Service]]:
    """Makes machines on one database, which each of them empties."""
    with db.unit():
        db.run(Path(__file__).with_name("model.sql").read_text(encoding="utf-8"))
    # Many calls at once, and as many failures as may come: circuits and places have tests of their own.
    monkeypatch.setenv("KONGFLOW_TARGET_CONCURRENCY", "100")
    monkeypatch.setenv("KONGFLOW_CIRCUIT_FAILURES", "1000000")
    configuration.current.cache_clear()
    # Failures that are meant, by the thousand, need no traceback.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
    )
    with Receiver() as target, halting(monkeypatch):
        tenants = [_tenant(name, target.url) for name in ("alice", "bob")]
        yield type("Service", (Service,), {"tenants": tenants, "receiver": target})
    logs.configure()
    monkeypatch.undo()
    configuration.current.cache_clear()


def _check(service: Callable[[], Service], examples: int) -> None:
    budget = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(service, settings=budget)


def test_a_hundred_lives_of_the_service_go_as_promised(service: Callable[[], Service]) -> None:
    _check(service, 100)


@pytest.mark.slow
def test_two_thousand_lives_of_the_service_go_as_promised(service: Callable[[], Service]) -> None:
    _check(service, 2000)
