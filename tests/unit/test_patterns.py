"""Patterns of names: what hears what, found by looking up and not by comparing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kongflow_events import patterns

NAMES = st.lists(st.sampled_from(["a", "b", "", "*", "a*"]), min_size=1, max_size=5).map(".".join)


@pytest.mark.parametrize(
    ("name", "heard"),
    [
        ("paid", ["paid", "*"]),
        ("order.paid", ["order.paid", "*", "order.*", "*.paid"]),
        ("a.b.c", ["a.b.c", "*", "a.*", "a.b.*", "*.b.c", "a.*.c"]),
        ("", ["", "*"]),
        ("*", ["*"]),
    ],
)
def test_a_name_is_heard_by_itself_and_by_every_pattern_it_matches(name: str, heard: list[str]) -> None:
    assert patterns.heard_by(name) == heard


@given(NAMES, NAMES)
def test_a_pattern_hears_what_the_expression_that_says_the_same_matches(pattern: str, name: str) -> None:
    segments = pattern.split(".")
    if patterns.mistake(pattern):
        assert segments.count("*") > 1
        return
    expression = r"\.".join(r"[^.]*" if one == "*" else re.escape(one) for one in segments)
    if segments[-1] == "*":
        expression = expression.removesuffix(r"[^.]*") + ".*"

    assert (pattern in patterns.heard_by(name)) is (re.fullmatch(expression, name) is not None)


@pytest.mark.parametrize("name", [".".join("a" * 16), ".".join("a" * 17), ".".join("a" * 100_000), "a" * 1_000_000])
def test_a_name_of_any_length_is_looked_up_by_few(name: str) -> None:
    heard = patterns.heard_by(name)

    assert len(heard) <= 2 * patterns.MOST_SEGMENTS
    assert max(map(len, heard)) <= patterns.LONGEST
    assert "*" in heard


def test_the_deepest_patterns_hear() -> None:
    deep = ["a"] * 15

    assert ".".join([*deep, "*"]) in patterns.heard_by(".".join([*deep, "b", "c", "d"]))
    assert ".".join(["*", *deep]) in patterns.heard_by(".".join(["b", *deep]))
    assert patterns.mistake(".".join([*deep, "*"])) is None
    assert patterns.mistake(".".join([*deep, "a", "*"])) is not None


@pytest.mark.parametrize(("name", "odd"), [("order*", True), ("a.b*.c", True), ("order.*", False), ("order", False)])
def test_a_star_that_stands_for_nothing_is_pointed_out(name: str, odd: bool) -> None:
    assert (patterns.oddity(name) is not None) is odd
