"""Settings, retries, addresses, and the small rules that everything stands on."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kongflow_events import addresses, errors, models, outgoing, retries, settings


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

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("KONGFLOW_PROT", "1", "KONGFLOW_PROT: no such setting"),
            ("PORT", "http", "PORT: Expected `int`"),
            ("PORT", "70000", "PORT: Expected `int` <= 65535"),
            ("KONGFLOW_TICK_MS", "0", "KONGFLOW_TICK_MS: Expected `int` >= 1"),
            ("KONGFLOW_POST_TIMEOUT", "-1", "KONGFLOW_POST_TIMEOUT: Expected `float` > 0.0"),
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
    def test_the_last_attempt_is_the_limit(self, kind: models.Kind, limit: int) -> None:
        assert isinstance(retries.decide(kind, limit - 1, ValueError("x"), 0.5), retries.Again)
        assert retries.decide(kind, limit, ValueError("x"), 0.5) == retries.Dead("x")

    def test_what_is_final_is_not_tried_again(self) -> None:
        assert retries.decide("post", 1, errors.Final("never"), 0.5) == retries.Dead("never")

    def test_a_target_may_ask_for_a_longer_pause_but_not_a_shorter_one(self) -> None:
        assert retries.decide("post", 1, errors.Retryable("busy", 600), 0.5) == retries.Again(600)
        assert retries.decide("post", 5, errors.Retryable("busy", 1), 0.5) == retries.Again(retries.pause_after(5, 0.5))

    def test_an_error_without_words_is_called_by_its_kind(self) -> None:
        assert retries.reason_of(KeyError()) == "KeyError"


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"]
        + ["192.0.0.1", "192.88.99.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1"]
        + ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1", "fec0::1", "fc00::1", "ff02::1"]
        + ["64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "5f00::1", "100::1"],
    )
    def test_no_way_leads_inside(self, address: str) -> None:
        assert not addresses.is_public(ipaddress.ip_address(address))

    @pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
    def test_the_internet_is_public(self, address: str) -> None:
        assert addresses.is_public(ipaddress.ip_address(address))

    def test_an_allowed_network_is_allowed_in_every_spelling(self) -> None:
        allowed = [ipaddress.ip_network("127.0.0.0/8")]

        assert addresses.is_allowed(ipaddress.ip_address("::ffff:127.0.0.1"), allowed)
        assert not addresses.is_allowed(ipaddress.ip_address("10.0.0.1"), allowed)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "/x",
            "x.com",
            "ftp://x.com/",
            "http://",
            "http:///x",
            "http://u@x.com/",
            "http://u:p@x.com/",
            "http://x.com/#f",
        ]
        + [
            "http://x.com:0/",
            "http://x.com:99999/",
            "http://x.com:port/",
            "http://exam\nple.com/",
            "http://a.com\\@127.0.0.1/",
        ]
        + ["http://x .com/", "http://[::1/", "javascript:alert(1)", "http://x.com/\x7f"],
    )
    def test_what_is_no_target_is_refused(self, url: str) -> None:
        with pytest.raises(errors.Invalid):
            addresses.split(url)

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0/",
        ]
        + ["http://①②⑦.⓪.⓪.①/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/"]
        + ["http://localhost/", "http://LOCALHOST/", "http://127.0.0.1:8080/", "http://[fe80::1%25lo]/"]
        + ["http://169.254.169.254/latest/meta-data/", "http://10.1.2.3/", "http://192.168.1.1/", "http://0.0.0.0/"],
    )
    def test_every_spelling_of_an_inside_address_is_refused_at_creation(self, url: str) -> None:
        with pytest.raises(errors.Invalid):
            outgoing.check_url(url, [])

    def test_a_name_that_does_not_resolve_yet_is_accepted(self) -> None:
        outgoing.check_url("https://receiver.invalid/hook", [])


class TestOutgoingTexts:
    @given(st.text(alphabet=st.characters(exclude_categories=[])), st.integers(0, 50))
    def test_a_cleaned_text_is_one_that_postgresql_takes(self, text: str, limit: int) -> None:
        cleaned = outgoing.clean(text, limit)

        assert "\0" not in cleaned
        assert len(cleaned.encode()) <= limit

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [(None, None), ("7", 7), ("7200", 3600), ("-1", None), ("soon", None), ("1.5", None), ("9" * 500, 3600)]
        + [("Thu, 01 Jan 1970 00:01:00 GMT", 60), ("Wed, 31 Dec 1969 23:00:00 GMT", None)],
    )
    def test_retry_after_is_read_and_capped(self, value: str | None, seconds: float | None) -> None:
        assert outgoing.retry_after(value, now=0) == seconds


def test_ids_grow_with_time_and_are_version_7() -> None:
    ids = [models.new_id() for _ in range(1000)]

    assert ids == sorted(ids)
    assert {one.version for one in ids} == {7}


def test_a_text_that_is_no_id_stands_for_no_row() -> None:
    assert models.as_id("nope").int == models.as_id("\0").int == 0
