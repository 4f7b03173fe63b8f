"""What the filter language has beyond trigger.dev's: every filter here is one that its schema refuses."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kongflow_events import filters
from tests.unit.test_filters import FILTERS, JSON, VALUES, matches

TEXTS = ["abc", "abd", "x"]
# For each operator: on which of VALUES (missing, null, "abc", 5, true, ["x", 5], {"k": 1}) it holds.
MATRIX = [
    ({"$startsWith": ["z", "ab"]}, "FFTFFFF"),
    ({"$startsWith": ["z", "y"]}, "FFFFFFF"),
    ({"$endsWith": ["z", "bc"]}, "FFTFFFF"),
    ({"$ignoreCaseEquals": ["z", "ABC"]}, "FFTFFFF"),
    ({"$in": ["abc", 5, True, None]}, "FTTTTFF"),
    ({"$in": [1, "5"]}, "FFFFFFF"),
    ({"$in": []}, "FFFFFFF"),
    ({"$nin": ["abc", 5, True, None]}, "TFFFFTT"),
    ({"$nin": []}, "TTTTTTT"),
    ({"$contains": "b"}, "FFTFFFF"),
    ({"$contains": ["z", ""]}, "FFTFFFF"),
    ({"$contains": "x"}, "FFFFFFF"),
    ({"$wildcard": "a*"}, "FFTFFFF"),
    ({"$wildcard": ["z*", "*b*"]}, "FFTFFFF"),
    ({"$wildcard": "a"}, "FFFFFFF"),
    ({"$regex": "^a.c$"}, "FFTFFFF"),
    ({"$regex": "b"}, "FFTFFFF"),
    ({"$regex": "^5"}, "FFFFFFF"),
    ({"$cidr": "0.0.0.0/0"}, "FFFFFFF"),
    ({"$before": "2100-01-01T00:00:00Z"}, "FFFFFFF"),
    ({"$after": "1900-01-01"}, "FFFFFFF"),
    ({"$size": 2}, "FFFFFTF"),
    ({"$size": {"$gte": 1, "$lt": 2}}, "FFFFFFF"),
    ({"$size": {"$gt": 1}}, "FFFFFTF"),
]


@pytest.mark.parametrize(("item", "expected"), MATRIX, ids=str)
def test_each_operator_on_each_kind_of_value(item: Any, expected: str) -> None:
    values = list(VALUES.values())
    payloads = [{}, *({"a": value} for value in values[1:])]

    assert "".join("T" if matches({"a": [item]}, payload) else "F" for payload in payloads) == expected


@pytest.mark.parametrize(
    ("item", "value", "expected"),
    [
        ({"$in": [1, True]}, 1.0, True),
        ({"$in": [True]}, 1, False),
        ({"$in": [0]}, False, False),
        ({"$in": ["null"]}, None, False),
        ({"$wildcard": ""}, "", True),
        ({"$wildcard": "*"}, "", True),
        ({"$wildcard": "**"}, "anything\nat all", True),
        ({"$wildcard": "a*a"}, "a", False),
        ({"$wildcard": "a*a"}, "aa", True),
        ({"$wildcard": "*ab*ab*"}, "abab", True),
        ({"$wildcard": "*ab*ab*"}, "aab b", False),
        ({"$wildcard": "ab*b*c"}, "abc", False),
        ({"$wildcard": "a*bc*c"}, "abc", False),
        ({"$wildcard": r"a\*"}, "a*", True),
        ({"$wildcard": r"a\*"}, "ab", False),
        ({"$wildcard": r"a\\*"}, "a\\b", True),
        ({"$wildcard": "a.c"}, "abc", False),
        ({"$wildcard": "Ü*"}, "Übel", True),
        ({"$regex": "(?i)^PAID$"}, "paid", True),
        ({"$regex": "^ü.$"}, "üb", True),
        ({"$regex": "a$"}, "a\n", False),
        ({"$cidr": "10.0.0.0/8"}, "10.1.2.3", True),
        ({"$cidr": "10.0.0.0/8"}, "11.1.2.3", False),
        ({"$cidr": "10.0.0.0/8"}, "::ffff:10.1.2.3", True),
        ({"$cidr": ["192.168.0.0/16", "2001:db8::/32"]}, "2001:DB8::1", True),
        ({"$cidr": "10.0.0.0/8"}, "10.1.2.03", False),
        ({"$cidr": "10.0.0.0/8"}, "10.1.2.3/32", False),
        ({"$cidr": "10.0.0.1"}, "10.0.0.1", True),
        ({"$cidr": "::ffff:10.0.0.0/104"}, "10.1.1.1", True),
        ({"$cidr": "::ffff:10.0.0.0/104"}, "::ffff:10.1.1.1", True),
        ({"$cidr": "::ffff:10.0.0.0/104"}, "11.1.1.1", False),
        ({"$cidr": "fe80::/10"}, "fe80::1%eth0", False),
        ({"$before": "2024-01-01T00:00:00Z"}, "2024-01-01T00:59:59+01:00", True),
        ({"$before": "2024-01-01T00:00:00Z"}, "2024-01-01T01:00:00+01:00", False),
        ({"$after": "2024-01-01T00:00:00Z"}, "2024-01-01T00:00:00.000001Z", True),
        ({"$after": "2024-01-01"}, "2024-01-02", True),
        ({"$after": "2024-01-01"}, "tomorrow", False),
        ({"$after": "2024-01-01"}, "2024-02-30T00:00:00Z", False),
        ({"$after": "2024-01-01"}, 1_900_000_000_000, False),
        ({"$size": 0}, [], True),
        ({"$size": 2.0}, [1, 2], True),
        ({"$size": 1}, "a", False),
    ],
)
def test_an_operator_on_a_value(item: Any, value: Any, expected: bool) -> None:
    assert matches({"a": [item]}, {"a": value}) is expected


@given(st.text("ab*\\", max_size=8), st.text("ab*\\", max_size=8))
def test_a_wildcard_is_the_expression_that_says_the_same(pattern: str, value: str) -> None:
    try:
        answer = matches({"a": [{"$wildcard": pattern}]}, {"a": value})
    except filters.InvalidFilter:
        assert re.search(r"(?<!\\)(\\\\)*\\([^\\*]|$)", pattern)
        return
    parts = re.findall(r"\\.|.", pattern)
    expression = "".join(".*" if part == "*" else re.escape(part[-1]) for part in parts)

    assert answer is (re.fullmatch(expression, value, re.DOTALL) is not None)


def test_a_text_that_is_too_long_to_be_searched_is_not() -> None:
    longest = {"a": "x" * 65_536}

    assert matches({"a": [{"$regex": "^x+$"}]}, longest)
    assert not matches({"a": [{"$regex": "^x+$"}]}, {"a": "x" * 65_537})


@pytest.mark.parametrize("expression", ["(x+x+)+y", "(x|xx)*c", "(?:x?){80}x{80}c", "x[xb]{60}c"])
def test_no_expression_goes_back(expression: str) -> None:
    # A backtracking engine takes longer than the universe has on the first of these.
    assert not matches({"a": [{"$regex": expression}]}, {"a": "x" * 30_000 + "b"})


class TestCombinations:
    @pytest.mark.parametrize(
        ("filter_", "value", "expected"),
        [
            ({"$or": [{"a": ["x"]}, {"b": [1]}]}, {"a": "x"}, True),
            ({"$or": [{"a": ["x"]}, {"b": [1]}]}, {"b": 1}, True),
            ({"$or": [{"a": ["x"]}, {"b": [1]}]}, {"a": "y"}, False),
            ({"$or": [{"a": ["x"]}, {"b": [1]}], "c": [1]}, {"a": "x"}, False),
            ({"$or": [{"a": ["x"]}, {"b": [1]}], "c": [1]}, {"a": "x", "c": 1}, True),
            ({"$and": [{"a": ["x"]}, {"b": [1]}]}, {"a": "x", "b": 1}, True),
            ({"$and": [{"a": ["x"]}, {"b": [1]}]}, {"a": "x"}, False),
            ({"$nor": [{"a": ["x"]}, {"b": [1]}]}, {"a": "y"}, True),
            ({"$nor": [{"a": ["x"]}, {"b": [1]}]}, {"b": 1}, False),
            ({"$nor": [{"a": ["x"]}]}, {}, True),
            ({"o": {"$or": [{"a": ["x"]}, {"b": [1]}]}}, {"o": {"b": 1}}, True),
            ({"o": {"$or": [{"a": ["x"]}, {"b": [1]}]}}, {}, False),  # nothing is there, as in any filter
            ({"o": {"$nor": [{"a": ["x"]}]}}, {"o": None}, False),
            ({"o": {"$nor": [{"a": ["x"]}]}}, {"o": "text"}, True),
            ({"$or": [{"$and": [{"a": [1]}, {"b": [2]}]}, {"c": [3]}]}, {"a": 1, "b": 2}, True),
            ({"$or": [{"a": ["x"]}, {"b": [1]}]}, [{"c": 1}, {"b": 1}], True),
            # One element has to satisfy all of it.
            ({"items": {"sku": ["a"], "$or": [{"qty": [1]}]}}, {"items": [{"sku": "a"}, {"qty": 1}]}, False),
            ({"items": {"sku": ["a"], "$or": [{"qty": [1]}]}}, {"items": [{"sku": "a", "qty": 1}]}, True),
            ({"o": {"b": [{"$exists": False}], "$or": [{"c": ["x"]}]}}, {"o": "text"}, False),
            ({"$or": [{}]}, {"a": 1}, True),
            ({"$nor": [{}]}, {"a": 1}, False),
        ],
    )
    def test_sub_filters_look_at_the_value_they_stand_in(self, filter_: Any, value: Any, expected: bool) -> None:
        assert matches(filter_, value) is expected

    @pytest.mark.parametrize(
        ("filter_", "payload", "expected"),
        [
            ({"$or": [{"$exists": True}]}, {"$or": 1}, True),
            ({"$or": [{"$exists": True}]}, {"a": 1}, False),
            ({"$or": ["x", "y"]}, {"$or": "y"}, True),
            ({"$or": []}, {}, True),
            ({"$and": {"a": ["x"]}}, {"$and": {"a": "x"}}, True),
            ({"$nor": [{"$gt": 1}, {"$lt": 9}]}, {"$nor": 5}, True),
        ],
    )
    def test_what_upstream_takes_is_a_filter_on_a_key_of_that_name_and_warned_of(
        self, filter_: Any, payload: Any, expected: bool
    ) -> None:
        assert matches(filter_, payload) is expected
        [warning] = filters.parse(filter_).warnings
        assert "read as a key of the event" in warning

    @given(FILTERS, FILTERS, JSON)
    def test_they_are_logic(self, one: Any, two: Any, value: Any) -> None:
        def holds(filter_: Any) -> bool:
            return matches({"k": filter_}, {"k": {"x": value}})

        below_one, below_two = {"x": one}, {"x": two}
        assert holds({"$or": [below_one, below_two]}) is (holds(below_one) or holds(below_two))
        assert holds({"$and": [below_one, below_two]}) is (holds(below_one) and holds(below_two))
        assert holds({"$nor": [below_one, below_two]}) is not (holds(below_one) or holds(below_two))


class TestRefusals:
    @pytest.mark.parametrize(
        ("bad", "path", "said"),
        [
            ({"a": [{"$startsWith": []}]}, "f.a[0].$startsWith", "a string, or a list of 1 to 1000 strings"),
            ({"a": [{"$startsWith": ["a", 1]}]}, "f.a[0].$startsWith", "a string, or a list"),
            ({"a": [{"$in": "a"}]}, "f.a[0].$in", "a list of at most 1000 strings, numbers, booleans and nulls"),
            ({"a": [{"$nin": [["a"]]}]}, "f.a[0].$nin", "a list of at most 1000"),
            ({"a": [{"$in": list(range(1001))}]}, "f.a[0].$in", "at most 1000"),
            ({"a": [{"$regex": "("}]}, "f.a[0].$regex", "missing ): ("),
            ({"a": [{"$regex": r"(a)\1"}]}, "f.a[0].$regex", "invalid escape sequence"),
            ({"a": [{"$regex": "(?=a)"}]}, "f.a[0].$regex", "invalid perl operator"),
            ({"a": [{"$regex": r"\pL{100}"}]}, "f.a[0].$regex", "more than 2000 steps together"),
            ({"a": [{"$regex": "a" * 501}]}, "f.a[0].$regex", "500 characters"),
            ({"a": [{"$regex": ["a"]}]}, "f.a[0].$regex", "a regular expression, which is a string"),
            ({"a": [{"$wildcard": "a\\b"}]}, "f.a[0].$wildcard", "A backslash stands only before"),
            ({"a": [{"$wildcard": "a\\"}]}, "f.a[0].$wildcard", "A backslash stands only before"),
            ({"a": [{"$wildcard": "a" * 501}]}, "f.a[0].$wildcard", "500 characters"),
            ({"a": [{"$cidr": "10.0.0.0/33"}]}, "f.a[0].$cidr", "Expected a network as 10.0.0.0/8"),
            ({"a": [{"$cidr": "10.0.0.1/8"}]}, "f.a[0].$cidr", "has host bits set"),
            ({"a": [{"$before": "tomorrow"}]}, "f.a[0].$before", "Expected a time as in RFC 3339"),
            ({"a": [{"$after": 5}]}, "f.a[0].$after", "Expected a time, which is a string, received number"),
            ({"a": [{"$size": -1}]}, "f.a[0].$size", "a length, or an object"),
            ({"a": [{"$size": 1.5}]}, "f.a[0].$size", "a length, or an object"),
            ({"a": [{"$size": {}}]}, "f.a[0].$size", "a length, or an object"),
            ({"a": [{"$size": {"$eq": 1}}]}, "f.a[0].$size", "a length, or an object"),
            ({"$or": [{"a": "x"}]}, "f.$or[0].a", "a list of strings"),
            ({"$or": [{"a": ["x"]}, 5]}, "f.$or[1]", "Expected a filter, which is an object, received number"),
            ({"$or": [{"$regex": "x"}]}, "f.$or[0].$regex", "a list of strings"),
            ({"$and": [{"$or": [{"a": [{"$x": 1}]}]}]}, "f.$and[0].$or[0].a[0].$x", "Unknown operator"),
            (
                {"a": [{"$regex": "a{900}"}, {"$regex": "b{900}"}, {"$regex": "c{900}"}]},
                "f.a[2].$regex",
                "steps together",
            ),
            ({"$or": [{"a": ["x"]}] * 101}, "f.$or", "$or must not hold more than 100 filters"),
            ({"$or": [{"$exists": True}, {"a": ["x"]}]}, "f.$or[0].$exists", "a list of strings"),
            ({"a": [{"$cidr": "fe80::%eth0/64"}]}, "f.a[0].$cidr", "a zone"),
        ],
    )
    def test_a_mistake_is_named_by_its_path(self, bad: Any, path: str, said: str) -> None:
        with pytest.raises(filters.InvalidFilter) as caught:
            filters.parse(bad, "f")

        [issue] = caught.value.issues
        assert issue.path == path
        assert said in issue.message

    def test_sub_filters_nest_no_deeper_than_others(self) -> None:
        deep: Any = {"a": ["x"]}
        for _ in range(64):
            deep = {"$or": [deep]}
        with pytest.raises(filters.InvalidFilter, match="deeper than 64"):
            filters.parse(deep)


class TestWarnings:
    @pytest.mark.parametrize(
        "hopeless",
        [
            {"a": [{"$in": []}]},
            {"a": [{"$in": [1, 2]}, {"$gt": 2}]},
            {"a": [{"$in": ["x"]}, {"$startsWith": "y"}]},
            {"a": [{"$in": [None]}, {"$isNull": False}]},
            {"a": [{"$startsWith": "ab"}, {"$startsWith": ["b", "ac"]}]},
            {"a": [{"$endsWith": "ab"}, {"$endsWith": "aa"}]},
            {"a": [{"$after": "2024-01-01"}, {"$before": "2023-01-01"}]},
            {"a": [{"$after": "2024-01-01"}, {"$before": "2024-01-01"}]},
            {"a": [{"$size": 1}, {"$size": 2}]},
            {"a": [{"$size": {"$gt": 5, "$lt": 2}}]},
            {"a": [{"$size": {"$lt": 0}}]},
            {"a": [{"$size": 1}, {"$startsWith": "x"}]},
            {"a": [{"$cidr": "10.0.0.0/8"}, {"$exists": False}]},
            {"a": [{"$gt": 5}], "$and": [{"a": [{"$lt": 1}]}]},
            {"$and": [{"a": ["x"]}, {"a": ["y"]}]},
            {"$and": [{"a": [1]}, {"$and": [{"a": [{"$gt": 1}]}]}]},
            {"$nor": [{}]},
            {"$nor": [{"b": []}]},
            {"a": [{"$size": {"$gt": 0, "$lt": 1}}]},
            {"a": [{"$in": ["A"]}, {"$ignoreCaseEquals": "b"}]},
            {"b": {"$or": [{"a": [{"$gt": 1, "$lt": 0}]}]}},
        ],
        ids=json.dumps,
    )
    def test_what_can_never_match_is_accepted_and_said(self, hopeless: Any) -> None:
        assert len(filters.parse(hopeless).warnings) == 1

    @pytest.mark.parametrize(
        "hopeful",
        [
            {"a": [{"$in": [1, 2]}, {"$gt": 1}]},
            {"a": [{"$startsWith": "ab"}, {"$startsWith": ["b", "a"]}]},
            {"a": [{"$startsWith": "a"}, {"$endsWith": "b"}]},
            {"a": [{"$after": "2024-01-01"}, {"$before": "2024-01-02"}]},
            {"a": [{"$size": 0}]},
            {"a": [{"$size": {"$gte": 2, "$lte": 2}}]},
            {"a": [{"$nin": [1]}, {"$gt": 0}]},
            {"$and": [{"a": ["x", "y"]}, {"a": ["y"]}]},
            {"$and": [{"a": {"b": ["x"]}}, {"a": {"b": ["y"]}}]},  # a may be a list
            {"$or": [{"a": ["x"]}, {"a": ["y"]}]},
            {"$nor": [{"a": ["x"]}]},
            {"a": [{"$startsWith": "ab"}, {"$startsWith": "a"}]},
            {"a": [{"$startsWith": "a"}, {"$startsWith": "ab"}]},
        ],
        ids=json.dumps,
    )
    def test_what_can_is_not(self, hopeful: Any) -> None:
        assert filters.parse(hopeful).warnings == ()

    def test_a_sub_filters_keys_are_no_operators_of_the_combination(self) -> None:
        asked = filters.parse({"$and": [{"b": ["z"]}], "$or": [{"$in": ["x"]}, {"$in": ["y"]}]})

        assert asked.matches({"b": "z", "$in": "x"})
        assert not [warning for warning in asked.warnings if "no value" in warning]

    @given(st.lists(st.sampled_from([item for item, _ in MATRIX]), min_size=1, max_size=3), JSON)
    def test_what_is_warned_of_never_matches(self, items: list[Any], value: Any) -> None:
        parsed = filters.parse({"a": items})
        if parsed.warnings:
            assert not parsed.matches({"a": value})
            assert not parsed.matches({})

    @pytest.mark.parametrize("depth", [1, 29])
    def test_looking_for_contradictions_ends(self, depth: int) -> None:
        # Looked for anew at each level, this takes minutes.
        texts = ["a" * n for n in range(1, 101)]
        deep: Any = {f"k{n}": [{"$startsWith": texts}] * 50 + [{"$in": texts}] * 50 for n in range(20)}
        for _ in range(depth):
            deep = {"$and": [deep]}

        assert filters.parse(deep).warnings == ()


class TestBounds:
    def test_many_conditions_on_a_long_text_fold_it_once(self) -> None:
        # Folded for each of them, it takes a minute.
        asked = {"$or": [{"a": [{"$ignoreCaseEquals": f"\N{LATIN SMALL LETTER E WITH ACUTE}{n}"}]} for n in range(100)]}

        assert not matches(asked, {"a": "\N{LATIN SMALL LETTER E WITH ACUTE}" * 32_000})

    def test_explaining_costs_about_as_much_as_matching(self) -> None:
        # With a look at the whole at each level it takes half a minute.
        asked: Any = {"x": ["q"]}
        value: Any = {"x": "n"}
        for _ in range(14):
            asked = {"a": {"b": asked, "$or": [{"z": ["q"]}, {"y": ["q"]}]}}
            value = {"a": [{"b": value}, {"b": value}]}
        told = filters.parse(asked).explain(value, "payload")

        assert told.holds is filters.parse(asked).matches(value) is False

    def test_the_element_that_passes_is_shown_wherever_it_is(self) -> None:
        told = filters.parse({"a": {"b": ["x"]}}).explain({"a": [{"b": "n"}] * 120 + [{"b": "x"}]}, "payload")

        [below] = told.checks
        assert (told.holds, below.note) == (True, "of 121 elements, payload.a[120] passes")
        assert below.checks[0].holds


@given(FILTERS, JSON)
def test_an_explanation_says_what_matching_says(filter_: Any, value: Any) -> None:
    asked = {"k": filter_, "$nor": [{"l": filter_}]}
    parsed = filters.parse(asked)
    for payload in ({"k": value, "l": value}, {"k": [value], "l": 1}, value):
        told = parsed.explain(payload, "payload")

        assert told.holds is parsed.matches(payload)
        assert told.holds or filters.failure(told)
