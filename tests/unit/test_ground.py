"""Settings, retries, addresses, and the small rules that everything stands on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kongflow_events import errors, retries, settings, words


class TestSettings:
    def test_nothing_set_gives_the_defaults(self) -> None:
        assert (
            settings.load({"PATH": "/bin", "KONGFLOW_URL": "http://x", "KONGFLOW_TEST_ANY": "1"}) == settings.Settings()
        )

    def test_variables_are_read_by_their_names(self) -> None:
        loaded = settings.load(
            {"DATABASE_URL": "postgresql://x", "RABBITMQ_URL": "amqps://y", "PORT": "80", "KONGFLOW_TICK_MS": "25"}
        )

        assert (loaded.database_url, loaded.rabbitmq_url, loaded.port, loaded.tick_ms) == (
            "postgresql://x",
            "amqps://y",
            80,
            25,
        )

    @pytest.mark.parametrize(("value", "rate"), [("0", 0.0), ("0.0", 0.0), ("0.001", 0.001), ("25", 25.0)])
    def test_a_rate_may_be_nothing_or_a_fraction(self, value: str, rate: float) -> None:
        assert settings.load({"KONGFLOW_KEY_RATE": value}).key_rate == rate

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("KONGFLOW_PROT", "1", "KONGFLOW_PROT: no such setting"),
            ("PORT", "http", "PORT: Expected `int`"),
            ("DATABASE_URL", "mysql://x/y", "DATABASE_URL: Expected `str` matching regex"),
            ("RABBITMQ_URL", "http://x", "RABBITMQ_URL: Expected `str` matching regex"),
            ("PORT", "70000", "PORT: Expected `int` <= 65535"),
            ("KONGFLOW_TICK_MS", "0", "KONGFLOW_TICK_MS: Expected `int` >= 1"),
            ("KONGFLOW_POST_TIMEOUT", "-1", "KONGFLOW_POST_TIMEOUT: Expected `float` > 0.0"),
            ("KONGFLOW_KEY_RATE", "-1", "KONGFLOW_KEY_RATE: Expected `float` >= 0.0"),
            ("KONGFLOW_KEY_RATE", "nan", "KONGFLOW_KEY_RATE: Expected `float` >= 0.0"),
            ("KONGFLOW_KEY_RATE", "inf", "KONGFLOW_KEY_RATE: Expected `float` <= 1000000.0"),
            ("KONGFLOW_KEY_BURST", "0", "KONGFLOW_KEY_BURST: Expected `int` >= 1"),
            ("KONGFLOW_ORGANIZATION_RATE", "1e-320", "KONGFLOW_ORGANIZATION_RATE: Expected 0, or `float` >= 0.001"),
            ("KONGFLOW_PORT", "80", "KONGFLOW_PORT: set PORT instead, without the prefix"),
            ("KONGFLOW_ALLOWED_NETWORKS", "10.0.0.0/8,x", "KONGFLOW_ALLOWED_NETWORKS: 'x' does not appear"),
        ],
    )
    def test_a_misspelt_or_half_valid_variable_is_named(self, name: str, value: str, said: str) -> None:
        with pytest.raises(settings.BadSettings) as caught:
            settings.load({name: value})

        assert str(caught.value).startswith(said)


class TestRetries:
    @pytest.mark.parametrize(
        ("attempts", "seconds"),
        [(1, 2.7), (2, 7.4), (3, 20.1), (4, 54.6), (5, 148.4), (9, 8103.1), (10, 21600), (10**9, 21600)],
    )
    def test_pauses_grow_by_e_and_end_at_six_hours(self, attempts: int, seconds: float) -> None:
        assert retries.pause_after(attempts, 0.5) == pytest.approx(seconds, abs=0.05)

    @given(st.integers(1, 10**6), st.floats(0, 1))
    def test_chance_moves_a_pause_by_a_fifth_at_most(self, attempts: int, luck: float) -> None:
        middle = retries.pause_after(attempts, 0.5)

        assert 0.8 * middle - 1e-6 <= retries.pause_after(attempts, luck) <= 1.2 * middle + 1e-6

    @pytest.mark.parametrize(("kind", "limit"), [("deliver", 5), ("invoke", 6), ("post", 10)])
    def test_the_last_attempt_is_the_limit(self, kind: words.Kind, limit: int) -> None:
        assert isinstance(retries.decide(kind, limit - 1, ValueError("x"), 0.5), retries.Again)
        assert retries.decide(kind, limit, ValueError("x"), 0.5) == retries.Dead("x")

    def test_what_is_final_is_not_tried_again(self) -> None:
        assert retries.decide("post", 1, errors.Final("never"), 0.5) == retries.Dead("never")

    def test_a_target_may_ask_for_a_longer_pause_but_not_a_shorter_one(self) -> None:
        assert retries.decide("post", 1, errors.Retryable("busy", 600), 0.5) == retries.Again(600)
        assert retries.decide("post", 5, errors.Retryable("busy", 1), 0.5) == retries.Again(retries.pause_after(5, 0.5))

    def test_an_error_without_words_is_called_by_its_kind(self) -> None:
        assert retries.reason_of(KeyError()) == "KeyError"


def test_ids_grow_with_time_and_are_version_7() -> None:
    ids = [words.new_id() for _ in range(1000)]

    assert ids == sorted(ids)
    assert {one.version for one in ids} == {7}


def test_a_text_that_is_no_id_stands_for_no_row() -> None:
    row = words.new_id()
    for text in ("nope", "\0", f"{{{row}}}", f"urn:uuid:{row}", row.hex):
        assert words.as_id(text).int == 0
    assert words.as_id(str(row)) == words.as_id(str(row).upper()) == row
