"""Names of events that dispatchers listen to: exact ones, and patterns with one `*` in place of a dot-separated segment.

`order.*` hears every name that begins with `order.`, `*` every name, `*.failed` and `order.*.failed` those with exactly
one segment in the star's place. A star that is only a part of a segment is a character like any other.

Delivery never compares patterns with names: it looks up the few patterns that a name can be heard by, of which there
are less than three for each of its segments, however many dispatchers there are.
"""

from __future__ import annotations

from typing import Final

STAR: Final = "*"
# Characters of a dispatcher's name, which stands in an index: they fit, whatever their width.
LONGEST: Final = 512
# Bounds what one name is looked up by; names themselves may be as deep as they like.
MOST_SEGMENTS: Final = 16


def is_pattern(name: str) -> bool:
    """Whether a dispatcher's name is a pattern."""
    return STAR in name.split(".")


def mistake(name: str) -> str | None:
    """Why a dispatcher's name cannot be, in words for its writer; None when it can."""
    segments = name.split(".")
    if segments.count(STAR) > 1:
        return "A pattern has one * in place of a segment, not several"
    if STAR in segments and len(segments) > MOST_SEGMENTS:
        return f"A pattern must not have more than {MOST_SEGMENTS} segments"
    return None


def oddity(name: str) -> str | None:
    """What the writer of a name may have meant otherwise; None when it is plain."""
    if STAR in name and not is_pattern(name):
        return f"{name} is an exact name: a star stands for something only in place of a whole segment, as in order.*"
    return None


def heard_by(name: str) -> list[str]:
    """The names under which a dispatcher hears an event called `name`: itself, and every pattern that it matches."""
    segments = name.split(".", MOST_SEGMENTS)
    heads = range(min(len(segments), MOST_SEGMENTS))
    patterns = [_joined(segments[:at]) for at in heads]
    if len(segments) <= MOST_SEGMENTS:
        patterns += [_joined(segments[:at], segments[at + 1 :]) for at in heads[:-1]]
    return [one for one in dict.fromkeys([name, *patterns]) if len(one) <= LONGEST]


def _joined(before: list[str], behind: list[str] | None = None) -> str:
    return ".".join([*before, STAR, *(behind or [])])
