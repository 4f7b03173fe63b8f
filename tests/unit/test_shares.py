"""How many threads one environment's work may have."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from kongflow_events.shares import Shares

ALICE, BOB = (uuid.UUID(int=number) for number in (1, 2))


class Work(NamedTuple):
    environment_id: uuid.UUID


def of(environment: uuid.UUID, full: Sequence[uuid.UUID]) -> Work | None:
    return None if environment in full else Work(environment)


def test_an_environment_that_has_its_share_gets_no_more_until_some_of_it_is_done() -> None:
    shares = Shares()
    with shares.one(2, lambda full: of(ALICE, full)) as first:
        with (
            shares.one(2, lambda full: of(ALICE, full)) as second,
            shares.one(2, lambda full: of(ALICE, full)) as third,
        ):
            assert (first, second, third) == (Work(ALICE), Work(ALICE), None)
            with shares.one(2, lambda full: of(BOB, full)) as other:
                assert other == Work(BOB)
        with shares.one(2, lambda full: of(ALICE, full)) as again:
            assert again == Work(ALICE)
    assert not shares._under_way


def test_work_that_fails_is_done_too() -> None:
    shares = Shares()
    with pytest.raises(ZeroDivisionError), shares.one(1, lambda full: of(ALICE, full)) as work:
        assert 1 // len([one for one in (work,) if one is None])
    assert not shares._under_way
