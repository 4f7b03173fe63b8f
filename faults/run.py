"""One scenario's run: its tenant, its load, what it expects, and the looks that are taken at its end."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from faults import evidence, invariants, ledger, tenant
from faults.processes import STAYED
from faults.record import Record
from faults.world import HIGH_WATER, POST_LEASE, Late, World, start
from kongflow_events.services import ingest
from kongflow_events.store import db
from tests import factory

# Seconds of a fault, at the events each second that are offered meanwhile.
RATE = 60.0
_LEDGER_SECONDS = 150
# Seconds until every event has met a rule that is to be withdrawn.
_MET = 60.0
# Events of one transaction that goes past the API.
_DIRECT = 500
# Threads and files that a process may have more after a fault than before: its pools fill up, and a call is under way.
_MORE_THREADS, _MORE_FILES = 20, 40
# Two schedulers and the workers publish, each after a look of its own: one may fill what another has just filled.
_OVERSHOOT = 3
# Below this the machine's own noise decides what a 99th percentile is; a request that waits for a server takes seconds.
_NOISE_MS = 500.0
# Seconds that a retry may be late: a look of the relay, a queue, a busy machine.
_LATE_TRY = 5.0
_ERRORS = """
SELECT DISTINCT last_error FROM invocations UNION SELECT DISTINCT last_error FROM outbox
UNION SELECT DISTINCT error FROM invocation_attempts
"""


class Run:
    """What a scenario has in its hands. `full` asks for the long form; all chance comes from `random`."""

    def __init__(self, world: World, name: str, seed: int, *, full: bool) -> None:
        self.world, self.name, self.seed, self.full = world, name, seed, full
        self.random = random.Random(f"{seed}:{name}")
        self.findings: list[str] = []
        self.measured: dict[str, float] = {}
        # What the drain may take, and how deep a queue may be; scenarios with bounds of their own set them.
        self.drain_bound = POST_LEASE + 10.0
        self.depth_bound = HIGH_WATER * _OVERSHOOT
        # Whether not even a cause excuses a call that is made again after its 2xx.
        self.expect_no_repeats = False
        self.ignored: set[uuid.UUID] = set()
        self.began = time.time()
        self._prefix = f"{name.lower()}-{seed}-{secrets.token_hex(3)}"
        self.canary = f"canary-{secrets.token_hex(8)}"
        self.tenant = tenant.make(self._prefix, [f"{world.sink_url}/ok/{number}" for number in range(2)])
        self.ledger = world.home / f"{self._prefix}.jsonl"

    # What a scenario says ---------------------------------------------------------------------------------------------

    def expect(self, holds: object, what: str) -> None:
        """Note a finding unless this holds."""
        if not holds:
            self.findings.append(what)

    def within(self, seconds: float, what: str, holds: Callable[[], object]) -> None:
        """Wait until this holds, and note how long it took; too long is a finding."""
        try:
            self.measured[what] = round(self.world.within(seconds, what, holds), 2)
        except Late as late:
            self.findings.append(str(late))

    def pause(self, seconds: float) -> None:
        """Let time pass; a little more or less, by chance."""
        time.sleep(seconds * self.random.uniform(0.9, 1.1))

    def between(self, short: float, long: float) -> float:
        """The first in the quick form, the second in the full one."""
        return long if self.full else short

    def add_hook(self, mode: str, quarters: frozenset[int] = frozenset({3}), scheme: str = "http") -> evidence.Rule:
        """One more rule outside, for these quarters of the events: the sink answers its calls in this mode."""
        url = f"{self.world.sink_url}/{mode}/{self._prefix}".replace("http:", f"{scheme}:", 1)
        rule = tenant.hook(self.tenant.environment, mode, url, quarters)
        self.tenant.rules.append(rule)
        return rule

    def add_webhook(self, mode: str, quarters: frozenset[int] = frozenset({3}), **settings: Any) -> evidence.Rule:
        """One more webhook, with these settings in its dispatchable: the sink answers its calls in this mode."""
        label = f"webhook-{mode}"
        url = f"{self.world.sink_url}/{mode}/{self._prefix}-webhook"
        rule = tenant.webhook(self.world, self.tenant, label, url, quarters, settings)
        self.tenant.rules.append(rule)
        return rule

    def between_all(self, few: Sequence[int], many: Sequence[int]) -> Sequence[int]:
        """The first in the quick form, the second in the full one."""
        return many if self.full else few

    def crash(self, process: str, point: str, nth: int, **environ: str) -> None:
        """Have the process end itself at the `nth` passing of a point, wait until it has, and start it as ever again."""
        before = self.world.processes.crashes(point)
        self.world.processes.restart(process, KONGFLOW_CRASH_AT=f"{point}:{nth}", **environ)
        self.within(30, f"crash at {point}:{nth}", lambda: self.world.processes.crashes(point) > before)
        if process == "web":
            # The master starts its worker again with the same variables.
            self.world.processes.restart(process, **environ)

    def withdraw(self, rule: evidence.Rule) -> None:
        """Disable a rule whose target never answers well, once it has met every event: what is owed to it is skipped."""
        place = self.tenant.rules.index(rule)
        self.tenant.rules[place] = msgspec.structs.replace(rule, ends=rule.ends | {"SKIPPED"})
        delivering = "SELECT count(*) FROM outbox WHERE kind = 'deliver' AND died_at IS NULL"
        self.world.within(_MET, "every event is delivered", lambda: self.world.number(delivering) == 0)
        with db.unit():
            db.run("UPDATE event_dispatchers SET enabled = FALSE WHERE id = %s", (rule.dispatcher_id,))
        # What is under way fails once more, and would wait for its next try.
        under_way = f"SELECT count(*) FROM outbox WHERE lane = '{rule.dispatcher_id}' AND lease_until > now()"
        self.world.within(POST_LEASE, "its calls are over", lambda: self.world.number(under_way) == 0)
        with db.unit():
            db.run("UPDATE outbox SET due_at = now(), hint_at = now() WHERE lane = %s", (rule.dispatcher_id,))

    def add_ignored(self, label: str) -> uuid.UUID:
        """A dispatcher that the invariants are not asked about, with a job of its own."""
        version = factory.job(self.tenant.environment, f"{self._prefix}-{label}")
        made = factory.dispatcher(self.tenant.environment, to=factory.to_job(version))
        self.ignored.add(made)
        return made

    def send_directly(self, count: int) -> None:
        """Store so many events past the API, and write them into the ledger as its client would."""
        with self.ledger.open("a", encoding="utf-8") as output:
            for first in range(0, count, _DIRECT):
                ids = [f"{self._prefix}d-{number}" for number in range(first, min(count, first + _DIRECT))]
                sent = [
                    factory.event(id=one, payload=f'{{"quarter": {int(one.rpartition("-")[2]) % 4}}}') for one in ids
                ]
                with db.unit():
                    ingest.ingest_send_events(self.tenant.environment, sent)
                line = evidence.Attempt(ids=ids, attempt=1, at=time.time(), ms=0.0, status=200, stored=ids)
                output.write(msgspec.json.encode(line).decode() + "\n")

    def count(self, what: str) -> None:
        """One more of it."""
        self.measured[what] = self.measured.get(what, 0) + 1

    @contextmanager
    def load(self, rate: float = RATE, **plan: Any) -> Iterator[None]:
        """Offer events to the API while the body runs, then see all of them answered."""
        client = self._start_client(rate, plan)
        try:
            yield
        finally:
            client.send_signal(signal.SIGTERM)
            try:
                client.wait(_LEDGER_SECONDS)
            except subprocess.TimeoutExpired:
                client.kill()
                self.findings.append("the client did not get all of its answers")

    def _start_client(self, rate: float, plan: dict[str, Any]) -> subprocess.Popen[str]:
        url = plan.pop("url", self.world.url)
        whole = ledger.Plan(
            **{"prefix": self._prefix, "rate": rate, "seed": f"{self.seed}", "canary": self.canary, **plan}
        )
        command = [sys.executable, "-m", "faults.ledger", url, self.tenant.key, str(self.ledger)]
        client = start([*command, msgspec.json.encode(whole).decode()], self.world.home / "ledger.log")
        # A second load of the same scenario goes on under another prefix.
        self._prefix += "x"
        return client

    # What is looked at ------------------------------------------------------------------------------------------------

    def attempts(self, since: float = 0.0, until: float = float("inf")) -> list[evidence.Attempt]:
        """The client's attempts that began in this stretch of time."""
        return [one for one in evidence.attempts_in(self.ledger) if since <= one.at <= until]

    def expect_no_failed_request(self, since: float = 0.0) -> None:
        """I10: the API answered every attempt, and none with a 5xx."""
        failed = [one for one in self.attempts(since) if one.status is None or one.status >= 500]
        self.expect(
            not failed,
            f"I10: {len(failed)} attempts failed, the first with {failed[0].error or failed[0].status}"
            if failed
            else "",
        )

    def stretch(self, seconds: float) -> tuple[float, float]:
        """Let time pass; returns from when to when that was."""
        began = time.time()
        self.pause(seconds)
        return began, time.time()

    def expect_latency(self, before: tuple[float, float], during: tuple[float, float], times: float) -> None:
        """I10: the 99th percentile in one stretch of time is at most `times` that in another, or lost in the noise."""
        calm, then = (
            evidence.percentile((one.ms for one in self.attempts(*stretch)), 0.99) for stretch in (before, during)
        )
        self.measured["p99 before, ms"], self.measured["p99 during, ms"] = calm, then
        self.expect(then <= max(times * calm, _NOISE_MS), f"I10: p99 {then:.0f} ms against {calm:.0f} ms before")

    def expect_schedule(self, rule: evidence.Rule, rest: tuple[float, float] = (0.0, 0.0)) -> None:
        """Between two calls of an event lie e to the number of the attempt, a fifth more or less, and what a look takes.

        And what of `rest` falls between them: from when the receiver asked to be left alone until all that waited was called.
        """
        for tries in self.calls_to(rule).values():
            for number, (one, other) in enumerate(itertools.pairwise(tries), 1):
                pause = other.at - one.at
                late = _LATE_TRY + max(0.0, min(other.at, rest[1]) - max(one.at, rest[0]))
                if not 0.8 * math.exp(number) - 0.1 <= pause <= 1.2 * math.exp(number) + late:
                    said = f"attempt {number + 1} ({other.mode}) came {pause:.1f} s after attempt {number} ({one.mode})"
                    self.findings.append(said)
                    return

    def calls_to(self, rule: evidence.Rule) -> dict[str, list[evidence.Call]]:
        """The calls of a rule, in order, by their message id."""
        found: dict[str, list[evidence.Call]] = {}
        for call in evidence.calls_in(self.world.sink_log):
            if call.path == rule.path:
                found.setdefault(call.id, []).append(call)
        return found

    def expect_shallow(self, most: int) -> None:
        """I8: up to now no queue was ever deeper than `most`."""
        self.findings += [f"I8: {breach}" for breach in invariants.no_storm(self.world.deepest(self.began), most)]

    def finish(self) -> Record:
        """End every fault, wait for the drain, and look at everything."""
        self.world.heal()
        drained = self._drain()
        with contextlib.suppress(Late):
            self.world.within(20, "up", lambda: self.world.answers() and self.world.consuming())
        seen = evidence.gather(
            self.world, self.tenant.environment.id, self.tenant.rules, self.ignored, self.ledger, drained, self.began
        )
        if self.expect_no_repeats and seen.repeats:
            ids = {earlier.id for earlier, _ in seen.repeats}
            causes = sorted({one.outcome for one in seen.tries if str(one.invocation_id) in ids} - {"succeeded"})
            self.findings.append(f"I5: {len(seen.repeats)} calls were repeated; beside successes there was {causes}")
        self.findings += invariants.findings(seen, self.depth_bound)
        self.findings += self._secrets() + self._processes()
        return Record.of(self.name, self.seed, seen, self.findings, self.measured, time.time() - self.began)

    def _drain(self) -> float:
        began = time.monotonic()
        try:
            # Beyond the bound it is red, but what comes later is late and not lost.
            self.world.within(self.drain_bound + 60, "drained", lambda: self._owed() == 0)
        except Late:
            self.findings.append(f"I6: {self._owed()} rows are owed {self.drain_bound + 60:.0f} s after the faults")
        took = time.monotonic() - began
        self.expect(took <= self.drain_bound, f"I6: drained after {took:.1f} s, {self.drain_bound:g} s were promised")
        return took

    def _owed(self) -> int:
        with contextlib.suppress(Exception):
            return self.world.owed()
        return -1

    def _secrets(self) -> list[str]:
        """I11: keys, passwords and payloads stand in no log and no error text."""
        texts = {path.name: path.read_text(errors="replace") for path in self.world.home.glob("*.log")}
        texts["errors"] = str(self.world.rows(_ERRORS))
        planted = {
            "a key": self.tenant.key,
            "a payload": self.canary,
            "a password": self.world.postgres.password,
            "a webhook's secret": self.world.webhook_secret,
        }
        return [
            f"I11: {what} stands in {name}"
            for name, text in texts.items()
            for what, value in planted.items()
            if value in text
        ]

    def _processes(self) -> list[str]:
        """I12: no orphan, every consumer there, no connection in a transaction, no thread or file left behind."""
        stayed = [one.what for one in self.world.journal if one.at >= self.began and one.what.startswith(STAYED)]
        found = [f"I12: {what}" for what in stayed]
        with contextlib.suppress(Late):
            self.world.within(2, "no orphans", lambda: not self.world.processes.orphans())
        if orphans := self.world.processes.orphans():
            found.append(f"I12: {len(orphans)} processes have outlived their leader")
        if not self.world.consuming():
            found.append("I12: a queue does not have all of its consumers")
        idle = self.world.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            " AND state_change < now() - interval '1 second' AND datname = current_database()"
        )
        if idle[0][0]:
            found.append(f"I12: {idle[0][0]} connections are idle in a transaction")
        return found + [
            f"I12: process {pid} has {threads} threads and {files} files more than before"
            for pid, threads, files in self.world.growth()
            if threads > _MORE_THREADS or files > _MORE_FILES
        ]
