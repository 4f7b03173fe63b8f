"""How pages write values: times, numbers, JSON, and the colour of a state."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_THOUSAND: Final = 1000

# Every state of an event, an invocation, an attempt, a run, a bulk operation, a process; the words say it, the tone helps.
_TONES: Final = {
    "good": {"delivered", "SUCCEEDED", "SUCCESS", "succeeded", "DONE", "enabled", "live", "closed", "matches"},
    "busy": {
        "pending",
        "PENDING",
        "QUEUED",
        "WAITING_ON_CONNECTIONS",
        "PREPROCESSING",
        "STARTED",
        "EXECUTING",
        "WAITING_TO_CONTINUE",
        "WAITING_TO_EXECUTE",
        "RUNNING",
        "half-open",
    },
    "bad": {
        "dead",
        "DEAD",
        "FAILURE",
        "TIMED_OUT",
        "ABORTED",
        "UNRESOLVED_AUTH",
        "INVALID_PAYLOAD",
        "refused",
        "unreachable",
        "timeout",
        "blocked",
        "failed",
        "missing",
        "lost",
        "open",
        "revoked",
        "silent",
    },
    "warn": {"cancelled", "CANCELED", "SKIPPED", "disabled", "paused", "expired", "failing"},
}
_TONE_OF: Final = {state: tone for tone, states in _TONES.items() for state in states}


def tone(state: str) -> str:
    """The tone of a state: good, busy, bad, warn, or plain."""
    return _TONE_OF.get(state, "plain")


def count(number: int | None) -> str:
    """A number with its thousands apart."""
    return "–" if number is None else f"{number:,}"


def duration(seconds: float | None) -> str:
    """A stretch of time in the one or two units that say enough."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * _THOUSAND:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    for unit, size, small, smaller in (("d", _DAY, "h", _HOUR), ("h", _HOUR, "min", _MINUTE), ("min", _MINUTE, "s", 1)):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            return f"{whole} {unit} {rest // smaller} {small}" if rest >= smaller else f"{whole} {unit}"
    raise AssertionError(seconds)


def ago(at: datetime | None) -> Markup:
    """How long ago something was, or how soon it will be; the exact time is the element's title."""
    if at is None:
        return Markup("–")
    seconds = (datetime.now(UTC) - at).total_seconds()
    return _time(at, f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}")


def lasting(at: datetime | None) -> Markup:
    """For how long something has been so; the exact time when it began is the element's title."""
    if at is None:
        return Markup("–")
    return _time(at, duration(max((datetime.now(UTC) - at).total_seconds(), 0)))


def when(at: datetime | None) -> Markup:
    """The time itself, in UTC, to the millisecond."""
    return Markup("–") if at is None else Markup('<time datetime="{}">{}</time>').format(at.isoformat(), exact(at))


def exact(at: datetime) -> str:
    """`2026-11-25 03:31:52.123 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{at.microsecond // _THOUSAND:03d} UTC"


def _time(at: datetime, said: str) -> Markup:
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(), exact(at), said)


def pretty(value: Any) -> str:
    """JSON for people: indented, every character as it is."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def breakable(text: str) -> Markup:
    """A text that may be broken behind its dots, slashes and dashes, so that a long one fits a phone."""
    broken = str(escape(text))
    for sign in "./-_":
        broken = broken.replace(sign, f"{sign}<wbr>")
    return Markup(broken)  # noqa: S704 - escaped first, and no entity has one of these signs


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "tone": tone,
    "count": count,
    "duration": duration,
    "ago": ago,
    "lasting": lasting,
    "when": when,
    "pretty": pretty,
    "breakable": breakable,
}
