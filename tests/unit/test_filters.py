"""The filter language, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kongflow_events import collation, filters

VECTORS = (Path(__file__).parent.parent / "data" / "filter-vectors.jsonl").read_bytes().splitlines()


def matches(filter_: Any, value: Any) -> bool:
    return filters.parse(filter_).matches(value)


@pytest.mark.parametrize("number", range(len(VECTORS)))
def test_a_vector_comes_out_as_upstream_has_it(number: int) -> None:
    vector = msgspec.json.decode(VECTORS[number])
    try:
        answer = filters.parse(vector["filter"]).matches(vector["payload"])
    except filters.InvalidFilter:
        answer = None

    assert (vector["valid"], vector["match"]) == (answer is not None, answer)


class TestParse:
    @pytest.mark.parametrize(
        "good",
        [{}, {"a": []}, {"": ["x"]}, {"a": {"b": {"c": [1]}}}, {"a": {"$gt": [5]}}, {"a": [{"$between": [5, 1]}]}]
        + [{"a": [{"$gt": 1, "$lt": 5}]}, {"a": [{"$anythingBut": []}]}, {"__proto__": ["x"]}],
    )
    def test_what_upstream_accepts_is_accepted(self, good: Any) -> None:
        assert filters.parse(good).raw == good

    @pytest.mark.parametrize(
        ("bad", "paths"),
        [
            ([], ["f"]),
            ("x", ["f"]),
            (None, ["f"]),
            ({"a": None}, ["f.a"]),
            ({"a": "x"}, ["f.a"]),
            ({"a": {"$gt": 5}}, ["f.a.$gt"]),
            ({"a": ["x", 1]}, ["f.a"]),
            ({"a": [1, True]}, ["f.a"]),
            ({"a": [None]}, ["f.a"]),
            ({"a": ["x", {"$gt": 1}]}, ["f.a"]),
            ({"a": [["x"]]}, ["f.a"]),
            ({"a": [{}]}, ["f.a[0]"]),
            ({"a": [{"$foo": 1}]}, ["f.a[0].$foo"]),
            ({"a": [{"$gt": 1, "other": "x"}]}, ["f.a[0].other"]),
            ({"a": [{"$gt": "5"}]}, ["f.a[0].$gt"]),
            ({"a": [{"$gt": True}]}, ["f.a[0].$gt"]),
            ({"a": [{"$exists": "true"}]}, ["f.a[0].$exists"]),
            ({"a": [{"$not": None}]}, ["f.a[0].$not"]),
            ({"a": [{"$not": ["a"]}]}, ["f.a[0].$not"]),
            ({"a": [{"$includes": ["a"]}]}, ["f.a[0].$includes"]),
            ({"a": [{"$anythingBut": None}]}, ["f.a[0].$anythingBut"]),
            ({"a": [{"$anythingBut": ["a", 1]}]}, ["f.a[0].$anythingBut"]),
            ({"a": [{"$between": [1]}]}, ["f.a[0].$between"]),
            ({"a": [{"$between": [1, 2, 3]}]}, ["f.a[0].$between"]),
            ({"a b": {"c.d": 1}}, ['f["a b"]["c.d"]']),
            ({"a": 1, "b": [{"$gt": 1}, {"$x": 1, "$lt": "1"}]}, ["f.a", "f.b[1].$x", "f.b[1].$lt"]),
        ],
    )
    def test_what_it_refuses_is_refused_with_every_path(self, bad: Any, paths: list[str]) -> None:
        with pytest.raises(filters.InvalidFilter) as caught:
            filters.parse(bad, "f")

        assert [issue.path for issue in caught.value.issues] == paths

    @pytest.mark.parametrize(
        "greedy",
        [{"a": [{"$gt": 1}] * 101}, {"a": [{} for _ in range(100)]}, {f"k{n}": [1, True] for n in range(10_000)}],
    )
    def test_a_filter_that_is_too_much_is_refused_in_few_words(self, greedy: Any) -> None:
        with pytest.raises(filters.InvalidFilter) as caught:
            filters.parse(greedy)

        assert len(caught.value.issues) <= 100

    def test_a_parsed_filter_is_its_own(self) -> None:
        raw = {"a": [1]}
        parsed = filters.parse(raw)
        raw.clear()

        assert not parsed.matches({"a": 2})

    def test_a_bottomless_filter_is_refused_not_recursed_into(self) -> None:
        deep: Any = {}
        for _ in range(5000):
            deep = {"a": deep}
        with pytest.raises(filters.InvalidFilter):
            filters.parse(deep)

    @pytest.mark.parametrize(
        ("matcher", "warned"),
        [
            ([{"$between": [5, 1]}], True),
            ([{"$gt": 5}, {"$lt": 1}], True),
            ([{"$gt": 1, "$lt": 1}], True),
            ([{"$gte": 1, "$lte": 1}], False),
            ([{"$exists": False}, {"$gt": 1}], True),
            ([{"$isNull": True}, {"$startsWith": "x"}], True),
            ([{"$includes": 1}, {"$startsWith": "x"}], True),
            ([{"$includes": 1}, {"$not": 2}], False),
            ([{"$exists": False}, {"$anythingBut": 1}], False),
        ],
    )
    def test_what_can_never_match_is_warned_of(self, matcher: Any, warned: bool) -> None:
        assert bool(filters.parse({"a": matcher}).warnings) is warned


ABSENT = object()
VALUES = {
    "missing": ABSENT,
    "null": None,
    "string": "abc",
    "number": 5,
    "bool": True,
    "array": ["x", 5],
    "object": {"k": 1},
}
# For each operator: on which of the values above, in their order, it holds.
MATRIX = [
    ({"$startsWith": "a"}, "FFTFFFF"),
    ({"$startsWith": ""}, "FFTFFFF"),
    ({"$endsWith": "c"}, "FFTFFFF"),
    ({"$ignoreCaseEquals": "ABC"}, "FFTFFFF"),
    ({"$exists": True}, "FTTTTTT"),
    ({"$exists": False}, "TFFFFFF"),
    ({"$isNull": True}, "FTFFFFF"),
    ({"$isNull": False}, "TFTTTTT"),
    ({"$anythingBut": "abc"}, "TTFTTTT"),
    ({"$anythingBut": [5, 6]}, "TTTFTTT"),
    ({"$anythingBut": []}, "TTTTTTT"),
    ({"$anythingBut": "x"}, "TTTTTTT"),
    ({"$gt": 4}, "FFFTFFF"),
    ({"$lt": 6}, "FFFTFFF"),
    ({"$gte": 5}, "FFFTFFF"),
    ({"$lte": 5}, "FFFTFFF"),
    ({"$between": [5, 5]}, "FFFTFFF"),
    ({"$includes": 5}, "FFFFFTF"),
    ({"$includes": "ab"}, "FFFFFFF"),
    ({"$not": "x"}, "FFTTTFF"),
    ({"$not": True}, "FFTTFTF"),
]


@pytest.mark.parametrize(("item", "expected"), MATRIX, ids=str)
def test_each_operator_on_each_kind_of_value(item: Any, expected: str) -> None:
    payloads = [{} if value is ABSENT else {"a": value} for value in VALUES.values()]

    assert "".join("T" if matches({"a": [item]}, payload) else "F" for payload in payloads) == expected


@pytest.mark.parametrize(
    ("filter_", "value", "expected"),
    [
        ({}, [], True),  # where upstream says no
        ({}, [1], True),
        ({}, "text", True),
        ({}, None, True),
        ({"a": ["y"]}, [{"a": "x"}, {"a": "y"}], True),
        ({"a": ["y"]}, [], False),
        ({"a": ["y"], "b": [1]}, [{"a": "y"}, {"b": 1}], False),
        ({"length": [3]}, "str", False),  # JavaScript's artefacts
        ({"constructor": [{"$exists": True}]}, {}, False),
        ({"a": [{"$exists": False}]}, 5, True),
        ({"a": {"b": [{"$exists": False}]}}, {}, False),
        ({"a": {"b": [{"$exists": False}]}}, {"a": None}, False),
        ({"a": {"b": [{"$exists": False}]}}, {"a": {}}, True),
        ({"a": {"b": [{"$exists": False}]}}, {"a": "str"}, True),
        ({"a": {}}, {}, True),
        ({"a": {}}, {"a": None}, True),
        ({"a": {}}, {"a": []}, False),
        ({"a": {"b": [1]}}, {"a": [{"b": 2}, {"b": 1}]}, True),
        ({"a": {"b": [1]}}, {"a": [[{"b": 1}]]}, False),
        ({"a": ["x"]}, {"a": ["x"]}, False),
        ({"a": ["1"]}, {"a": 1}, False),
        ({"a": [1]}, {"a": True}, False),
        ({"a": [True]}, {"a": 1}, False),
        ({"a": [1]}, {"a": 1.0}, True),
        ({"a": [{"$gt": 1, "$lt": 5}]}, {"a": 3}, True),  # a range
        ({"a": [{"$gt": 1, "$lt": 5}]}, {"a": 7}, False),
        # Numbers are doubles, as in JavaScript; PostgreSQL gives 1e23 back as an integer.
        ({"a": [{"$gt": 10**30}]}, {"a": 10**30 + 1}, False),
        ({"a": [2**53]}, {"a": 2**53 + 1}, True),
        ({"a": [10**23]}, {"a": 1e23}, True),
        ({"a": [{"$includes": 10**23}]}, {"a": [1e23]}, True),
        ({"a": [{"$gt": 1e308}]}, {"a": 10**400}, True),
        ({"a": [{"$lt": -1e308}]}, {"a": -(10**400)}, True),
    ],
)
def test_odd_roots_nesting_and_equality(filter_: Any, value: Any, expected: bool) -> None:
    assert matches(filter_, value) is expected


@pytest.mark.parametrize(
    ("left", "right"),
    [("ABC", "abc"), ("é", "É"), ("e\u0301", "é"), ("ß", "ẞ"), ("ﬁ", "fi"), ("Ａ", "a"), ("１", "1"), ("①", "1")]
    + [("\u212a", "k"), ("Σ", "ς"), ("あ", "ア"), ("İ", "i\u0307"), ("a\u200bb", "ab"), ("a\0b", "ab")]
    + [("a\u00adb", "ab"), ("Ǆ", "ǆ"), ("Œ", "œ"), ("٣", "3"), ("९", "9"), ("ぁ", "ア"), ("ッ", "つ"), ("ﬅ", "ſt")],
)
def test_texts_that_collation_takes_for_equal(left: str, right: str) -> None:
    assert collation.fold(left) == collation.fold(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("é", "e"), ("ß", "ss"), ("ſ", "s"), ("I", "ı"), ("İ", "i"), ("a-b", "ab"), ("a b", "ab"), (" a", "a")]
    + [("æ", "ae"), ("ø", "o"), ("ﬅ", "st"), ("ẛ", "ṡ"), ("ば", "は"), ("½", "1")],
)
def test_texts_that_collation_keeps_apart(left: str, right: str) -> None:
    assert collation.fold(left) != collation.fold(right)


def test_a_text_of_nothing_but_marks_is_folded_in_the_time_of_its_length() -> None:
    # Decomposed as a whole this takes minutes.
    assert collation.fold("A" + "\u0301" * 250_000 + "\u0323" * 250_000).startswith("a")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
JSON = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3)
)
ITEMS = st.sampled_from([item for item, _ in MATRIX])
MATCHERS = (
    st.lists(st.text(max_size=3), max_size=3)
    | st.lists(st.integers(), max_size=3)
    | st.lists(st.booleans(), max_size=2)
    | st.lists(ITEMS, max_size=3)
)
FILTERS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), MATCHERS, max_size=3),
    lambda below: st.dictionaries(st.sampled_from("abc"), MATCHERS | below, max_size=3),
    max_leaves=6,
)


@given(FILTERS, JSON)
def test_matching_never_raises(filter_: Any, value: Any) -> None:
    assert matches(filter_, value) in (True, False)


@given(JSON)
def test_parsing_refuses_or_keeps_what_it_was_given(raw: Any) -> None:
    try:
        assert filters.parse(raw).raw == raw
    except filters.InvalidFilter as error:
        assert error.issues


@given(st.lists(ITEMS, min_size=1, max_size=3), JSON)
def test_a_list_of_operators_means_all_of_them(items: list[Any], value: Any) -> None:
    assert matches({"a": items}, {"a": value}) is all(matches({"a": [item]}, {"a": value}) for item in items)


@given(st.lists(ITEMS, min_size=1, max_size=3), JSON)
def test_what_is_warned_of_never_matches(items: list[Any], value: Any) -> None:
    parsed = filters.parse({"a": items})
    if parsed.warnings:
        assert not parsed.matches({"a": value})
        assert not parsed.matches({})
