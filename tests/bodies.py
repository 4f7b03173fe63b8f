"""Bodies made by hypothesis from the service's own schemas: valid ones, ones with a single mistake, and noise.

A body is a tree of JSON values, in which a Literal stands for text that goes out as it is: not every body is JSON.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import inspect

from kongflow_events.schemas import requests, typed

Values = SearchStrategy[Any]
Path = tuple[str | int, ...]
Draw = st.DrawFn

VALID, NOISE = "valid", "noise"
SCHEMAS = {
    "events": requests.SendBody,
    "bulk": requests.BulkBody,
    "ephemeral": requests.EphemeralBody,
    "rule": requests.DispatcherBody,
    "change": requests.DispatcherChange,
    "job": requests.JobBody,
    "trigger": requests.DynamicTriggerBody,
}


class Body(NamedTuple):
    """A body, the route it is meant for, and what was done to it."""

    route: str
    kind: str
    raw: bytes


class Literal(str):
    """Text that stands in a body as it is."""

    __slots__ = ()


class Twice(dict[str, Any]):
    """An object whose keys all stand in it twice, first with nothing."""


# What is valid --------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
NUMBER = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXT, below, max_size=4),
    max_leaves=12,
)
OPERATORS: dict[str, Values] = {
    **dict.fromkeys(("$startsWith", "$endsWith", "$ignoreCaseEquals"), TEXT),
    **dict.fromkeys(("$exists", "$isNull"), st.booleans()),
    **dict.fromkeys(("$gt", "$lt", "$gte", "$lte"), NUMBER),
    **dict.fromkeys(("$includes", "$not", "$anythingBut"), TEXT | NUMBER | st.booleans()),
    "$between": st.lists(NUMBER, min_size=2, max_size=2),
    **dict.fromkeys(("$contains", "$wildcard"), st.text(string.ascii_letters + "*. ", max_size=9)),
    "$regex": st.text(string.ascii_letters + ".^$", max_size=9),
    **dict.fromkeys(("$in", "$nin"), st.lists(TEXT | NUMBER | st.booleans() | st.none(), max_size=3)),
    **dict.fromkeys(("$before", "$after"), st.dates().map(str)),
    "$cidr": st.sampled_from(["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"]),
    "$size": st.integers(0, 9) | st.fixed_dictionaries({"$gte": NUMBER}),
}
OPERATOR = st.sampled_from(sorted(OPERATORS)).flatmap(lambda name: st.fixed_dictionaries({name: OPERATORS[name]}))
MATCHER = st.one_of(*(st.lists(items, max_size=3) for items in (TEXT, st.integers(), st.booleans(), OPERATOR)))
FILTER = st.recursive(
    st.dictionaries(TEXT, MATCHER, max_size=3),
    lambda below: (
        st.dictionaries(TEXT, below, max_size=2)
        | st.dictionaries(st.sampled_from(["$or", "$and", "$nor"]), st.lists(below, max_size=2), max_size=1)
    ),
    max_leaves=4,
)
YEARS = {"min_value": -62_000_000_000_000, "max_value": 253_000_000_000_000}
ZONE = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENT = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONE)
DATE = st.integers(**YEARS) | st.none() | st.dates().map(str) | MOMENT.map(lambda at: at.isoformat("T"))
SEMVER = st.tuples(*[st.integers(0, 99)] * 3).map(lambda parts: "{}.{}.{}".format(*parts))
URL = st.text(string.ascii_letters + string.digits + "/?&=%-_.~", max_size=30).map("http://127.0.0.1:9/".__add__)

WEBHOOK_CHANGE = st.fixed_dictionaries(
    {},
    optional={
        "url": URL,
        "headers": st.none() | st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.none() | st.just("x"), max_size=2),
        "timeoutInSeconds": st.none() | st.integers(1, 20),
        "rateLimit": st.none() | st.integers(1, 10_000),
        "maxConcurrency": st.none() | st.integers(1, 1_000),
        "format": st.sampled_from(["event", "cloudevent"]),
    },
)


def _valid(targets: Values) -> Callable[[inspect.Type], Values]:
    """From a type of the schemas to its values; `targets` are dispatchables that exist, or changes of one."""
    by_name = {
        **dict.fromkeys(("filter", "payloadFilter", "contextFilter"), FILTER),
        "url": URL,
        "version": SEMVER,
        "dispatchable": targets,
        "jobs": st.lists(st.just("job"), max_size=3),
    }

    def struct(shape: inspect.StructType) -> Values:
        fields = {
            field.encode_name: by_name[field.encode_name] if field.encode_name in by_name else values(field.type)
            for field in shape.fields
        }
        needed = {field.encode_name for field in shape.fields if field.required}
        return st.fixed_dictionaries(
            {name: one for name, one in fields.items() if name in needed},
            optional={name: one for name, one in fields.items() if name not in needed},
        )

    def text(shape: inspect.StrType) -> Values:
        least, most = shape.min_length or 0, shape.max_length
        longest = st.just("\N{PILE OF POO}" * most) if most else st.nothing()
        return TEXT.filter(lambda value: len(value) >= least) | longest

    kinds: dict[type[inspect.Type], Callable[[Any], Values]] = {
        inspect.StructType: struct,
        inspect.StrType: text,
        inspect.IntType: lambda shape: st.integers(shape.ge, shape.le),
        inspect.BoolType: lambda _: st.booleans(),
        inspect.NoneType: lambda _: st.none(),
        inspect.RawType: lambda _: JSON,
        inspect.CustomType: lambda shape: (
            st.integers(shape.cls.least, shape.cls.most) if issubclass(shape.cls, typed.Whole) else DATE
        ),
        inspect.Metadata: lambda shape: values(shape.type),
        inspect.LiteralType: lambda shape: st.sampled_from(shape.values),
        inspect.ListType: lambda shape: st.lists(values(shape.item_type), min_size=shape.min_length or 0, max_size=4),
        inspect.UnionType: lambda shape: st.one_of(*map(values, shape.types)),
    }

    def values(shape: inspect.Type) -> Values:
        return kinds[type(shape)](shape)

    return values


# One mistake ----------------------------------------------------------------------------------------------------------

ODD_TEXTS = [
    r'"\ud800"',
    r'"\udc00\ud800"',
    r'"\ud83d\ude00"',
    '"\u2028"',
    '"\ufeff"',
    '"\ufffe"',
    '"\U0010ffff"',
    '"\u202eabc"',
    '"e\u0301"',
    '"\x7f"',
    '"\x1f"',
    r'"\u12"',
]
NUMBERS = [
    *(
        "-0",
        "-0.0",
        "1.0",
        "1.5",
        "1e2",
        "1e308",
        "1e400",
        "-1e400",
        "1e-400",
        "1e-1000",
        "01",
        "+1",
        "NaN",
        "-Infinity",
    ),
    *map(str, (2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30)),
    *("1" * 4300, "1" * 4301, "0." + "1" * 4300),
]
OTHERS = [0, 1.5, "x", "", True, [], {}, ["x"], [[]], {"a": 1}, "2001-01-01", "http://127.0.0.1:9/"]
HUGE = ['"' + "x" * size + '"' for size in (129, 513, 5_000, 120_000)] + ["[" + "0," * 2_000 + "0]"]
DEEP = ["[" * depth + "]" * depth for depth in (20, 64, 65, 1_000)] + ['{"a":' * 70 + "1" + "}" * 70]
NULS = [r'"\u0000"', r'{"\u0000":1}', r'["a",{"b":"c\u0000"}]', '"\0"']


def _replaced(choices: list[Any], *, literal: bool = True) -> Callable[[Draw, Any], Any]:
    def change(draw: Draw, body: Any) -> Any:
        chosen = draw(st.sampled_from(choices))
        return _put(body, draw(st.sampled_from(list(_places(body)))), Literal(chosen) if literal else chosen)

    return change


def _without(draw: Draw, body: Any) -> Any:
    places = [place for place in _places(body) if place]
    return _put(body, draw(st.sampled_from(places)), None, leave_out=True) if places else None


def _with_more(draw: Draw, body: Any) -> Any:
    place, value = draw(st.sampled_from(_objects(body))), draw(JSON)
    return _put(body, place, {**_at(body, place), draw(TEXT): value})


def _doubled(draw: Draw, body: Any) -> Any:
    place = draw(st.sampled_from(_objects(body)))
    return _put(body, place, Twice(_at(body, place)))


MISTAKES: dict[str, Callable[[Draw, Any], Any]] = {
    "another type": _replaced(OTHERS, literal=False),
    "null": _replaced([None], literal=False),
    "missing": _without,
    "extra": _with_more,
    "huge": _replaced(HUGE),
    "deep": _replaced(DEEP),
    "odd text": _replaced(ODD_TEXTS),
    "NUL": _replaced(NULS),
    "number": _replaced(NUMBERS),
    "twice": _doubled,
}
DAMAGED = "damaged"


def _places(body: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    below = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in below:
        yield from _places(value, (*path, key))


def _objects(body: Any) -> list[Path]:
    return [place for place in _places(body) if isinstance(_at(body, place), dict)]


def _at(body: Any, path: Path) -> Any:
    for key in path:
        body = body[key]
    return body


def _put(body: Any, path: Path, value: Any, *, leave_out: bool = False) -> Any:
    if not path:
        return value
    key, rest = path[0], path[1:]
    changed = body.copy()
    if leave_out and not rest:
        del changed[key]
    else:
        changed[key] = _put(body[key], rest, value, leave_out=leave_out)
    return changed


def _damaged(draw: Draw, raw: bytes) -> bytes:
    start = draw(st.integers(0, len(raw) - 1))
    end = draw(st.integers(start, min(len(raw), start + 8)))
    return raw[:start] + draw(st.binary(max_size=4)) + raw[end:]


# Written --------------------------------------------------------------------------------------------------------------


def _write(value: Any) -> str:
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(_write, value))}]"
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)}:{_write(below)}" for key, below in value.items()]
        before = [f"{json.dumps(key)}:null" for key in value] if isinstance(value, Twice) else []
        return f"{{{','.join(before + pairs)}}}"
    return json.dumps(value, ensure_ascii=False)


def bodies(route: str, targets: Values) -> SearchStrategy[Body]:
    """Bodies for a route, most of them valid or one mistake away from it; `targets` are dispatchables that exist."""
    whole = _valid(targets)(inspect.type_info(SCHEMAS[route]))
    noise = st.binary(max_size=100) | JSON.map(_write).map(str.encode) | st.text(string.printable).map(str.encode)

    @st.composite
    def body(draw: Draw) -> Body:
        kind = draw(st.sampled_from([VALID] * 5 + [DAMAGED, *MISTAKES] + [NOISE] * 2))
        if kind == NOISE:
            return Body(route, kind, draw(noise))
        made = draw(whole)
        if kind in MISTAKES:
            made = MISTAKES[kind](draw, made)
        raw = _write(made).encode()
        return Body(route, kind, _damaged(draw, raw) if kind == DAMAGED else raw)

    return body()
