"""What comes from outside: slow and refusing targets, poison, broken rows, slow clients: F19, F20, F23, F24, F26."""

from __future__ import annotations

import json
import socket
from http import HTTPStatus

from faults import front, guards
from faults.evidence import calls_in
from faults.run import Run
from faults.scenarios.registry import fault
from faults.world import POST_TIMEOUT
from kongflow_events.services import ingest
from kongflow_events.store import db
from tests import factory

_STALLED = 50
_MODES = ("500", "429", "410", "301", "reset")


@fault("F19", "URL targets that hang, drip, never end, or unpack to 50 MB", quick=True)
def slow_targets(run: Run) -> None:
    """Each call ends at its deadline, and other targets are called as ever."""
    hooks = {mode: run.add_hook(mode) for mode in ("hang", "drip", "huge", "gzip")}
    with run.load(4, bulk_every=0):
        run.pause(run.between(10, 30))
    longest = run.world.rows("SELECT coalesce(max(duration_ms), 0) FROM invocation_attempts")[0][0]
    run.measured["longest call, ms"] = float(longest)
    run.expect(float(longest) <= 1000 * (POST_TIMEOUT + 1), f"a call took {longest} ms")
    run.expect(longest, "the fault did not happen: no call was written down")
    for mode in ("hang", "drip"):
        run.withdraw(hooks[mode])


@fault("F20", "a URL target answers 500, 429, 410, 301, or resets, and recovers", quick=True)
def refusing_target(run: Run) -> None:
    """The schedule is kept, no redirect is followed, and each invocation is delivered once in the end."""
    rule = run.add_hook("switched")
    run.drain_bound = run.between(45, 240)
    with run.load(20, bulk_every=0):
        for mode in _MODES:
            run.world.switch_sink(mode)
            run.pause(run.between(1.2, 12))
    run.world.switch_sink("ok")
    run.world.within(run.drain_bound, "delivered after its recovery", lambda: run.world.owed() == 0)
    run.expect(not any("followed" in call.path for call in calls_in(run.world.sink_log)), "a redirect was followed")
    refused = [call.mode for calls in run.calls_to(rule).values() for call in calls if call.status != HTTPStatus.OK]
    run.expect(set(refused) == set(_MODES), f"the fault did not happen: calls were refused with {set(refused)} only")
    run.expect_schedule(rule)


@fault("F23", "poisoned messages, and answers and events that are poison", quick=True)
def poison(run: Run) -> None:
    """Queues keep moving, and what was rejected is counted exactly."""
    bad = [b"not json", b"{}", _envelope(options=None), _envelope(actor_name="nobody"), _envelope(kwargs=None)]
    rule = run.add_hook("nul")
    before = run.world.look("deliver.XQ")[0]
    with run.load(20):
        for body in bad * 4:
            run.world.node.publish("deliver", [body])
            run.pause(0.2)
        if run.full:
            _lethal(run)
    run.within(10, "every rejected message is kept", lambda: run.world.look("deliver.XQ")[0] == before + 4 * len(bad))
    run.withdraw(rule)


@fault("F24", "rows broken by hand: a filter, a target, a dispatcher deleted in mid-flight")
def broken_rows(run: Run) -> None:
    """Only what is broken fails, and says why."""
    broken, lost, gone = (run.add_ignored(label) for label in ("broken", "lost", "gone"))
    with run.load(20):
        run.pause(2)
        with db.unit():
            db.run('UPDATE event_dispatchers SET payload_filter = \'{"a": [{"$odd": 1}]}\' WHERE id = %s', (broken,))
            db.run(
                'UPDATE event_dispatchers SET dispatchable = \'{"type": "JOB_VERSION", "id": "none"}\' WHERE id = %s',
                (lost,),
            )
            db.run("DELETE FROM event_dispatchers WHERE id = %s", (gone,))
        run.pause(run.between(3, 10))
    reasons = run.world.rows(f"SELECT DISTINCT status, reason FROM invocations WHERE dispatcher_id = '{lost}'")
    run.expect(("DEAD", "its JOB_VERSION none does not exist") in reasons, f"a lost target ends as {reasons}")
    with db.unit():
        db.run("UPDATE event_dispatchers SET enabled = FALSE WHERE id IN (%s, %s)", (broken, lost))


@fault("F26", "fifty clients whose bodies stall")
def slow_clients(run: Run) -> None:
    """Behind a buffering proxy nobody notices; without one they hold up the API until they go away."""
    with front.Buffering(run.world.web_port) as proxy:
        with run.load(url=proxy.url):
            calm = run.stretch(4)
            stalled = [_stall(run, proxy.port) for _ in range(_STALLED)]
            during = run.stretch(run.between(5, 20))
        for client in stalled:
            client.close()
    run.expect_no_failed_request()
    run.expect_latency(calm, during, 2.0)
    stalled = [_stall(run, run.world.web_port) for _ in range(_STALLED)]
    run.pause(1)
    run.measured["direct: others are served"] = float(run.world.answers())
    for client in stalled:
        client.close()
    run.within(10, "served again when they are gone", run.world.answers)


def _envelope(**changes: object) -> bytes:
    whole = {
        "queue_name": "deliver",
        "actor_name": "deliver",
        "args": [[]],
        "kwargs": {},
        "options": {},
        "message_id": "1",
        "message_timestamp": 1,
    }
    return json.dumps({**whole, **changes}).encode()


def _lethal(run: Run) -> None:
    """An event that ends each process which matches it: a dead letter after five of them."""
    for name in ("worker-1", "worker-2"):
        run.world.processes.dress(name, **guards.without("lethal"))
    victim = factory.environment(f"victim-{run.seed}-{run.canary[-6:]}")
    with db.unit():
        record = ingest.ingest_send_event(victim, factory.event("order.lethal", id="lethal"))

    def buried() -> bool:
        found = run.world.rows(
            f"SELECT last_error FROM outbox WHERE subject_id = '{record.id}' AND died_at IS NOT NULL"
        )
        return found == [("worker lost",)]

    run.within(180, "a lethal event is a dead letter", buried)
    with db.unit():
        db.run("DELETE FROM outbox WHERE subject_id = %s", (record.id,))


def _stall(run: Run, port: int) -> socket.socket:
    """A client that says who it is, promises a body, and sends a part of it."""
    client = socket.create_connection(("127.0.0.1", port), 5)
    client.sendall(
        b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: Bearer "
        + run.tenant.key.encode()
        + b'\r\n\r\n{"event":'
    )
    return client
