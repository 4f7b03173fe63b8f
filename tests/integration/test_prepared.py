"""Statements that a connection plans once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from kongflow_events.store import db, deliveries, events, invocations, outbox, posts

pytestmark = pytest.mark.usefixtures("store")

DOUBLED = db.Prepared(
    "doubled", "SELECT number * 2 AS number FROM unnest(%(numbers)s::int[]) AS number WHERE number > %(least)s"
)
SAID_TWICE = db.Prepared("said_twice", "SELECT %(text)s AS first, %(text)s::text AS second")
LISTED = db.Prepared(
    "listed", "SELECT %(texts)s::text[] AS texts, %(times)s::timestamptz[] AS times, %(ids)s::uuid[] AS ids"
)
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


def test_elements_of_lists_keep_their_characters() -> None:
    texts = ["", " ", "NULL", "null", "{a,b}", 'say "a"', "a\\b\\", "it's", "$1 %s %(x)s", "\n\t", "é☃\U0001f600", None]
    with db.unit():
        assert LISTED.rows({"texts": texts, "times": [], "ids": []})[0]["texts"] == texts


def test_lists_of_times_and_ids_are_what_they_were() -> None:
    times = [datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 11, 24, 1, 2, 3, 4, tzinfo=UTC), None]
    ids = [uuid.UUID(int=1), None, type("Id", (uuid.UUID,), {})(int=2)]
    with db.unit():
        [row] = LISTED.rows({"texts": [], "times": times, "ids": ids})
    assert (row["times"], row["ids"]) == (times, ids)


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


TAKES = (deliveries._TAKE, invocations._TAKE, posts._LOCK, posts._CLAIM, posts._FINISH, posts._POSTPONE)
HOT = (
    *TAKES,
    events._SEND,
    deliveries._LOCK,
    deliveries.CANDIDATES,
    deliveries._INVOKE,
    invocations._STARTS,
    invocations._FINISH,
    outbox._WAITING,
    outbox._HINT_OLDEST,
    outbox._HINT_NEXT,
)


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read a table or an index."""
    if "Scan" in node["Node Type"]:
        yield node
    for below in node.get("Plans", []):
        yield from scans(below)


def plan_for_all_values(statement: db.Prepared) -> list[dict[str, Any]]:
    """The scans of the plan that is kept, made now: the tables are empty."""
    with db.unit():
        db.run("SET plan_cache_mode = force_generic_plan")
        nothing = dict.fromkeys(name for name, _ in db._PARAMETER.findall(statement.sql))
        [explained] = db.rows(f"EXPLAIN (FORMAT JSON) {statement.planned()}", nothing)
    return list(scans(explained["QUERY PLAN"][0]["Plan"]))


@pytest.mark.parametrize("statement", HOT, ids=lambda statement: statement._name)
def test_a_plan_that_was_made_while_its_tables_were_empty_reads_none_of_them_whole(statement: db.Prepared) -> None:
    found = plan_for_all_values(statement)
    assert found
    assert [scan for scan in found if scan["Node Type"] == "Seq Scan"] == []


@pytest.mark.parametrize("statement", TAKES, ids=lambda statement: statement._name)
def test_what_is_taken_is_found_by_its_ids_and_not_by_its_kind(statement: db.Prepared) -> None:
    indexes = {scan["Index Name"] for scan in plan_for_all_values(statement) if "Index Name" in scan}
    assert {name for name in indexes if name.startswith("outbox")} == {"outbox_pkey"}
