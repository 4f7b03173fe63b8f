"""The outgoing door's rules: which URLs and addresses may be targets, and what becomes of a stranger's texts."""

from __future__ import annotations

import ipaddress
import threading
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kongflow_events import addresses, errors, outgoing

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:1.1.1.1"]
# One address or more of every range in the registries of special addresses (RFC 6890 and later).
NOT_PUBLIC = [
    *["0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"],
    *[
        "172.31.255.255",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
    ],
    *["198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"],
    *["::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:7f00:1", "64:ff9b::7f00:1"],
    *["64:ff9b:1::a00:1", "100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::"],
    *["3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::1"],
]
# Ways to write an inside host; those that no system takes for an address must lead to no public one either.
INSIDE = [
    *["127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "0", "0.0.0.0", "00", "0x0", "0.0"],
    *["2130706433", "0x7f000001", "0X7F000001", "017700000001", "0x7f.1", "0x7f.0x0.0x0.0x1", "0177.0.0.1"],
    *["0177.0.0.01", "0177.1", "127.0.0x1", "localhost", "LOCALHOST", "LocalHost", "①②⑦.⓪.⓪.①", "１２７.０.０.１"],
    *["127。0。0。1", "127．1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[::]", "[::ffff:127.0.0.1]"],
    *["[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::7f00:1]"],
    *["[64:ff9b::127.0.0.1]", "[64:ff9b:1::10.0.0.1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]"],
    *["[fec0::1]", "[fd12:3456::1]", "[ff02::1]", "[5f00::1]", "169.254.169.254", "2852039166", "0xa9fea9fe"],
    *["169.254.43518", "10.0.0.1", "10.1", "167772161", "192.168.1.1", "0300.0250.1.1", "172.16.5.4", "100.64.0.1"],
]


class TestAddresses:
    @pytest.mark.parametrize("address", PUBLIC)
    def test_an_address_of_the_internet_is_public(self, address: str) -> None:
        assert addresses.is_public(ipaddress.ip_address(address))

    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_a_special_address_is_not_public(self, address: str) -> None:
        assert not addresses.is_public(ipaddress.ip_address(address))

    @given(st.ip_addresses(v=4))
    def test_an_address_is_as_public_as_the_ipv4_address_inside_it(self, inner: ipaddress.IPv4Address) -> None:
        mapped = ipaddress.IPv6Address(f"::ffff:{inner}")

        assert addresses.is_public(mapped) == addresses.is_public(inner)

    @given(st.ip_addresses(v=4), st.sampled_from(["::", "64:ff9b::", "64:ff9b:1::", "2002:{}::", "2001:0:{}::"]))
    def test_an_ipv4_address_cannot_be_smuggled_in(self, inner: ipaddress.IPv4Address, prefix: str) -> None:
        digits = f"{int(inner) >> 16:x}:{int(inner) & 0xFFFF:x}"
        smuggled = prefix.format(digits) if "{}" in prefix else f"{prefix}{digits}"

        assert not addresses.is_public(ipaddress.ip_address(smuggled))

    def test_an_allowed_network_allows_its_addresses_in_every_form_and_no_others(self) -> None:
        allowed = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
        forms = ["127.0.0.1", "::ffff:127.9.9.9", "fd00::1", "10.0.0.1", "::1", "fc00::1"]

        verdicts = [addresses.is_allowed(ipaddress.ip_address(one), allowed) for one in forms]

        assert verdicts == [True, True, True, False, False, False]


class TestUrls:
    @pytest.mark.parametrize("host", INSIDE)
    def test_an_inside_host_is_refused_however_it_is_spelt(self, host: str) -> None:
        with pytest.raises(errors.Invalid, match="must lead to a public address"):
            outgoing.check_url(f"http://{host}/hook", [])

    @pytest.mark.parametrize(
        "url",
        [
            *["", "/x", "//x.com/", "x.com", "ftp://x.com/", "file:///etc/passwd", "javascript:alert(1)", "http:x.com"],
            *["http://", "http:///x", "http://?x", "http://:80/", "http://./", "http://a..b/", "http://.com/"],
            *["http://u@x.com/", "http://u:p@x.com/", "http://@x.com/", "http://x.com@127.0.0.1/"],
            *["http://x.com/#f", "http://x.com/#", "http://x.com:0/", "http://x.com:65536/", "http://x.com:-1/"],
            *["http://x.com:port/", "http://x.com:٨٠/", "http://x.com:80:80/"],
            *["http://exam\nple.com/", "http://x.com/\r\nX: y", "http://x.com/\t", " http://x.com/", "http://x.com/ "],
            *["http://x .com/", "http://x.com/\0", "http://x.com/\x7f", "http://x.com/\x85", "http://x.com/\u00a0"],
            *["http://x.com/\u2028", "http://x.com/\u202e", "http://x\u200b.com/", "http://x.com/\ud800"],
            *[
                "http://a.com\\@127.0.0.1/",
                "http:\\\\x.com/",
                "http://x.com/a\\b",
                "http://[::1/",
                "http://::1/",
                "http://[fe80::1%25lo]/",
            ],
            *["http://[::1%lo]/", "http://[v1.x]/", "http://[x.com]/", "http://127%2e0.0.1/", "http://x,y.com/"],
            *["http://x;y.com/", "http://x'y.com/", "http://*.com/", "http://a℀b.com/", f"http://{'a' * 64}.com/"],
            *[f"http://{'a.' * 130}com/", "http://straße.de/", "http://a\u200db.com/"],
        ],
    )
    def test_a_malformed_url_is_refused_where_it_stands(self, url: str) -> None:
        with pytest.raises(errors.Invalid, match=r"Path: dispatchable\.url ~ Message: The URL "):
            outgoing.check_url(url, [], path="dispatchable.url", resolver=lambda *_: ["1.1.1.1"])

    @pytest.mark.parametrize(
        ("url", "target"),
        [
            ("http://x.com", ("http", "x.com", 80, "x.com", "/")),
            ("HTTPS://X.com:8443/a//b?c=d&e", ("https", "x.com", 8443, "x.com:8443", "/a//b?c=d&e")),
            ("https://x.com:/?", ("https", "x.com", 443, "x.com", "/")),
            ("http://bücher.example/ü", ("http", "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/ü")),
            ("http://a_b.x.com.//evil.com/", ("http", "a_b.x.com.", 80, "a_b.x.com.", "//evil.com/")),
            ("http://[2606:4700:0::1]:81/", ("http", "2606:4700::1", 81, "[2606:4700::1]:81", "/")),
        ],
    )
    def test_a_url_is_taken_apart(self, url: str, target: tuple[str, str, int, str, str]) -> None:
        assert addresses.split(url) == target

    def test_one_inside_address_among_public_ones_is_enough_to_refuse(self) -> None:
        with pytest.raises(errors.Invalid):
            outgoing.check_url("http://x.com/", [], resolver=lambda *_: ["1.1.1.1", "10.0.0.1"])

    def test_an_allowed_network_is_accepted(self) -> None:
        outgoing.check_url("http://127.1:8080/", [ipaddress.ip_network("127.0.0.0/8")])

    def test_a_name_that_does_not_resolve_yet_is_accepted(self) -> None:
        def nothing(host: str, port: int) -> list[str]:
            raise OSError("no such name")

        outgoing.check_url("https://receiver.test/hook", [], resolver=nothing)
        outgoing.check_url("https://receiver.test/hook", [], resolver=lambda *_: [])

    def test_a_resolver_that_hangs_does_not_hang_the_one_who_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outgoing, "_LOOK_UP_AT_CREATION", 0.05)
        released = threading.Event()

        outgoing.check_url("https://receiver.test/", [], resolver=lambda *_: ["10.0.0.1"] if released.wait(60) else [])
        released.set()

    def test_a_call_to_a_malformed_url_is_not_tried_again(self) -> None:
        with pytest.raises(errors.Final, match="must be an absolute http or https URL"):
            outgoing.post("ftp://x.com/", headers={}, body=b"", timeout=1, allowed=[])

    @pytest.mark.parametrize(
        "headers", [{"": "x"}, {"A b": "x"}, {"A:": "x"}, {"Ä": "x"}, {"A": "x\r\nB: y"}, {"A": "x\0"}, {"A": "\u20ac"}]
    )
    def test_a_header_that_cannot_be_sent_is_not_tried_again(self, headers: dict[str, str]) -> None:
        with pytest.raises(errors.Final, match="cannot be sent"):
            outgoing.post("http://x.com/", headers=headers, body=b"", timeout=1, allowed=[])


class TestTexts:
    @given(st.text(alphabet=st.characters(exclude_categories=[])), st.integers(0, 60))
    @example("\0" * 30, 50)
    @example("\ud800x", 5)
    def test_a_clean_text_fits_and_is_one_that_postgresql_takes(self, text: str, limit: int) -> None:
        cleaned = outgoing.clean(text, limit)

        assert "\0" not in cleaned
        assert len(cleaned.encode()) <= limit

    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.integers(0, 60))
    def test_cleaning_takes_nothing_but_the_end(self, text: str, limit: int) -> None:
        cleaned = outgoing.clean(text, limit)

        assert text.startswith(cleaned)
        # What was cut off begins with a character that would not have fitted.
        assert cleaned == text or len((cleaned + text[len(cleaned)]).encode()) > limit

    @given(st.text(alphabet=st.characters(exclude_categories=[])), st.integers(0, 60))
    def test_a_clean_text_stays_as_it_is(self, text: str, limit: int) -> None:
        cleaned = outgoing.clean(text, limit)

        assert outgoing.clean(cleaned, limit) == cleaned

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            *[
                (None, None),
                ("", None),
                ("7", 7),
                (" 7 ", 7),
                ("0", 0),
                ("3600", 3600),
                ("3601", 3600),
                ("9" * 500, 3600),
            ],
            *[("-1", None), ("1.5", None), ("soon", None), ("٧", None), ("1, 2", None)],
            *[("Thu, 01 Jan 1970 00:01:40 GMT", 90), ("Thursday, 01-Jan-70 00:01:40 GMT", 90)],
            *[("Thu Jan  1 00:01:40 1970", 90), ("Thu, 01 Jan 1970 00:00:05 GMT", None)],
            *[("Fri, 01 Jan 2100 00:00:00 GMT", 3600), ("Thu, 99 Jan 1970 00:00:05 GMT", None)],
        ],
    )
    def test_retry_after_is_read_in_every_form_and_capped(self, value: str | None, seconds: float | None) -> None:
        assert outgoing.retry_after(value, now=10) == seconds

    def test_a_date_without_a_zone_means_utc_wherever_we_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as here:
            here.setenv("TZ", "Asia/Tokyo")
            time.tzset()
            asked = outgoing.retry_after("Thu Jan  1 00:01:40 1970", now=10)
        time.tzset()

        assert asked == 90

    @given(st.text())
    def test_no_retry_after_is_too_odd_to_read(self, value: str) -> None:
        asked = outgoing.retry_after(value)

        assert asked is None or 0 <= asked <= 3600
