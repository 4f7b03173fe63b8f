"""Statements that a connection plans once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from kongflow_events.store import db

pytestmark = pytest.mark.usefixtures("store")

DOUBLED = db.Prepared(
    "doubled", "SELECT number * 2 AS number FROM unnest(%(numbers)s::int[]) AS number WHERE number > %(least)s"
)
SAID_TWICE = db.Prepared("said_twice", "SELECT %(text)s AS first, %(text)s::text AS second")
PLANNED = "SELECT count(*) AS count FROM pg_prepared_statements WHERE name = 'doubled'"


def doubled(numbers: list[int], least: int = 0) -> list[int]:
    return [row["number"] for row in DOUBLED.rows({"numbers": numbers, "least": least})]


def test_it_is_planned_once_and_runs_with_other_values_each_time() -> None:
    with db.unit():
        assert [doubled([1, 2]), doubled([]), doubled([3, 4], least=3)] == [[2, 4], [], [8]]
        assert db.rows(PLANNED)[0]["count"] == 1


def test_a_parameter_that_stands_in_two_places_is_given_once() -> None:
    with db.unit():
        assert SAID_TWICE.rows({"text": "100 % $1 \\ '"}) == [{"first": "100 % $1 \\ '", "second": "100 % $1 \\ '"}]


def test_it_outlives_the_transaction_that_planned_it() -> None:
    with db.unit():
        with pytest.raises(ZeroDivisionError), db.atomic():
            assert doubled([1]) == [2 // len(doubled([]))]
        assert doubled([1]) == [2]


def test_another_connection_plans_it_for_itself() -> None:
    def use(numbers: list[int]) -> list[int]:
        with db.unit():
            return doubled(numbers)

    with db.unit(), ThreadPoolExecutor(1) as other:
        assert doubled([1]) == [2]
        assert other.submit(use, [2]).result() == [4]
    db.close()
    assert use([3]) == [6]
