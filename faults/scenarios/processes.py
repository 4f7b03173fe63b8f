"""Processes are killed, stopped and started: F1 to F5, F21, F27, and the matrix of crash points."""

from __future__ import annotations

import signal
import time

from faults import front, guards
from faults.processes import NAMES
from faults.run import Run
from faults.scenarios.registry import fault
from faults.world import POST_LEASE
from kongflow_events.settings import CRASH_POINTS
from tests.processes import procfile
from tests.servers import free_port

# Which process passes a crash point.
_WHO = {"ingest": "web", "relay": "scheduler-1", "deliver": "worker-1", "invoke": "worker-1", "post": "poster"}
_PASSINGS = (1, 2, 7)
_GROUP_BACK = 10.0
# Seconds that a process of the API which is to stop goes on serving: enough for several looks of the proxy.
_STOP_GRACE = "3"


@fault("F1", "kill -9 of the API at each crash point, then at random", quick=True)
def web_killed(run: Run) -> None:
    """Clients try again with the same id, and get the same event."""
    with run.load(bulk_every=5):
        for nth in run.between_all((2,), _PASSINGS):
            run.crash("web", "ingest.before_commit", nth)
            run.crash("web", "ingest.after_commit", nth)
        _kill_children(run, "web", run.between(3, 10), 0.3, 1.0)


@fault("F2", "kill -9 of worker children at each crash point, then at random", quick=True)
def worker_children_killed(run: Run) -> None:
    """The group is back within ten seconds."""
    points = [point for point in CRASH_POINTS if point.startswith(("deliver", "invoke", "post"))]
    quick = [("deliver.before_commit", 2), ("invoke.after_commit", 1), ("post.after_call", 2)]
    with run.load():
        for point, nth in quick if not run.full else [(point, nth) for point in points for nth in _PASSINGS]:
            run.crash(_WHO[point.partition(".")[0]], point, nth)
            run.within(_GROUP_BACK, f"group back after {point}:{nth}", run.world.consuming)
        for name in ("worker-1", "poster"):
            _kill_children(run, name, 1, 0.3, 1.0)
            run.within(_GROUP_BACK, f"{name} back", run.world.consuming)


@fault("F3", "kill -9 of a dramatiq master, also just after its start")
def masters_killed(run: Run) -> None:
    """Nobody goes on consuming without a master."""
    run.drain_bound = max(15.0, POST_LEASE + 3)
    with run.load():
        for name in ("worker-1", "poster"):
            run.pause(1)
            run.world.processes.kill(name)
            # Within a second it takes nothing more; what it has begun it ends, a call in two seconds.
            run.within(5, f"no orphan of {name}", lambda: not run.world.processes.orphans())
        for _ in range(int(run.between(2, 8))):
            run.world.within(20, "up", run.world.consuming)
            run.world.processes.restart("worker-1")
            run.world.within(20, "its first child", lambda: run.world.processes.children("worker-1"))
            run.pause(run.random.uniform(0.0, 0.3))
            run.world.processes.kill("worker-1")
            # One that was still loading ends when it has loaded, before it consumes.
            run.within(6, "no orphan of a young master", lambda: not run.world.processes.orphans())


@fault("F4", "kill -9 of schedulers between UPDATE and publish; both schedulers")
def schedulers_killed(run: Run) -> None:
    """The other scheduler covers; with none, readiness says so."""
    with run.load():
        for point in ("relay.before_commit", "relay.after_commit", "relay.after_publish"):
            for nth in run.between_all((1,), _PASSINGS):
                run.crash("scheduler-1", point, nth)
        for name in ("scheduler-1", "scheduler-2"):
            run.world.processes.kill(name)
        run.pause(1)
    if run.full:
        for name in ("scheduler-1", "scheduler-2"):
            run.world.processes.hold(name, signal.SIGKILL)
        run.expect(run.world.answers("/readyz"), "a scheduler that has just died is reported at once")
        run.within(40, "readiness reports that no scheduler ticks", lambda: not run.world.answers("/readyz"))


@fault("F5", "two schedulers at the same instant, 10,000 due rows")
def two_schedulers(run: Run) -> None:
    """Each row is hinted once in an interval, whoever hints it."""
    for name in ("scheduler-1", "scheduler-2", "worker-1", "worker-2"):
        run.world.processes.hold(name)
    run.drain_bound = 120
    run.send_directly(10_000)
    for name in ("scheduler-1", "scheduler-2"):
        run.world.processes.release(name)
    hints = "SELECT max(hints), bool_or(hints > 0 AND hint_at <= now()) FROM outbox"
    run.world.within(20, "the first hints", lambda: run.world.rows(hints)[0][0])
    # Until the first row may be hinted again, no row may have been hinted twice.
    while not (found := run.world.rows(hints)[0])[1]:
        if found[0] != 1:
            run.expect(None, f"a row was hinted {found[0]} times within its interval")
            break
        time.sleep(0.05)


@fault("F21", "a poster outlives its lease: stopped while it calls, then let go on", quick=True)
def poster_stopped(run: Run) -> None:
    """Another one takes over, and the late finish changes nothing."""
    run.add_hook("slow")
    run.add_webhook("ok")
    run.world.processes.add("poster-2", procfile()["poster"])
    with run.load(20):
        run.world.within(20, "two posters", lambda: run.world.look("post")[1] == 2)
        run.pause(3)
        run.world.processes.signal_group("poster", signal.SIGSTOP)
        run.pause(run.between(POST_LEASE + 3, 2 * POST_LEASE))
        run.world.processes.signal_group("poster", signal.SIGCONT)
        run.pause(2)
    run.world.processes.remove("poster-2")
    if run.full:
        late_finish(run)


def late_finish(run: Run, *guards_gone: str) -> None:
    """A poster finishes its first calls when their leases are over and another poster is at them again.

    The run has a hook that is slow.
    """
    run.world.processes.dress("poster", **guards.without("late", *guards_gone))
    with run.load(8, bulk_every=0):
        run.pause(4)
    run.world.journal.note("the poster outlives its leases")
    # Its first calls are waiting to be finished, so the other one is there in time.
    run.world.processes.add("poster-2", procfile()["poster"])
    # A slow target has no place for more than four calls, and those of the late ones are taken until their leases are over.
    run.within(POST_LEASE + 20, "everything is carried out", lambda: run.world.owed() == 0)
    run.pause(3)
    run.world.processes.remove("poster-2")


@fault("F27", "rolling restart: SIGTERM of every process in turn")
def rolling_restart(run: Run) -> None:
    """Behind a proxy that turns to who is ready no request fails at all, and no call is repeated."""
    other = free_port()
    run.world.processes.add("web-2", procfile()["web"].replace("${PORT:-8030}", str(other)))
    with front.Buffering(run.world.web_port, other) as proxy:
        run.world.within(30, "the other one", proxy.all_ready)
        for name in ("web", "web-2"):
            run.world.processes.dress(name, KONGFLOW_STOP_GRACE=_STOP_GRACE)
        run.world.within(30, "both with their grace", proxy.all_ready)
        with run.load(url=proxy.url):
            for _ in range(int(run.between(1, 3))):
                for name in (*NAMES, "web-2"):
                    run.world.processes.restart(name)
                    run.world.within(30, "up", lambda: proxy.all_ready() and run.world.consuming())
    run.world.processes.remove("web-2")
    run.measured |= {f"sent on: {what}": count for what, count in proxy.sent_on.items()}
    run.expect_no_failed_request()
    run.expect_no_repeats = True


def crash_points(run: Run) -> None:
    """The matrix: a crash at the first, second and seventh passing of every point, each of which has to happen."""
    with run.load(bulk_every=5):
        for point in CRASH_POINTS:
            for nth in _PASSINGS:
                run.crash(_WHO[point.partition(".")[0]], point, nth)
                run.within(20, f"back after {point}:{nth}", lambda: run.world.answers() and run.world.consuming())


def _kill_children(run: Run, name: str, seconds: float, least: float, most: float) -> None:
    """Kill the processes that a leader started, one by one, for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if children := run.world.processes.children(name):
            run.world.processes.kill_child(name, run.random.choice(children))
        time.sleep(run.random.uniform(least, most))
