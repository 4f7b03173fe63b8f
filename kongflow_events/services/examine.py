"""Examine: look at everything that a service stands on, and say what is wrong and what cures it."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal, NamedTuple

from kongflow_events import sealing, settings, vault
from kongflow_events.store import examinations, health, schema, webhook_secrets

Level = Literal["ok", "warning", "problem"]
_OLDEST_SERVER, _NEWEST_SERVER = 150_000, 189_999
# Seconds: two clocks that are this far apart are worth a word; a relay that said nothing for so long is missing.
_APART: Final = 2.0
_SILENT: Final = 30.0
# A share of the server's connections.
_CROWDED: Final = 0.8
_BATCH: Final = 500
# Environments that are named where something waits in many.
_WORST: Final = 3


class Finding(NamedTuple):
    """One thing that was looked at: how it is, in words, and what to do about it (None when there is nothing to do)."""

    check: str
    level: Level
    said: str
    cure: str | None = None


def examine_database(current: settings.Settings) -> Iterator[Finding]:
    """Look at the connected database; raises one of `db.AWAY` when it does not answer."""
    yield _server(examinations.server())
    yield _connections(examinations.server())
    missing = schema.pending()
    if missing:
        yield Finding("schema", "problem", f"{', '.join(missing)} missing", "run kongflow-events migrate")
        return
    yield Finding("schema", "ok", "this version's")
    yield from _clocks()
    yield _relays(examinations.beats())
    yield from _owed(examinations.owed())
    yield _dead(examinations.dead())
    yield _targets(examinations.failing())
    yield _secrets()
    yield _snapshots(health.oldest_holder(), current.snapshot_alarm)


def _server(found: examinations.Server) -> Finding:
    name = f"PostgreSQL {found.version // 10_000}.{found.version % 10_000}"
    if found.read_only:
        cure = "point DATABASE_URL at the primary; after a failover, at the new one"
        return Finding("database", "problem", f"{name} takes no writes", cure)
    if found.version < _OLDEST_SERVER:
        return Finding("database", "problem", f"{name} is too old", "upgrade it to 15 or later")
    if found.version > _NEWEST_SERVER:
        return Finding("database", "warning", f"{name} is newer than what was tried", "use 15 to 18")
    return Finding("database", "ok", name)


def _connections(found: examinations.Server) -> Finding:
    said = f"{found.connected} of {found.connections} taken"
    if found.connected < found.connections * _CROWDED:
        return Finding("connections", "ok", said)
    cure = "raise max_connections, or lower KONGFLOW_POOL_SIZE or the number of processes"
    return Finding("connections", "warning", said, cure)


def _clocks() -> Iterator[Finding]:
    before = time.time()
    at = examinations.clock().timestamp()
    apart = at - (before + time.time()) / 2
    yield _clock("clock of this host", apart)
    newest = examinations.newest_ids()
    if newest:
        yield _clock("clocks of web processes", statistics.median(_lead(made, stored) for made, stored in newest))


def _clock(check: str, apart: float) -> Finding:
    said = f"{abs(apart):.1f} s {'behind' if apart > 0 else 'ahead of'} the database's"
    if abs(apart) < _APART:
        return Finding(check, "ok", "as the database's")
    return Finding(check, "warning", said, "let chrony or another NTP client keep both hosts' time")


def _lead(made: uuid.UUID, stored: datetime) -> float:
    """By how many seconds the clock that made an id was behind the one that dated its row."""
    return stored.timestamp() - (made.int >> 80) / 1000


def _relays(beats: list[examinations.Beat]) -> Finding:
    relays = [beat for beat in beats if beat.kind == "scheduler"]
    alive = [beat for beat in relays if beat.age <= _SILENT]
    if alive:
        return Finding("relay", "ok", f"{len(alive)} ticking: {', '.join(beat.instance for beat in alive)}")
    said = f"the last one, {relays[0].instance}, was seen {relays[0].age:.0f} s ago" if relays else "none has run yet"
    return Finding("relay", "problem", said, "start kongflow-events scheduler; if it runs, read its log")


def _owed(found: list[examinations.Owed]) -> Iterator[Finding]:
    for one in found:
        said = _said_of(one)
        if one.forgotten:
            cure = "see relay, broker and queues here; under load wait, or start more workers"
            yield Finding(one.kind, "problem", f"{said}; {one.forgotten} that no worker is told of", cure)
        elif one.abandoned:
            cure = "start workers; the relay gives these rows to them"
            yield Finding(one.kind, "warning", f"{said}; {one.abandoned} left by workers that are gone", cure)
        else:
            yield Finding(one.kind, "ok", said)
    if not found:
        yield Finding("outbox", "ok", "nothing is owed")


def _said_of(one: examinations.Owed) -> str:
    since = f", the first since {max(0.0, one.oldest):.0f} s" if one.resting < one.rows else ""
    waiting = f"; {one.resting} for a target that rests or is paused" if one.resting else ""
    return f"{one.rows} owed{since}{waiting}"


def _dead(found: list[examinations.Dead]) -> Finding:
    if not found:
        return Finding("dead letters", "ok", "none")
    cure = "kongflow-events dead list says why; mend that, then kongflow-events dead redrive --all"
    where = _where([(one.environment, one.number) for one in found])
    return Finding("dead letters", "warning", f"{sum(one.number for one in found)}{where}", cure)


def _targets(found: list[examinations.Failing]) -> Finding:
    if not found:
        return Finding("targets", "ok", "none is failing")
    cure = "kongflow-events dispatchers show says since when; once mended, kongflow-events dispatchers enable"
    resting, disabled = sum(one.resting for one in found), sum(one.disabled for one in found)
    where = _where([(one.environment, one.resting + one.disabled) for one in found])
    return Finding("targets", "warning", f"{resting} failing and left alone, {disabled} disabled for it{where}", cure)


def _where(found: list[tuple[str | None, int]]) -> str:
    """The worst environments, each with its number, and how many there are in all the others."""
    worst = [(name, number) for name, number in found if name][:_WORST]
    elsewhere = sum(number for _, number in found) - sum(number for _, number in worst)
    said = [f"{number} in {name}" for name, number in worst] + ([f"{elsewhere} elsewhere"] if elsewhere else [])
    return f": {', '.join(said)}" if worst else ""


def _secrets() -> Finding:
    checked = sealed = 0
    last = uuid.UUID(int=0)
    while found := webhook_secrets.after(last, _BATCH):
        checked += len(found)
        sealed += sum(not _opens(one.dispatcher_id, bytes(one.sealed)) for one in found)
        last = found[-1].id
    if not sealed:
        return Finding("webhook secrets", "ok", f"{checked}, and KONGFLOW_SECRET_KEY opens them" if checked else "none")
    cure = "put the key that sealed them back into KONGFLOW_SECRET_KEY, behind the new one"
    return Finding("webhook secrets", "problem", f"KONGFLOW_SECRET_KEY opens {checked - sealed} of {checked}", cure)


def _opens(dispatcher_id: uuid.UUID, sealed: bytes) -> bool:
    try:
        vault.opened(dispatcher_id, [sealed])
    except sealing.Unopenable:
        return False
    return True


def _snapshots(oldest: health.Holder | None, longest: float) -> Finding:
    if oldest is None or oldest.seconds <= longest:
        return Finding("snapshots", "ok", "none is old")
    cure = "end it, or let that program keep its transactions short: vacuum cleans nothing meanwhile"
    return Finding("snapshots", "warning", f"{oldest.holder} for {oldest.seconds:.0f} s", cure)


def away(error: Exception) -> Finding:
    """The finding for a database that does not answer."""
    cure = "start PostgreSQL, or put right DATABASE_URL"
    return Finding("database", "problem", f"away: {str(error).strip()}", cure)
