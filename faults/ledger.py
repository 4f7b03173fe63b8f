"""The client, a process of its own: sends events with known ids at an offered rate, and writes down every attempt.

    python -m faults.ledger URL KEY FILE '{"prefix": "f6", "rate": 100, …}'

An attempt without an answer, or with a 5xx, is made again with the same id, as an SDK does. SIGTERM ends the sending; the
process ends when every event has its 200 or has been tried for long enough. One JSON line for each attempt:
`ids`, `attempt` (from 1), `at` (seconds), `ms`, and `status` or `error`.
"""

from __future__ import annotations

import contextlib
import json
import queue
import random
import sys
import threading
import time
from typing import Any, TextIO

import msgspec
import urllib3

from kongflow_events.interrupts import Stopping, until_interrupted

# Events of one bulk request.
BULK = 5
_LONGEST_PAUSE = 1.0


class Plan(msgspec.Struct, frozen=True):
    """What is sent: ids are `prefix-number`; every event with a number divisible by `bulk_every` begins a bulk (0: none)."""

    prefix: str
    rate: float
    seed: str
    canary: str
    name: str = "order.paid"
    bulk_every: int = 20
    senders: int = 16
    # Seconds that a sender waits for an answer, and goes on trying.
    timeout: float = 10.0
    patience: float = 90.0


class Ledger:
    """The sending, and the file."""

    def __init__(self, url: str, key: str, output: TextIO, plan: Plan) -> None:
        self._url = url
        self._plan = plan
        self._output = output
        self._lock = threading.Lock()
        self._work: queue.Queue[list[int] | None] = queue.Queue(100_000)
        self._pool = urllib3.PoolManager(retries=False, maxsize=plan.senders, timeout=plan.timeout)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def run(self) -> None:
        """Offer events at the planned rate until SIGTERM, then see all of them through."""
        senders = [threading.Thread(target=self._send_on) for _ in range(self._plan.senders)]
        for sender in senders:
            sender.start()
        with until_interrupted() as stopping:
            self._offer(stopping)
            for _ in senders:
                self._work.put(None)
            for sender in senders:
                sender.join()

    def _offer(self, stopping: Stopping) -> None:
        began, number = time.monotonic(), 0
        while not stopping.wait(began + number / self._plan.rate - time.monotonic()):
            bulk = self._plan.bulk_every and number % self._plan.bulk_every == 0
            group = list(range(number, number + (BULK if bulk else 1)))
            self._work.put(group)
            number += len(group)

    def _send_on(self) -> None:
        while (group := self._work.get()) is not None:
            self._see_through(group)

    def _see_through(self, group: list[int]) -> None:
        luck = random.Random(f"{self._plan.seed}:{group[0]}")
        until = time.monotonic() + self._plan.patience
        attempt = 0
        while time.monotonic() < until:
            attempt += 1
            if not self._attempt(group, attempt):
                return
            time.sleep(min(0.05 * 2**attempt, _LONGEST_PAUSE) * (0.5 + luck.random()))

    def _attempt(self, group: list[int], attempt: int) -> bool:
        """Send once; returns whether to send again."""
        at, began = time.time(), time.monotonic()
        outcome: dict[str, Any]
        try:
            answer = self._request(group)
            outcome = {"status": answer.status, "retry_after": answer.headers.get("Retry-After")}
            if answer.status == 200:
                outcome["stored"] = _ids_of(answer.json())
        except urllib3.exceptions.HTTPError as error:
            outcome = {"error": type(error).__name__}
        ms = round(1000 * (time.monotonic() - began), 2)
        self._write({"ids": self._ids(group), "attempt": attempt, "at": at, "ms": ms, **outcome})
        return outcome.get("status", 599) >= 500 or outcome.get("status") == 429

    def _request(self, group: list[int]) -> urllib3.BaseHTTPResponse:
        events = [self._event(number) for number in group]
        path, body = (
            ("/api/v1/events", {"event": events[0]})
            if len(events) == 1
            else (
                "/api/v1/events/bulk",
                {"events": events},
            )
        )
        return self._pool.request("POST", self._url + path, body=json.dumps(body).encode(), headers=self._headers)

    def _event(self, number: int) -> dict[str, Any]:
        payload = {"number": number, "quarter": number % 4, "canary": self._plan.canary}
        return {"id": f"{self._plan.prefix}-{number}", "name": self._plan.name, "payload": payload}

    def _ids(self, group: list[int]) -> list[str]:
        return [f"{self._plan.prefix}-{number}" for number in group]

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:
            self._output.write(json.dumps(line) + "\n")
            self._output.flush()


def _ids_of(body: Any) -> list[str]:
    return [one["id"] for one in body] if isinstance(body, list) else [body["id"]]


def main() -> None:
    """Read the plan from the command line and follow it."""
    url, key, path, plan = sys.argv[1:]
    with open(path, "a", encoding="utf-8") as output, contextlib.suppress(KeyboardInterrupt):
        Ledger(url, key, output, msgspec.json.decode(plan, type=Plan)).run()


if __name__ == "__main__":
    main()
