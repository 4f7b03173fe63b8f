"""Our filters beside the published matcher: generated filters and payloads, differences only where they are meant."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from kongflow_events import filters
from kongflow_events.filters import parsing
from tests.integration.test_sdk import driver
from tests.node import Script, asked

__all__ = ["driver"]

pytestmark = pytest.mark.slow

SEED = 20230628
CASES = 30_000
KEYS = ["a", "b", "c", "tags", "$or"]
TEXTS = ["", "a", "A", "ab", "abc", "ABC", "café", "CAFÉ", "cafe\u0301", "ß", "ss", "ﬁ", "1", "true", "null", "日本"]
NUMBERS = [0, 1, -1, 2, 5, 10, 1.5, -0.25, 100, 1e21, 10**23, 2**53, 2**53 + 1]
SCALARS = [*TEXTS, *NUMBERS, True, False]
# JavaScript finds these on every object or text, whatever the JSON says.
ARTEFACTS = ["length", "constructor", "toString", "0", "__proto__"]


class Maker:
    """Filters and payloads by chance, from few enough words that they often meet."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.used: Counter[str] = Counter()

    def payload(self, depth: int = 0) -> Any:
        kind = self._random.random()
        if depth < 3 and (kind < 0.45 or depth == 0):
            return {key: self.payload(depth + 1) for key in self._random.sample(KEYS, self._random.randint(0, 4))}
        if depth < 3 and kind < 0.65:
            return [self.payload(depth + 1) for _ in range(self._random.randint(0, 3))]
        return self._random.choice([*SCALARS, None])

    def filter(self, payload: Any, depth: int = 0) -> dict[str, Any]:
        """A filter that looks where the payload has something, most of the time."""
        keys = list(payload) if isinstance(payload, dict) else []
        chosen = self._random.sample(keys, min(len(keys), self._random.randint(0, 2)))
        if self._random.random() < 0.25:
            chosen.append(self._random.choice([*KEYS, "missing", *(ARTEFACTS if self._random.random() < 0.1 else [])]))
        return {key: self._value(payload.get(key) if isinstance(payload, dict) else None, depth) for key in chosen}

    def _value(self, payload: Any, depth: int) -> Any:
        kind = self._random.random()
        if depth < 3 and kind < 0.3:
            below = payload[0] if isinstance(payload, list) and payload else payload
            return self.filter(below, depth + 1)
        if kind < 0.45:
            return self._literals(payload)
        if kind < 0.48:
            return self._random.choice([None, "x", 1, ["x", 1], [None], [[]], [{}], [{"$foo": 1}], {"$gt": 5}])
        return [self._item(payload) for _ in range(self._random.choice([1, 1, 1, 2, 3]))]

    def _literals(self, payload: Any) -> list[Any]:
        pool: list[Any] = self._random.choice([TEXTS, NUMBERS, [True, False]])
        chosen = self._random.sample(pool, min(len(pool), self._random.randint(0, 3)))
        if isinstance(payload, str) and pool is TEXTS:
            chosen.append(payload)
        return chosen

    def _item(self, payload: Any) -> dict[str, Any]:
        item = dict([self._operator(payload)])
        if self._random.random() < 0.05:
            item |= dict([self._operator(payload)])
        if self._random.random() < 0.01:
            item["other"] = "x"
        self.used.update(name for name in item if name != "other")
        return item

    def _operator(self, payload: Any) -> tuple[str, Any]:
        name = self._random.choice(list(OPERANDS))
        if self._random.random() < 0.02:
            return name, self._random.choice([None, "5", True, ["a", 1], {}])
        return name, OPERANDS[name](self._random, payload)


def text(random: Random, payload: Any) -> str:
    if isinstance(payload, str) and random.random() < 0.6:
        cut = random.randint(0, len(payload))
        return random.choice([payload[:cut], payload[cut:], payload, payload.swapcase()])
    return random.choice(TEXTS)


def number(random: Random, payload: Any) -> float:
    if isinstance(payload, (int, float)) and not isinstance(payload, bool) and random.random() < 0.6:
        return payload + random.choice([-1, 0, 0, 1])
    return random.choice(NUMBERS)


def flag(random: Random, _: Any) -> bool:
    return random.random() < 0.5


def scalar(random: Random, payload: Any) -> Any:
    near = payload[0] if isinstance(payload, list) and payload else payload
    known = isinstance(near, (str, int, float)) and random.random() < 0.5
    return near if known else random.choice(SCALARS)


OPERANDS = {
    "$startsWith": text,
    "$endsWith": text,
    "$ignoreCaseEquals": text,
    "$exists": flag,
    "$isNull": flag,
    "$anythingBut": lambda random, payload: (
        random.sample(TEXTS, random.randint(0, 3)) if random.random() < 0.3 else scalar(random, payload)
    ),
    "$gt": number,
    "$lt": number,
    "$gte": number,
    "$lte": number,
    "$between": lambda random, payload: [number(random, payload), number(random, payload)],
    "$includes": scalar,
    "$not": scalar,
}


def upstream(cases: list[dict[str, Any]]) -> list[bool | None]:
    """What the published matcher says of each case; None where it refuses the filter."""
    return asked("matcher.mjs", cases)


def ours(case: dict[str, Any]) -> bool | None:
    try:
        return filters.parse(case["filter"]).matches(case["payload"])
    except filters.InvalidFilter:
        return None


SEVERAL = "several operators in one item mean all of them"
UNKNOWN = "an unknown key beside an operator is refused"
OWN_KEYS = "only keys of the JSON exist, not JavaScript's own"
MORE = "$or, $and and $nor combine sub-filters where upstream refuses the value"


def meant(filter_: Any) -> Any:
    """The filter that says upstream what ours says here: one operator an item, and no key that JavaScript makes up."""
    if isinstance(filter_, dict):
        return {f"no {key}" if key in ARTEFACTS else key: meant(value) for key, value in filter_.items()}
    if isinstance(filter_, list):
        return [one for item in filter_ for one in split(item)]
    return filter_


def split(item: Any) -> list[Any]:
    return [{name: operand} for name, operand in item.items()] if isinstance(item, dict) and len(item) > 1 else [item]


def reason(case: dict[str, Any]) -> str | None:
    """Why a case may come out otherwise than upstream; None when it may not."""
    if any("other" in item for item in items(case["filter"])):
        return UNKNOWN
    if any(len(item) > 1 for item in items(case["filter"])):
        return SEVERAL
    if set(ARTEFACTS) & set(keys_of(case["filter"])):
        return OWN_KEYS
    return None


def combines(filter_: Any) -> bool:
    """Whether somewhere a `$or` has a value that upstream refuses, and that is a list of filters."""
    if not isinstance(filter_, dict):
        return False
    return any(parsing._combines(key, below) or combines(below) for key, below in filter_.items())


def items(filter_: Any) -> list[dict[str, Any]]:
    below = filter_.values() if isinstance(filter_, dict) else ()
    found = [item for value in below if isinstance(value, list) for item in value if isinstance(item, dict)]
    return found + [item for value in below if isinstance(value, dict) for item in items(value)]


def keys_of(filter_: Any) -> list[str]:
    if not isinstance(filter_, dict):
        return []
    return [*filter_, *(key for value in filter_.values() for key in keys_of(value))]


def test_generated_filters_come_out_as_the_published_matcher_has_them(driver: Script) -> None:
    maker = Maker(Random(SEED))
    cases = []
    for _ in range(CASES):
        payload = maker.payload()
        cases.append({"payload": payload, "filter": maker.filter(payload)})
    expected = upstream(cases)
    as_meant = upstream([{**case, "filter": meant(case["filter"])} for case in cases])
    different = Counter[str | None]()
    wrong = []
    for case, theirs, intended in zip(cases, expected, as_meant, strict=True):
        answer, why = ours(case), reason(case)
        if answer != theirs and theirs is None and combines(case["filter"]):
            different[MORE] += 1
        elif answer != (None if why == UNKNOWN else intended) or (answer != theirs and why is None):
            wrong.append((case, theirs, answer))
        elif answer != theirs:
            different[why] += 1

    assert wrong == [], wrong[:3]
    assert len(expected) == CASES
    assert set(different) == {SEVERAL, UNKNOWN, OWN_KEYS, MORE}
    sides = Counter(expected)
    assert min(sides[True], sides[False]) >= CASES / 5, sides
    assert sides[None] > 0
    assert min(maker.used[name] for name in OPERANDS) >= 500, maker.used


def test_a_filter_without_keys_asks_nothing_where_upstream_wants_an_element(driver: Script) -> None:
    case = {"payload": [], "filter": {}}

    assert (upstream([case]), ours(case)) == ([False], True)
