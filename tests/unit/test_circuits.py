"""How a target's standing changes with each call, as a table of decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kongflow_events import circuits
from kongflow_events.circuits import Call, Rules, Standing

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = Rules(failures=5, days=5)
FAILED, SUCCEEDED = Call(succeeded=False), Call(succeeded=True)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def calls(*history: tuple[float, Call], standing: Standing | None = None) -> tuple[Standing, list[str]]:
    """The standing after these calls, and every change on the way."""
    standing, changes = standing or Standing(), []
    for seconds, call in history:
        standing, change = circuits.after(standing, call, at(seconds), RULES, luck=0.5)
        changes += [change] if change else []
    return standing, changes


OPEN, _ = calls(*((seconds, FAILED) for seconds in range(0, 10, 2)))


class TestOpening:
    def test_five_failures_in_a_row_over_five_seconds_open_the_circuit_for_ten(self) -> None:
        standing, changes = calls((0, FAILED), (1, FAILED), (2, FAILED), (3, FAILED), (5, FAILED))

        assert changes == ["opened"]
        assert (standing.opened_at, standing.rests_until, standing.pauses) == (at(5), at(15), 1)

    def test_one_bad_moment_does_not_however_many_calls_meet_it(self) -> None:
        standing, changes = calls(*((number / 10, FAILED) for number in range(50)))

        assert (standing.failures, standing.opened_at, standing.rests_until, changes) == (50, None, None, [])

    def test_four_failures_do_not_however_long_they_take(self) -> None:
        assert calls(*((number * 3600, FAILED) for number in range(4)))[1] == []

    def test_a_success_between_them_begins_the_count_anew(self) -> None:
        failures = [(float(number), FAILED) for number in range(4)]

        standing, changes = calls(*failures, (10, SUCCEEDED), *((second + 20, call) for second, call in failures))

        assert (standing.failures, standing.failing_since, changes) == (4, at(20), [])


class TestOpen:
    def test_a_probe_that_fails_doubles_the_pause_up_to_ten_minutes(self) -> None:
        standing, pauses = OPEN, []
        for _ in range(9):
            ended = standing.rests_until
            assert ended is not None
            standing, change = circuits.after(standing, Call(False, probe=True), ended, RULES, luck=0.5)
            assert change is None
            assert standing.rests_until is not None
            pauses.append((standing.rests_until - ended).total_seconds())

        assert pauses == [20, 40, 80, 160, 320, 600, 600, 600, 600]

    def test_calls_that_were_under_way_when_it_opened_do_not_lengthen_the_pause(self) -> None:
        standing, changes = calls((9, FAILED), (10, FAILED), standing=OPEN)

        assert (standing.failures, standing.rests_until, changes) == (7, OPEN.rests_until, [])

    def test_a_success_closes_it_and_leaves_nothing_behind(self) -> None:
        assert calls((9, SUCCEEDED), standing=OPEN) == (Standing(), ["closed"])

    @given(st.integers(1, 10_000), st.floats(0, 1))
    def test_no_pause_is_longer_than_twelve_minutes_nor_shorter_than_eight_seconds(
        self, pauses: int, luck: float
    ) -> None:
        assert 8 <= circuits.pause_after(pauses, luck) <= 720


class TestWishes:
    def test_a_receiver_that_asks_is_left_alone_though_its_circuit_stays_closed(self) -> None:
        standing, changes = calls((0, Call(False, asked=60.0)))

        assert (standing.rests_until, standing.opened_at, changes) == (at(60), None, [])

    def test_a_wish_does_not_shorten_one_that_came_before(self) -> None:
        assert calls((0, Call(False, asked=60.0)), (1, Call(False, asked=5.0)))[0].rests_until == at(60)

    def test_a_wish_longer_than_the_circuits_pause_outlasts_it(self) -> None:
        assert calls((18, Call(False, probe=True, asked=3600.0)), standing=OPEN)[0].rests_until == at(3618)

    def test_a_success_of_a_call_that_was_under_way_does_not_end_the_rest(self) -> None:
        standing, _ = calls((0, Call(False, asked=60.0)), (1, SUCCEEDED))

        assert standing == Standing(rests_until=at(60))

    def test_a_receiver_that_is_gone_is_given_up_at_once(self) -> None:
        standing, changes = calls((7, Call(False, gone=True)))

        assert changes == ["disabled"]
        assert (standing.disabled_at, standing.disabled_reason) == (at(7), "the target answered 410")
        assert (standing.opened_at, standing.rests_until) == (None, None)


class TestGivingUp:
    DAYS = 5 * 24 * 3600

    @pytest.mark.parametrize(("seconds", "changes"), [(DAYS - 1, []), (DAYS, ["disabled"])])
    def test_five_days_of_nothing_but_failures_are_enough(self, seconds: float, changes: list[str]) -> None:
        standing, changed = calls((seconds, Call(False, probe=True)), standing=OPEN)

        assert changed == changes
        assert (standing.disabled_reason == "nothing but failures for 5 days") == bool(changes)

    def test_two_failures_five_days_apart_are_not(self) -> None:
        assert calls((0, FAILED), (2 * self.DAYS, FAILED))[1] == []

    def test_no_number_of_days_is_for_ever(self) -> None:
        rules = Rules(failures=5, days=0)

        assert circuits.after(OPEN, Call(False, probe=True), at(100 * self.DAYS), rules)[1] is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans(), st.booleans(), st.sampled_from([None, 0.0, 60.0]))))
def test_a_circuit_is_open_only_after_enough_failures_in_a_row(
    history: list[tuple[float, bool, bool, float | None]],
) -> None:
    standing, failed, clock = Standing(), 0, 0.0
    for seconds, succeeded, probe, asked in history:
        clock += seconds
        standing, _ = circuits.after(standing, Call(succeeded, probe, asked), at(clock), Rules(5, 0))
        failed = 0 if succeeded else failed + 1

        assert standing.failures == failed
        assert standing.opened_at is None or (failed >= 5 and standing.rests_until is not None)
        assert (standing.pauses > 0) == (standing.opened_at is not None)
