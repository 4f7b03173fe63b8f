"""How a target's standing changes with each call to it, as a pure decision: its circuit, its rests, its end."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

# Failures in a row open a circuit only when they reach over this long: not the few calls that one bad moment meets.
SPAN: Final = timedelta(seconds=5)
# Seconds of a circuit's first pause and of its longest, and how far chance may move each one.
PAUSE: Final = 10.0
LONGEST_PAUSE: Final = 600.0
JITTER: Final = 0.2

Change = Literal["opened", "closed", "disabled"]


class Standing(msgspec.Struct, frozen=True):
    """What is known of a target; schema.sql says what each column means."""

    failures: int = 0
    failing_since: datetime | None = None
    opened_at: datetime | None = None
    pauses: int = 0
    rests_until: datetime | None = None
    disabled_at: datetime | None = None
    disabled_reason: str | None = None


class Call(msgspec.Struct, frozen=True):
    """What a call came to. `asked`: the seconds that the receiver wants to be left alone; `gone`: for ever."""

    succeeded: bool
    probe: bool = False
    asked: float | None = None
    gone: bool = False


class Rules(msgspec.Struct, frozen=True):
    """After how many failures in a row a circuit opens, and after how many days of them a target is given up (0: never)."""

    failures: int
    days: int


def after(
    standing: Standing, call: Call, now: datetime, rules: Rules, luck: float | None = None
) -> tuple[Standing, Change | None]:
    """How a target stands after a call that ended `now`, and what has changed for everybody to see.

    `luck` in 0…1 places a pause within its jitter; chance by default.
    """
    if call.succeeded:
        # A rest that the receiver asked for outlasts a call that was under way; a circuit's pause does not.
        rests_until = None if standing.opened_at else standing.rests_until
        return Standing(rests_until=rests_until), "closed" if standing.opened_at else None
    failed = msgspec.structs.replace(
        standing, failures=standing.failures + 1, failing_since=standing.failing_since or now
    )
    if reason := _why_given_up(failed, call, now, rules):
        given_up = Standing(failed.failures, failed.failing_since, disabled_at=now, disabled_reason=reason)
        return given_up, "disabled"
    paused, opened = _paused(failed, call, now, rules, random.random() if luck is None else luck)  # noqa: S311 - spreads load
    return _rested(paused, call, now), "opened" if opened else None


def pause_after(pauses: int, luck: float) -> float:
    """Seconds of a circuit's pause number `pauses` (from 1): each twice the one before, give or take a fifth by `luck`."""
    # 2^10 first pauses are past the longest one: a larger exponent could only overflow.
    return min(PAUSE * 2.0 ** min(pauses - 1, 10), LONGEST_PAUSE) * (1 + JITTER * (2 * luck - 1))


def _why_given_up(failed: Standing, call: Call, now: datetime, rules: Rules) -> str | None:
    if call.gone:
        return "the target answered 410"
    since = failed.failing_since
    if rules.days and since and failed.failures >= rules.failures and now - since >= timedelta(days=rules.days):
        return f"nothing but failures for {rules.days} days"
    return None


def _paused(failed: Standing, call: Call, now: datetime, rules: Rules, luck: float) -> tuple[Standing, bool]:
    """The circuit after a failure, and whether it was this one that opened it.

    Calls that were under way when it opened say nothing new: only a probe lengthens the pause.
    """
    opens = failed.opened_at is None and _is_failing(failed, now, rules)
    if not opens and not (failed.opened_at and call.probe):
        return failed, False
    pauses = failed.pauses + 1
    until = now + timedelta(seconds=pause_after(pauses, luck))
    opened_at = now if opens else failed.opened_at
    return msgspec.structs.replace(failed, opened_at=opened_at, pauses=pauses, rests_until=until), opens


def _is_failing(failed: Standing, now: datetime, rules: Rules) -> bool:
    since = failed.failing_since
    return failed.failures >= rules.failures and since is not None and now - since >= SPAN


def _rested(standing: Standing, call: Call, now: datetime) -> Standing:
    if not call.asked:
        return standing
    until = now + timedelta(seconds=call.asked)
    return msgspec.structs.replace(standing, rests_until=max(until, standing.rests_until or until))
