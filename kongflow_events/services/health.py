"""Health: whether this service can do its work now, what is missing if it cannot, and what will make it slow."""

from __future__ import annotations

from typing import Final, NamedTuple

import structlog

from kongflow_events.store import db, health, schema

log = structlog.get_logger(__name__)

OK: Final = "ok"
# Seconds after which a relay that has not ticked is said to be missing.
_SILENT: Final = 30.0


class Readiness(NamedTuple):
    """Whether everything is there; what is not says so in its check. `relay_age` is in seconds, None when unknown."""

    ready: bool
    checks: dict[str, str]
    relay_age: float | None


def readiness() -> Readiness:
    """Look at the database, its schema, and the relay's last sign of life."""
    age = None
    try:
        with db.unit():
            missing = schema.pending()
            age = None if missing else health.age("scheduler")
            checks = {"database": OK, "schema": _schema(missing), "relay": _relay(age)}
    except db.AWAY as error:
        # The driver's words name hosts and users, which are not for everybody who may ask.
        log.warning("not ready: the database is away", reason=str(error).strip())
        checks = {"database": "away"}
    return Readiness(all(said == OK for said in checks.values()), checks, age)


def beat(kind: str, instance: str) -> None:
    """This process lives."""
    health.beat(kind, instance)


class SnapshotWatch:
    """One process's watch over old snapshots: while one is held, vacuum cleans nothing that came after it.

    The outbox is the first to suffer: each row that was done stays in the way of those that are due. Call `look` now and
    then.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._alarmed = False

    def look(self) -> None:
        """Say in the log when one has been held for more than `longest` seconds, and when it is over."""
        oldest = health.oldest_holder()
        alarming = oldest is not None and oldest.seconds > self._longest
        if oldest is not None and alarming and not self._alarmed:
            log.warning(
                "an old snapshot keeps vacuum from cleaning", seconds=round(oldest.seconds), holder=oldest.holder
            )
        if self._alarmed and not alarming:
            log.info("no old snapshot is held any more")
        self._alarmed = alarming


def _schema(missing: list[str]) -> str:
    return f"run kongflow-events migrate: {', '.join(missing)} missing" if missing else OK


def _relay(age: float | None) -> str:
    if age is None:
        return "no scheduler has run yet"
    return OK if age <= _SILENT else f"no scheduler for {age:.0f} s"
