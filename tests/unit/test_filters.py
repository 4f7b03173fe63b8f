"""The filter language, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from kongflow_events import filters

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
