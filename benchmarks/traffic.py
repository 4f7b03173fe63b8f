"""Live traffic beside a backlog: events sent at a steady pace, and how long each took to be sent and to be carried out."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import urllib3

from benchmarks.stage import Stage
from faults.evidence import calls_in, percentile

_SENDERS = 16
# Of the event ids: every row of the live traffic begins with it.
LIVE = "live-"
_RUNS = f"""
SELECT event_id, extract(epoch FROM pg_xact_commit_timestamp(job_runs.xmin))::float
  FROM event_records JOIN job_runs ON job_runs.event_record_id = event_records.id WHERE event_id LIKE '{LIVE}%'
"""
_CALLED = f"""
SELECT event_id, invocations.id::text
  FROM event_records JOIN invocations ON invocations.event_record_id = event_records.id WHERE event_id LIKE '{LIVE}%'
"""


class Sent(NamedTuple):
    """One event that got its 200: when its sending began (epoch seconds), and how long that took."""

    event_id: str
    at: float
    seconds: float


class To(NamedTuple):
    """Where events go: the key of an environment, and a name."""

    key: str
    name: str


class Traffic:
    """Sends `rate` events a second, each to the next of `to`, from `with` to its end; raises at the end what was refused."""

    def __init__(self, url: str, to: Sequence[To], rate: float) -> None:
        self._url = f"{url}/api/v1/events"
        self._to = to
        self._rate = rate
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._pool = urllib3.PoolManager(retries=False, maxsize=_SENDERS, timeout=30)
        self.sent: list[Sent] = []
        self.refused: list[str] = []

    def __enter__(self) -> Traffic:
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._send_on, daemon=True) for _ in range(_SENDERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        assert not self.refused, self.refused[:3]

    def between(self, began: float, ended: float) -> list[Sent]:
        """What was sent in this time (epoch seconds)."""
        return [one for one in self.sent if began <= one.at < ended]

    def _send_on(self) -> None:
        while True:
            number = next(self._numbers)
            if self._stopping.wait(max(0.0, self._began + number / self._rate - time.monotonic())):
                return
            self._send(f"{LIVE}{number}", self._to[number % len(self._to)])

    def _send(self, event_id: str, to: To) -> None:
        body = json.dumps({"event": {"id": event_id, "name": to.name, "payload": {"filler": "x" * 270}}})
        at, began = time.time(), time.monotonic()
        try:
            answer = self._pool.request("POST", self._url, body=body, headers={"Authorization": f"Bearer {to.key}"})
        except urllib3.exceptions.HTTPError as error:
            self.refused.append(str(error))
            return
        if answer.status == 200:
            self.sent.append(Sent(event_id, at, time.monotonic() - began))
        else:
            self.refused.append(answer.data.decode())


class Latency(NamedTuple):
    """Milliseconds: sending, and from the beginning of sending to the end of the work; `done` of `sent` events are done."""

    sent: int
    done: int
    send_p50: float
    send_p99: float
    work_p50: float
    work_p99: float


def latency(sent: Sequence[Sent], done: Mapping[str, float]) -> Latency:
    """The percentiles of these events; `done` says when each was carried out (epoch seconds)."""
    send = [1000 * one.seconds for one in sent]
    work = [1000 * (done[one.event_id] - one.at) for one in sent if one.event_id in done]
    return Latency(
        len(sent), len(work), *(percentile(values, share) for values in (send, work) for share in (0.50, 0.99))
    )


def runs(stage: Stage) -> dict[str, float]:
    """When the run of each live event was there to be seen."""
    return dict(stage.rows(_RUNS))


def calls(stage: Stage, log: object) -> dict[str, float]:
    """When the sink got the call of each live event."""
    at = {call.id: call.at for call in calls_in(log)}
    return {event_id: at[call] for event_id, call in stage.rows(_CALLED) if call in at}


def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
    """Let time pass, `seconds` at the most; whether `until()` came true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if until():
            return True
        time.sleep(0.1)
    return False
