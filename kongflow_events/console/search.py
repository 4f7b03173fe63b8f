"""What people type into the search of events: `payload.user.id:42 context.region:"eu west"`."""

from __future__ import annotations

import itertools
import re
from typing import Any, Final

import msgspec

from kongflow_events import errors
from kongflow_events.schemas.decoding import DEEPEST
from kongflow_events.store.console_events import Inside

_TERM: Final = re.compile(r'(payload|context)((?:\.[^\s.:"]+)+):("(?:[^"\\]|\\.)*"|[^\s"]+)(?:\s+|$)')
_MOST: Final = 5
# Which no stored text has, and PostgreSQL takes in no JSON.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_HOW: Final = 'Search like payload.user.id:42 or payload.name:"Ann Lee"; several terms must all hold'


def parse(text: str) -> list[Inside]:
    """The terms of a search, which all have to hold; raises Invalid for what is none.

    A value without quotes is looked for as JSON and as a text; each also as an element of a list.
    """
    found: list[Inside] = []
    rest = text.strip()
    while rest:
        term = _TERM.match(rest)
        if term is None or len(found) == _MOST:
            raise _unclear()
        column, path, value = term.groups()
        keys = path[1:].split(".")
        if len(keys) > DEEPEST or _NUL.search(value):
            raise _unclear()
        forms = [(one, in_list) for one, in_list in itertools.product(_meant(value), (False, True))]
        found.append(Inside(column, tuple(_contained(keys, [one] if in_list else one) for one, in_list in forms)))
        rest = rest[term.end() :]
    return found


def _unclear() -> errors.Invalid:
    return errors.Invalid(errors.Issue("custom", "q", _HOW))


def _meant(value: str) -> list[Any]:
    """The values that a text may stand for."""
    try:
        read = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return [value.strip('"')]
    return [read] if value.startswith('"') else [read, value]


def _contained(keys: list[str], value: Any) -> str:
    for key in reversed(keys):
        value = {key: value}
    return msgspec.json.encode(value).decode()
