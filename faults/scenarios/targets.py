"""What comes from outside: slow and refusing targets, poison, broken rows, slow clients: F19, F20, F23, F24, F26."""

from __future__ import annotations

import json
import socket
import time
from http import HTTPStatus

from faults import front, guards
from faults.evidence import Rule, calls_in
from faults.run import Run
from faults.scenarios.registry import fault
from faults.world import POST_TIMEOUT
from kongflow_events.services import ingest
from kongflow_events.store import db
from tests import factory

_STALLED = 50
# A 429 asks for a rest, in which no other answer is met: it comes last.
_MODES = ("500", "410", "301", "reset", "429")
_GONE = "the target answered 410"
_UNSEALED = "the webhook's secret cannot be decrypted: no key in KONGFLOW_SECRET_KEY fits it"
# Seconds that a call may go on after its target was disabled or its circuit opened, and what a webhook asks for in F19.
_UNDER_WAY, _IMPATIENT = 1.0, 1
# Seconds between an event and its call to a healthy target, in the 99th percentile, beside targets that are not.
_PROMPT = 0.5
_UNTIL_CALLED = """
SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM COALESCE(first.call, now()) - events.created_at))
  FROM invocations JOIN event_records AS events ON events.id = event_record_id
 CROSS JOIN LATERAL (SELECT min(started_at) AS call FROM invocation_attempts WHERE invocation_id = invocations.id) AS first
 WHERE dispatcher_id = '{}'
"""


@fault("F19", "URL targets that hang, drip, never end, unpack to 50 MB, or speak no TLS", quick=True)
def slow_targets(run: Run) -> None:
    """Each call ends at its deadline, a webhook's at its own, and other targets are called as ever."""
    hooks = {mode: run.add_hook(mode) for mode in ("hang", "drip", "huge", "gzip")}
    impatient = run.add_webhook("hang", timeoutInSeconds=_IMPATIENT)
    run.add_webhook("ok")
    mute = run.add_hook("mute", scheme="https")
    with run.load(4, bulk_every=0):
        run.pause(run.between(10, 30))
    longest = run.world.rows("SELECT coalesce(max(duration_ms), 0) FROM invocation_attempts")[0][0]
    run.measured["longest call, ms"] = float(longest)
    run.expect(float(longest) <= 1000 * (POST_TIMEOUT + 1), f"a call took {longest} ms")
    run.expect(longest, "the fault did not happen: no call was written down")
    own = run.world.number(
        "SELECT coalesce(max(duration_ms), 0) FROM invocation_attempts JOIN invocations ON id = invocation_id"
        f" WHERE dispatcher_id = '{impatient.dispatcher_id}'"
    )
    run.measured["longest call of a webhook with 1 s, ms"] = own
    run.expect(0 < own <= 1000 * (_IMPATIENT + 1), f"a call of a webhook that allows {_IMPATIENT} s took {own:g} ms")
    healthy = [rule for rule in run.tenant.rules if rule.path.startswith("/ok/")]
    assert healthy
    run.measured["until healthy targets are called, s"] = late = max(
        run.world.number(_UNTIL_CALLED.format(rule.dispatcher_id)) for rule in healthy
    )
    run.expect(late <= _PROMPT, f"a call took {late:.1f} s to come to a healthy target")
    _expect_no_handshake(run, mute)
    for rule in (hooks["hang"], hooks["drip"], impatient, mute):
        run.withdraw(rule)


@fault("F20", "a URL target answers 500, 429, 410, 301, or resets, and recovers", quick=True)
def refusing_target(run: Run) -> None:
    """The schedule is kept, no redirect is followed, and each invocation is delivered once in the end.

    A webhook beside it is disabled by its first 410. At last a target fails for so long that its circuit opens.
    """
    rule = run.add_hook("switched")
    webhook = run.add_webhook("switched")
    # It hears of no event after its end, so the invariants, which would ask for them, leave it to `_expect_given_up`.
    run.tenant.rules.remove(webhook)
    run.ignored.add(webhook.dispatcher_id)
    run.add_webhook("ok")
    run.drain_bound = run.between(45, 240)
    with run.load(20, bulk_every=0):
        for mode in _MODES:
            run.world.switch_sink(mode)
            asked_at, _ = run.stretch(run.between(1.2, 12))
    run.world.switch_sink("ok")
    waiting = (
        f"SELECT count(*) FROM outbox WHERE lane = '{rule.dispatcher_id}' AND due_at < now() - interval '1 second'"
    )
    run.within(30, "caught up after its rest", lambda: run.world.number(waiting) == 0)
    rest = asked_at, time.time()
    run.world.within(run.drain_bound, "delivered after its recovery", lambda: run.world.owed() == 0)
    run.expect(not any("followed" in call.path for call in calls_in(run.world.sink_log)), "a redirect was followed")
    refused = [call.mode for calls in run.calls_to(rule).values() for call in calls if call.status != HTTPStatus.OK]
    run.expect(set(refused) == set(_MODES), f"the fault did not happen: calls were refused with {set(refused)} only")
    run.expect_schedule(rule, rest)
    _expect_given_up(run, webhook)
    _circuit(run, rule)


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
    unsealed = run.add_webhook("ok", frozenset({2}))
    run.add_webhook("slow")
    # What failed while its secret was broken is tried again with growing pauses.
    run.drain_bound = run.between(45, 120)
    with run.load(20):
        run.pause(2)
        with db.unit():
            db.run('UPDATE event_dispatchers SET payload_filter = \'{"a": [{"$odd": 1}]}\' WHERE id = %s', (broken,))
            db.run(
                'UPDATE event_dispatchers SET dispatchable = \'{"type": "JOB_VERSION", "id": "none"}\' WHERE id = %s',
                (lost,),
            )
            db.run("DELETE FROM event_dispatchers WHERE id = %s", (gone,))
            [whole] = db.rows("SELECT sealed FROM webhook_secrets WHERE dispatcher_id = %s", (unsealed.dispatcher_id,))
            _seal(unsealed, b"no box that a key could open")
        run.pause(run.between(3, 10))
    reasons = run.world.rows(f"SELECT DISTINCT status, reason FROM invocations WHERE dispatcher_id = '{lost}'")
    run.expect(("DEAD", "its JOB_VERSION none does not exist") in reasons, f"a lost target ends as {reasons}")
    run.within(20, "calls fail for want of a secret", lambda: _failed(run))
    failed = _failed(run)
    run.expect(failed == [(unsealed.dispatcher_id, _UNSEALED)], f"a secret that no key opens fails as {failed}")
    with db.unit():
        db.run("UPDATE event_dispatchers SET enabled = FALSE WHERE id IN (%s, %s)", (broken, lost))
        _seal(unsealed, whole["sealed"])


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


def _expect_no_handshake(run: Run, rule: Rule) -> None:
    """What does not speak TLS is told nothing: each attempt ends as unreachable, and says why."""
    ends = run.world.rows(
        "SELECT DISTINCT outcome, error FROM invocation_attempts JOIN invocations ON id = invocation_id"
        f" WHERE dispatcher_id = '{rule.dispatcher_id}'"
    )
    run.expect(ends, "the fault did not happen: no call without TLS was written down")
    wrong = [end for end in ends if end[0] != "unreachable" or "SSL" not in end[1]]
    run.expect(not wrong, f"calls without a handshake ended as {wrong}")
    run.expect(not run.calls_to(rule), "an event was told to a target without TLS")


def _expect_given_up(run: Run, webhook: Rule) -> None:
    """A webhook's 410 disabled it, and nothing else: what it met is dead, what still waited for it is skipped."""
    disabled = run.world.rows(
        "SELECT id, disabled_reason, extract(epoch FROM disabled_at) FROM event_dispatchers"
        " LEFT JOIN targets ON dispatcher_id = id"
        f" WHERE NOT enabled AND environment_id = '{run.tenant.environment.id}'"
    )
    run.expect([row[:2] for row in disabled] == [(webhook.dispatcher_id, _GONE)], f"disabled are {disabled}")
    ends = run.world.rows(
        f"SELECT DISTINCT status, reason FROM invocations WHERE dispatcher_id = '{webhook.dispatcher_id}'"
    )
    wanted = {("DEAD", _GONE), ("SKIPPED", "the dispatcher is disabled")}
    run.expect(set(ends) == wanted, f"a webhook that is gone leaves {ends}")
    calls = [call for tries in run.calls_to(webhook).values() for call in tries]
    run.expect(all(call.verified for call in calls), "I13: a call of the webhook that is gone is not signed")
    late = [call for call in calls for row in disabled if call.at > float(row[2]) + _UNDER_WAY]
    run.expect(not late, f"{len(late)} calls of a webhook began after its end")


def _circuit(run: Run, rule: Rule) -> None:
    """An open circuit lets probes through and nothing else, so that what waits uses up no attempt; then it closes."""
    run.world.processes.dress("poster", KONGFLOW_CIRCUIT_FAILURES="5")
    run.world.switch_sink("500")
    lane = f"dispatcher_id = '{rule.dispatcher_id}'"
    used = f"SELECT coalesce(sum(attempts), 0) FROM invocations WHERE status = 'PENDING' AND {lane}"
    with run.load(20, bulk_every=0):
        run.within(
            30, "a circuit opens", lambda: run.world.rows(f"SELECT FROM targets WHERE opened_at IS NOT NULL AND {lane}")
        )
        run.pause(_UNDER_WAY)
        before = run.world.number(used)
        run.pause(run.between(5, 30))
        # Each pause but the first is one more probe; another may be under way.
        after, probes = run.world.number(used), run.world.number(f"SELECT pauses FROM targets WHERE {lane}")
    run.measured["attempts while a circuit was open"] = after - before
    run.expect(after - before <= probes, f"{after - before:g} attempts were used up in {probes:g} pauses of a circuit")
    run.world.switch_sink("ok")
    run.within(run.drain_bound, "delivered after its circuit", lambda: run.world.owed() == 0)
    closed = run.world.rows(f"SELECT opened_at, failures FROM targets WHERE {lane}")
    run.expect(closed == [(None, 0)], f"after its recovery a target stands as {closed}")


def _failed(run: Run) -> list[tuple[object, ...]]:
    """Which dispatchers have calls that failed on our side, and why."""
    return run.world.rows(
        "SELECT DISTINCT dispatcher_id, error FROM invocation_attempts JOIN invocations ON id = invocation_id"
        f" WHERE environment_id = '{run.tenant.environment.id}' AND outcome = 'failed'"
    )


def _seal(webhook: Rule, sealed: bytes) -> None:
    db.run("UPDATE webhook_secrets SET sealed = %s WHERE dispatcher_id = %s", (sealed, webhook.dispatcher_id))


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
