"""The service's processes, from the Procfile's own commands, under a supervisor that starts again whatever ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from faults.machines import bearing
from kongflow_events import crashes
from kongflow_events.processes import die_with_parent
from tests.processes import BIN, procfile

# One web, two groups of workers, one of posters, two schedulers.
NAMES = {
    "web": "web",
    "worker-1": "worker",
    "worker-2": "worker",
    "poster": "poster",
    "scheduler-1": "scheduler",
    "scheduler-2": "scheduler",
}
# Seconds between two looks of the supervisor, and that a process gets to stop when it is asked to.
_LOOK, _STOP = 0.05, 25
# How the journal has one that did not.
STAYED = f"still there {_STOP} s after SIGTERM:"
# The variable by which the processes of one world, and all that they start, are known.
_MARK = "KONGFLOW_TEST_WORLD"


class Happened(NamedTuple):
    """An entry of the journal: a process that ended, or a fault that was done to a server."""

    at: float
    what: str


class Journal(list[Happened]):
    """What was done and what came of it, in order: repeats of calls are explained from it."""

    def note(self, what: str) -> None:
        """Write it down, now."""
        self.append(Happened(time.time(), what))


class Supervised:
    """The processes by name; any of `NAMES`, and more that a scenario adds."""

    def __init__(self, environ: Mapping[str, str], logs: Path, journal: Journal) -> None:
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        marked = dict([self._mark.split("=")])
        gathered = {"KONGFLOW_METRICS_DIR": str(logs / "metrics")}
        self._environ = {**os.environ, **gathered, **environ, **marked, "PATH": f"{BIN}:{os.environ['PATH']}"}
        self._logs = logs
        self._journal = journal
        self._commands = {name: procfile()[kind] for name, kind in NAMES.items()}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._held: set[str] = set()
        self._special: set[str] = set()
        self._dress: dict[str, Mapping[str, str]] = {}
        self._lock = threading.RLock()
        self._ending = threading.Event()
        # Children are started by this thread alone: the kernel takes a thread's end for its parent's death.
        self._thread = threading.Thread(target=self._look_after, daemon=True, name="supervisor")

    def start(self) -> None:
        """Start all of them, and look after them from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End all of them and everything that came with them."""
        with self._lock:
            self._held |= set(self._commands)
            running = list(self._running.values())
        for process in running:
            _signal_group(process, signal.SIGCONT)
            process.terminate()
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP)
        for pid, _ in bearing(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._ending.set()
        self._thread.join()

    def add(self, name: str, command: str) -> None:
        """Start and look after one more."""
        with self._lock:
            self._commands[name] = command

    def remove(self, name: str) -> None:
        """Stop one that was added, for good."""
        self.hold(name)
        with self._lock:
            self._commands.pop(name)
            self._running.pop(name)
            self._held.discard(name)

    def pid(self, name: str) -> int:
        """Its leader's process id."""
        with self._lock:
            return self._running[name].pid

    def children(self, name: str) -> list[int]:
        """The processes that its leader started."""
        leader = self.pid(name)
        return [pid for pid, group in bearing(self._mark) if group == leader != pid]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send its leader a signal, which is all that an operator's accident does; the supervisor starts it again."""
        self._journal.note(f"{number.name} {name}")
        with self._lock:
            self._running[name].send_signal(number)

    def kill_child(self, name: str, pid: int) -> None:
        """Kill one of the processes that its leader started."""
        if pid in self.children(name):
            self._journal.note(f"SIGKILL a child of {name}")
            os.kill(pid, signal.SIGKILL)

    def signal_group(self, name: str, number: signal.Signals) -> None:
        """Send a signal to it and all that it started."""
        self._journal.note(f"{number.name} group {name}")
        with self._lock:
            _signal_group(self._running[name], number)

    def hold(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, wait for the end, and do not start it again until `release`."""
        with self._lock:
            self._held.add(name)
            process = self._running[name]
        self._journal.note(f"{number.name} {name}")
        if number == signal.SIGKILL:
            _signal_group(process, number)
        process.send_signal(number)
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._journal.note(f"{STAYED} {name}")
            _signal_group(process, signal.SIGKILL)
            process.wait()

    def release(self, name: str, **environ: str) -> None:
        """Start it again, this once with these variables too; when it ends it is started as ever."""
        with self._lock:
            self._start(name, environ)
            self._held.discard(name)

    def restart(self, name: str, **environ: str) -> None:
        """Stop it and start it, this once with these variables too."""
        self.hold(name)
        self.release(name, **environ)

    def dress(self, name: str, **environ: str) -> None:
        """Stop it and start it with these variables, and every time that it is started again, until `heal`."""
        self._dress[name] = environ
        self.restart(name)

    def heal(self) -> None:
        """Everything that runs with variables of its own is started without them; everything that is held is started."""
        dressed, self._dress = self._dress, {}
        for name in list(self._commands):
            if name in self._special or name in dressed:
                self.restart(name)
            elif name in self._held:
                self.release(name)

    def crashes(self, point: str) -> int:
        """How often a process has ended at the crash point."""
        return sum(self.log(name).count(crashes.said(point)) for name in self._commands)

    def log(self, name: str) -> str:
        """Everything that it has said."""
        path = self._logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def orphans(self) -> list[int]:
        """Living processes whose leader is gone."""
        with self._lock:
            leaders = {process.pid for process in self._running.values() if process.poll() is None}
            return [pid for pid, group in bearing(self._mark) if group not in leaders]

    def all(self) -> list[int]:
        """Every process that runs."""
        return [pid for pid, _ in bearing(self._mark)]

    def _look_after(self) -> None:
        while not self._ending.wait(_LOOK):
            with self._lock:
                for name in self._commands:
                    if name not in self._held and self._is_down(name):
                        self._start(name, {})

    def _is_down(self, name: str) -> bool:
        process = self._running.get(name)
        if process is None:
            return True
        if process.poll() is None:
            return False
        self._journal.note(f"ended {name} ({process.returncode})")
        return True

    def _start(self, name: str, environ: Mapping[str, str]) -> None:
        (self._special.add if environ else self._special.discard)(name)
        with (self._logs / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                ["/bin/bash", "-c", f"exec {self._commands[name]}"],
                env={**self._environ, **self._dress.get(name, {}), **environ},
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        self._running[name] = process


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to all that a process leads, if it lives: the number of one that is gone may be another's."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
