"""The operators of the filter language: what each accepts, what it tests, and which kinds of value it can hold for.

The first thirteen are trigger.dev's, with its meanings (spec events-semantics.md §5); the others are ours. Each operand
that is a string may be a list of strings of which any will do, where upstream refuses a list.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple

import re2

from kongflow_events import collation, dates
from kongflow_events.filters.values import (
    KINDS,
    MISSING,
    Kind,
    Test,
    double,
    is_number,
    is_one_type,
    is_scalar,
    kind_of,
    one_of,
    same,
)

# An operand is compared with each value: what a person writes is shorter by far.
MOST_CHOICES: Final = 1000
_LONGEST_PATTERN: Final = 500
# What looking through a text for a filter may cost: RE2 takes steps times characters, 2,000 times 65,536 a second on one
# slow core at the worst; folding a text that long takes as long.
MOST_STEPS: Final = 2000
LONGEST_SEARCHED: Final = 65_536


class Operator(NamedTuple):
    """One operator: `accepts` an operand or not (`wants` says what), and makes of it a test and the kinds it can hold for.

    `test` raises ValueError, in words for the writer of the filter, for an operand of the right type that means nothing.
    `upstream` says which operands trigger.dev takes; None where it does not know the operator.
    """

    wants: str
    accepts: Callable[[Any], bool]
    test: Callable[[Any], Test]
    holds_for: Callable[[Any], frozenset[Kind]]
    upstream: Callable[[Any], bool] | None = None


def choices(operand: str | list[str]) -> list[str]:
    """The texts of an operand that may be one or a list."""
    return [operand] if isinstance(operand, str) else operand


def _is_text(operand: Any) -> bool:
    return isinstance(operand, str)


def _is_texts(operand: Any) -> bool:
    return _is_text(operand) or (
        isinstance(operand, list) and 0 < len(operand) <= MOST_CHOICES and all(map(_is_text, operand))
    )


def _only(*kinds: Kind) -> Callable[[Any], frozenset[Kind]]:
    wanted = frozenset(kinds)
    return lambda _: wanted


_TEXTS: Final = f"a string, or a list of 1 to {MOST_CHOICES} strings"


def _text(test: Callable[[list[str]], Callable[[str], bool]], *, upstream: bool = False) -> Operator:
    """An operator on strings; `test` makes a predicate of the texts of which any will do."""

    def compiled(operand: Any) -> Test:
        holds = test(choices(operand))
        return lambda value: isinstance(value, str) and holds(value)

    return Operator(_TEXTS, _is_texts, compiled, _only("string"), _is_text if upstream else None)


def _ordered(test: Callable[[float, float], bool]) -> Operator:
    def compiled(operand: Any) -> Test:
        bound = double(operand)
        return lambda value: is_number(value) and test(double(value), bound)

    return Operator("a number", is_number, compiled, _only("number"), is_number)


def _flag(test: Callable[[Any], bool], kinds: frozenset[Kind]) -> Operator:
    """True asks that `test` holds, which it does for `kinds` only; false that it does not."""
    return Operator(
        "true or false",
        _is_flag,
        lambda operand: lambda value: test(value) is operand,
        lambda operand: kinds if operand else KINDS - kinds,
        _is_flag,
    )


def _is_flag(operand: Any) -> bool:
    return isinstance(operand, bool)


def _time(test: Callable[[datetime, datetime], bool]) -> Operator:
    def compiled(operand: Any) -> Test:
        bound = instant(operand)
        if bound is None:
            raise ValueError("Expected a time as in RFC 3339: 2030-01-01T00:00:00Z, or a date alone")
        return lambda value: (at := instant(value)) is not None and test(at, bound)

    return Operator("a time, which is a string", _is_text, compiled, _only("string"))


def instant(value: Any) -> datetime | None:
    """The time that a string says, as in RFC 3339 (dates.parse), to the microsecond; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        return dates.parse(value)
    except ValueError:
        return None


def _starts(prefixes: list[str]) -> Callable[[str], bool]:
    wanted = tuple(prefixes)
    return lambda value: value.startswith(wanted)


def _ends(suffixes: list[str]) -> Callable[[str], bool]:
    wanted = tuple(suffixes)
    return lambda value: value.endswith(wanted)


def _ignores_case(texts: list[str]) -> Callable[[str], bool]:
    folded = frozenset(map(collation.fold, texts))
    return lambda value: len(value) <= LONGEST_SEARCHED and collation.fold(value) in folded


def _contains(parts: list[str]) -> Callable[[str], bool]:
    return lambda value: any(part in value for part in parts)


def _resembles(patterns: list[str]) -> Callable[[str], bool]:
    tests = [_wildcard(pattern) for pattern in patterns]
    return lambda value: any(test(value) for test in tests)


def _wildcard(pattern: str) -> Callable[[str], bool]:
    r"""A test for the whole text: `*` is any characters or none; `\*` and `\\` are the characters themselves."""
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"A pattern must not have more than {_LONGEST_PATTERN} characters")
    first, *others = _pieces(pattern)
    if not others:
        return first.__eq__
    *between, last = others

    def holds(value: str) -> bool:
        at, end = len(first), len(value) - len(last)
        if at > end or not value.startswith(first) or not value.endswith(last):
            return False
        # The leftmost place is always good enough: it leaves most for the pieces behind it.
        for piece in between:
            found = value.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return holds


def _pieces(pattern: str) -> list[str]:
    """The literal texts before, between and behind a pattern's stars."""
    pieces = [""]
    for part in re.findall(r"\\?[\\*]|[^\\*]+", pattern):
        if part == "*":
            pieces.append("")
        elif part == "\\":
            raise ValueError(r"A backslash stands only before * or another backslash")
        else:
            pieces[-1] += part[1:] if part[0] == "\\" else part
    return pieces


def _regex(operand: str) -> Test:
    """A search for an expression anywhere in the text, by RE2, which never goes back: linear in the text's length."""
    expression = _expression(operand)
    return lambda value: (
        isinstance(value, str) and len(value) <= LONGEST_SEARCHED and expression.search(value) is not None
    )


def steps_of(operand: str) -> int:
    """How many steps a regular expression, which is one, unfolds to."""
    size: int = _expression(operand).programsize
    return size


def _expression(operand: str) -> Any:
    if len(operand) > _LONGEST_PATTERN:
        raise ValueError(f"An expression must not have more than {_LONGEST_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(operand, options)
    except re2.error as error:
        raise ValueError(f"Expected a regular expression as RE2 takes it: {error.args[0].decode()}") from None


def _cidr(operand: Any) -> Test:
    networks = [_network(text) for text in choices(operand)]

    def holds(value: Any) -> bool:
        address = _address(value)
        return address is not None and any(address in network for network in networks)

    return holds


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(_unscoped(text))
    except ValueError as error:
        raise ValueError(f"Expected a network as 10.0.0.0/8 or 2001:db8::/32: {error}") from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED_BITS}")


# IPv4 addresses stand in IPv6's behind so many bits (RFC 4291 §2.5.5.2).
_MAPPED_BITS: Final = 96


def _address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is; an IPv4 one in IPv6's clothes is the IPv4 one."""
    if not isinstance(value, str):
        return None
    try:
        address = ipaddress.ip_address(_unscoped(value))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _unscoped(text: str) -> str:
    """The text; ValueError for an address with a zone, which means something on one machine only."""
    if "%" in text:
        raise ValueError("an address with a zone is none that others know")
    return text


def _anything_but(operand: Any) -> Test:
    unwanted = one_of(operand if isinstance(operand, list) else [operand])
    return lambda value: not unwanted(value)


def _between(operand: list[Any]) -> Test:
    low, high = map(double, operand)
    return lambda value: is_number(value) and low <= double(value) <= high


def _includes(operand: Any) -> Test:
    return lambda value: isinstance(value, list) and any(same(item, operand) for item in value)


def _not(operand: Any) -> Test:
    includes = _includes(operand)
    return lambda value: (
        not includes(value) if isinstance(value, list) else is_scalar(value) and not same(value, operand)
    )


def _is_listed(operand: Any) -> bool:
    return (
        isinstance(operand, list)
        and len(operand) <= MOST_CHOICES
        and all(one is None or is_scalar(one) for one in operand)
    )


def _is_size(operand: Any) -> bool:
    if isinstance(operand, dict):
        return bool(operand) and all(name in COMPARISONS and is_number(bound) for name, bound in operand.items())
    return is_number(operand) and operand >= 0 and double(operand).is_integer()


def _size(operand: Any) -> Test:
    if not isinstance(operand, dict):
        length = int(operand)
        return lambda value: isinstance(value, list) and len(value) == length
    tests = [COMPARISONS[name].test(bound) for name, bound in operand.items()]
    return lambda value: isinstance(value, list) and all(test(len(value)) for test in tests)


_PAIR: Final = 2
_LISTED: Final = f"a list of at most {MOST_CHOICES} strings, numbers, booleans and nulls"


def _is_unwanted(operand: Any) -> bool:
    return is_one_type(operand) if isinstance(operand, list) else is_scalar(operand)


def _is_pair(operand: Any) -> bool:
    return isinstance(operand, list) and len(operand) == _PAIR and all(map(is_number, operand))


COMPARISONS: Final[dict[str, Operator]] = {
    "$gt": _ordered(lambda value, bound: value > bound),
    "$lt": _ordered(lambda value, bound: value < bound),
    "$gte": _ordered(lambda value, bound: value >= bound),
    "$lte": _ordered(lambda value, bound: value <= bound),
}

OPERATORS: Final[dict[str, Operator]] = {
    "$startsWith": _text(_starts, upstream=True),
    "$endsWith": _text(_ends, upstream=True),
    "$ignoreCaseEquals": _text(_ignores_case, upstream=True),
    # A null is there; upstream says so too.
    "$exists": _flag(lambda value: value is not MISSING, KINDS - {"missing"}),
    "$isNull": _flag(lambda value: value is None, frozenset({"null"})),
    "$anythingBut": Operator(
        "a string, number or boolean, or a list of one of these types",
        _is_unwanted,
        _anything_but,
        lambda _: KINDS,
        _is_unwanted,
    ),
    **COMPARISONS,
    "$between": Operator("a list of two numbers", _is_pair, _between, _only("number"), _is_pair),
    "$includes": Operator("a string, number or boolean", is_scalar, _includes, _only("array"), is_scalar),
    # Unlike $anythingBut, it holds for nothing that is missing, null or an object.
    "$not": Operator(
        "a string, number or boolean", is_scalar, _not, _only("string", "number", "boolean", "array"), is_scalar
    ),
    "$in": Operator(_LISTED, _is_listed, one_of, lambda operand: frozenset(map(kind_of, operand))),
    "$nin": Operator(_LISTED, _is_listed, _anything_but, lambda _: KINDS),
    "$contains": _text(_contains),
    "$wildcard": _text(_resembles),
    "$regex": Operator("a regular expression, which is a string", _is_text, _regex, _only("string")),
    "$cidr": Operator(_TEXTS, _is_texts, _cidr, _only("string")),
    "$before": _time(lambda at, bound: at < bound),
    "$after": _time(lambda at, bound: at > bound),
    "$size": Operator(f"a length, or an object of {', '.join(COMPARISONS)} for it", _is_size, _size, _only("array")),
}


def is_upstreams(item: Any) -> bool:
    """Whether trigger.dev takes `item` as an operator: it looks for the first key that it knows, whatever else there is."""
    return isinstance(item, dict) and any(
        operator.upstream is not None and name in item and operator.upstream(item[name])
        for name, operator in OPERATORS.items()
    )
