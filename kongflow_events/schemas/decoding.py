"""JSON from strangers: decoded whole and strictly, so that nothing reaches the database that it would refuse or change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from kongflow_events import errors, paths

# Objects and arrays inside one another; deeper bodies are refused before any recursion meets them.
DEEPEST: Final = 64
INVALID_JSON: Final = "Invalid JSON body"


def decode(body: bytes) -> Any:
    """The value of `body`.

    Raises Refused (400) for what is no JSON: syntax, encoding, a byte order mark, a lone surrogate, NaN, a number too
    large or too small for any double, or one of more than 4,300 digits. Raises Invalid (422) for JSON that cannot be
    stored: NUL in a text, or more than 64 levels.
    """
    if body.count(b"{") + body.count(b"[") > DEEPEST and _depth(body) > DEEPEST:
        raise errors.Invalid(errors.Issue("too_big", "", f"Nesting must not exceed {DEEPEST} levels"))
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        raise errors.Refused(INVALID_JSON) from None
    if _is_unheard_of(body) and _is_unheard_of(_STRING.sub(b"", body)):
        raise errors.Refused(INVALID_JSON)
    # The escape is the only way to write it: a bare NUL is no JSON.
    if b"\\u0000" in body and (issues := [errors.Issue("invalid_string", at, _NUL) for at in _nul_paths(value, "")]):
        raise errors.Invalid(*issues)
    return value


_NUL = "Text must not contain the NUL character"


def _depth(body: bytes) -> int:
    """How deep objects and arrays nest in `body`; brackets inside strings do not count."""
    # A level at a time, and no bracket by itself: a bulk has ten thousand of them.
    brackets = _STRING.sub(b"", body).translate(_ONE_KIND, _NO_BRACKETS)
    for depth in range(DEEPEST + 1):
        outer = brackets.replace(b"{}", b"")
        if len(outer) == len(brackets):
            # Nothing is left of JSON; of anything else, what is opened and never closed.
            return depth + outer.count(b"{")
        brackets = outer
    return DEEPEST + 1


def _is_unheard_of(body: bytes) -> bool:
    """Whether `body` may have a number that decodes, to zero or to fewer digits, but that PostgreSQL cannot hold."""
    if (b"e-" in body or b"E-" in body) and _TINY.search(body):
        return True
    return len(body) >= _TOO_LONG and _TOO_MANY in body.translate(_ONE_DIGIT)


# Possessive, and content with a string that never ends: no body makes it look at a byte twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_ONE_KIND: Final = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_TINY = re.compile(rb"[eE]-0*[1-9]\d{3}")
_TOO_LONG: Final = 4301
_TOO_MANY: Final = b"0" * _TOO_LONG
_ONE_DIGIT: Final = bytes.maketrans(b"123456789", b"000000000")


def _nul_paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, str):
        if "\0" in value:
            yield path
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nul_paths(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if "\0" in key:
                yield path
            yield from _nul_paths(item, paths.join(path, key))
