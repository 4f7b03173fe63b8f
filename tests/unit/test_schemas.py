"""Bodies in and out, row by row of what upstream's schema accepts."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kongflow_events import dates, errors, schemas
from kongflow_events.schemas import decoding, queries

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=20,
)


def body(event: dict[str, Any] | None = None, **rest: Any) -> bytes:
    return json.dumps({"event": {"name": "a", **(event or {})}, **rest}).encode()


def refusal(raw: bytes) -> errors.Refused:
    with pytest.raises(errors.Refused) as caught:
        schemas.parse_send(raw)
    return caught.value


def issue(path: str, message: str, code: str = "invalid_type") -> str:
    return f"Code: {code} ~ Path: {path} ~ Message: {message}"


class TestJson:
    @pytest.mark.parametrize(
        "raw",
        [b"", b"{", b"nope", b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"NaN", b"Infinity", b"1e400"]
        + [b"1" * 4301, b'{"a":"\x00"}', b"{}{}", b"'a'"],
    )
    def test_what_is_no_json_is_a_400(self, raw: bytes) -> None:
        error = refusal(raw)

        assert (error.status, error.message) == (400, "Invalid JSON body")

    @pytest.mark.parametrize(
        ("event", "path"),
        [
            ({"name": "a\0"}, "event.name"),
            ({"payload": {"k\0": 1}}, "event.payload"),
            ({"payload": [["\0"]]}, "event.payload[0][0]"),
            ({"context": {"a b": "\0"}}, 'event.context["a b"]'),
        ],
    )
    def test_nul_in_any_text_is_a_422_that_names_the_place(self, event: dict[str, Any], path: str) -> None:
        error = refusal(body(event))

        assert (error.status, [one.path for one in error.issues]) == (422, [path])

    def test_an_escaped_backslash_before_u0000_is_no_nul(self) -> None:
        event, _ = schemas.parse_send(b'{"event":{"name":"a","payload":"\\\\u0000"}}')

        assert event.payload == '"\\\\u0000"'

    @pytest.mark.parametrize(("levels", "fine"), [(62, True), (63, False), (5000, False)])
    def test_nesting_ends_at_64_levels(self, levels: int, fine: bool) -> None:
        raw = b'{"event":{"name":"[[[","payload":' + b"[" * levels + b"]" * levels + b"}}"
        if fine:
            assert schemas.parse_send(raw)[0].payload == "[" * levels + "]" * levels
        else:
            assert refusal(raw).status == 422

    @pytest.mark.parametrize(
        ("raw", "refused"),
        [
            (b"[" * 65 + b'"' + b'\\"' * 500_000, True),
            (b"[" * 65 + b'"' + b"\\" * 1_000_001, True),
            (b'{"event":{"name":"a","payload":"' + b"x".join([b"1" * 4300] * 240) + b'"}}', False),
        ],
    )
    def test_no_body_is_looked_at_for_longer_than_its_length(self, raw: bytes, refused: bool) -> None:
        # With a quadratic pattern each of these takes minutes.
        if refused:
            assert refusal(raw).status in (400, 422)
        else:
            assert schemas.parse_send(raw)[0].name == "a"

    def test_a_body_of_nothing_but_mistakes_gets_a_short_answer(self) -> None:
        with pytest.raises(errors.Invalid) as caught:
            schemas.parse_send_bulk(b'{"events":[' + b"1," * 100_000 + b"1]}", 1000)

        assert len(caught.value.issues) == 101
        assert caught.value.issues[-1].message == "and more: only the first 100 are listed"

    def test_of_a_key_that_stands_twice_the_last_one_counts(self) -> None:
        event, _ = schemas.parse_send(b'{"event":{"name":"a","name":"b","payload":1,"payload":{"c":2,"c":3}}}')

        assert (event.name, event.payload) == ("b", '{"c":2,"c":3}')

    @given(st.binary())
    def test_any_bytes_decode_or_are_refused(self, raw: bytes) -> None:
        try:
            decoding.decode(raw)
        except errors.Refused as error:
            assert error.status in (400, 422)

    @given(JSON)
    def test_a_payload_is_kept_as_its_own_text(self, payload: Any) -> None:
        text = json.dumps(payload)
        try:
            event, _ = schemas.parse_send(b'{"event":{"name":"a","payload": ' + text.encode() + b" }}")
        except errors.Refused:
            assert "\\u0000" in text or "\\ud" in text
        else:
            assert event.payload == (None if payload is None else text)


class TestSend:
    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            (b"{}", [issue("event", "Required")]),
            (b"null", [issue("", "Expected object, received null")]),
            (b"[]", [issue("", "Expected object, received array")]),
            (b'{"event":{}}', [issue("event.name", "Required")]),
            (b'{"event":1}', [issue("event", "Expected object, received number")]),
            (body({"name": 1}), [issue("event.name", "Expected string, received number")]),
            (body({"name": None}), [issue("event.name", "Expected string, received null")]),
            (body({"id": None}), [issue("event.id", "Expected string, received null")]),
            (body({"id": 5}), [issue("event.id", "Expected string, received number")]),
            (body({"source": None}), [issue("event.source", "Expected string, received null")]),
            (body({"timestamp": "nope"}), [issue("event.timestamp", "Invalid date", "invalid_date")]),
            (body({"timestamp": ""}), [issue("event.timestamp", "Invalid date", "invalid_date")]),
            (body({"timestamp": []}), [issue("event.timestamp", "Invalid date", "invalid_date")]),
            (body({"timestamp": True}), [issue("event.timestamp", "Invalid date", "invalid_date")]),
            (body({"timestamp": 1.5}), [issue("event.timestamp", "Invalid date", "invalid_date")]),
            (body({"timestamp": 10**30}), [issue("event.timestamp", "Invalid date", "invalid_date")]),
            (body({"payloadType": "XML"}), [issue("event.payloadType", "Invalid input", "invalid_union")]),
            (body({"payloadType": None}), [issue("event.payloadType", "Invalid input", "invalid_union")]),
            (body(options=None), [issue("options", "Expected object, received null")]),
            (body(options={"deliverAfter": 1.5}), [issue("options.deliverAfter", "Expected integer, received float")]),
            (body(options={"deliverAfter": "5"}), [issue("options.deliverAfter", "Expected number, received string")]),
            (
                body(options={"deliverAfter": True}),
                [issue("options.deliverAfter", "Expected number, received boolean")],
            ),
            (
                body(options={"deliverAfter": 10**11}),
                [issue("options.deliverAfter", "Number must be less than or equal to 10000000000", "too_big")],
            ),
            (body(options={"deliverAt": "x"}), [issue("options.deliverAt", "Invalid date", "invalid_date")]),
            (body(options={"accountId": 1}), [issue("options.accountId", "Expected string, received number")]),
            (
                body({"name": 1, "id": 2}, options={"accountId": []}),
                [
                    issue("event.name", "Expected string, received number"),
                    issue("event.id", "Expected string, received number"),
                    issue("options.accountId", "Expected string, received array"),
                ],
            ),
        ],
    )
    def test_every_mistake_is_said_in_upstreams_words(self, raw: bytes, expected: list[str]) -> None:
        error = refusal(raw)

        assert (error.status, error.message) == (422, " | ".join(expected))

    def test_unknown_keys_are_dropped_at_every_level(self) -> None:
        event, options = schemas.parse_send(body({"odd": 1}, options={"odd": 1}, odd=1))

        assert (event, options) == (schemas.SendEvent(name="a"), schemas.SendOptions())

    def test_empty_texts_are_texts_but_an_empty_account_is_none(self) -> None:
        event, options = schemas.parse_send(
            body({"name": "", "id": "", "source": ""}, options={"accountId": "", "deliverAfter": 0})
        )

        assert (event.name, event.id, event.source) == ("", "", "")
        assert (options.account_id, options.deliver_after) == (None, None)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("2001-09-09T01:46:40Z", datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
            ("2001-09-09t01:46:40.5z", datetime(2001, 9, 9, 1, 46, 40, 500000, tzinfo=UTC)),
            ("2001-09-09 03:46:40.123456789+02:00", datetime(2001, 9, 9, 1, 46, 40, 123456, tzinfo=UTC)),
            ("2001-09-09", datetime(2001, 9, 9, tzinfo=UTC)),
            (1000000000000, datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
            (-1, datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
            (None, None),
        ],
    )
    def test_dates_are_read(self, given: Any, expected: datetime | None) -> None:
        event, options = schemas.parse_send(body({"timestamp": given}, options={"deliverAt": given}))

        assert event.timestamp == options.deliver_at == expected

    @pytest.mark.parametrize("number", ["60", "60.0", "6e1"])
    def test_a_whole_number_may_be_written_as_javascript_would_read_it(self, number: str) -> None:
        written = f'{{"event":{{"name":"a","timestamp":{number}}},"options":{{"deliverAfter":{number}}}}}'
        event, options = schemas.parse_send(written.encode())

        assert (options.deliver_after, type(options.deliver_after)) == (60, schemas.requests.Delay)
        assert event.timestamp == datetime(1970, 1, 1, 0, 0, 0, 60_000, tzinfo=UTC)

    @pytest.mark.parametrize("number", ["1e300", "1e11", "-1e11", "0.5", "1e-300", "9" * 400])
    def test_no_other_number_is_a_delay(self, number: str) -> None:
        error = refusal(b'{"event":{"name":"a"},"options":{"deliverAfter":' + number.encode() + b"}}")

        assert (error.status, [one.path for one in error.issues]) == (422, ["options.deliverAfter"])

    @pytest.mark.parametrize(
        "given",
        ["5", "2001-02-30", "2001-09-09T01:46:40", "2001-09-09T25:00:00Z", "0001-01-01T00:00:00+23:59", "9" * 400],
    )
    def test_other_dates_are_not(self, given: str) -> None:
        with pytest.raises(ValueError, match=r"Invalid date|out of range|must be in"):
            dates.parse(given)

    def test_an_event_is_made_from_python_values(self) -> None:
        at = datetime(2020, 1, 1, tzinfo=UTC)

        assert schemas.send_event("a", {"n": 1}, id="1", timestamp=at) == schemas.SendEvent(
            name="a", payload='{"n":1}', id="1", timestamp=at
        )


class TestAnswers:
    @pytest.mark.parametrize(
        ("at", "text"),
        [
            (datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00.000Z"),
            (datetime(2024, 1, 1, 0, 0, 0, 999999, tzinfo=UTC), "2024-01-01T00:00:00.999Z"),
            (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
        ],
    )
    def test_dates_are_cut_to_milliseconds(self, at: datetime, text: str) -> None:
        assert schemas.iso(at) == text

    def test_a_cursor_leads_back_to_its_row(self) -> None:
        row = uuid.uuid4()

        assert queries.decode_cursor(str(queries.encode_cursor(row))) == row
        assert queries.encode_cursor(None) is None

    @given(st.text())
    def test_any_other_text_is_no_cursor(self, text: str) -> None:
        try:
            found = queries.decode_cursor(text)
        except ValueError:
            return
        assert queries.encode_cursor(found) is not None


class TestSemver:
    def test_precedence_is_semvers_own(self) -> None:
        # The chain of semver.org §11, and numbers that texts would order otherwise.
        chain = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0"
        ordered = [*chain.split(), "1.2.0", "1.10.0", "2.0.0"]

        assert sorted(sorted(ordered), key=schemas.semver_key) == ordered

    def test_build_metadata_counts_for_nothing(self) -> None:
        assert schemas.semver_key("1.0.0+a") == schemas.semver_key("1.0.0+b")

    @pytest.mark.parametrize("version", ["1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "v1.0.0", "1.0.0 ", "1.0.0\n"])
    def test_what_is_no_version_is_refused(self, version: str) -> None:
        raw = msgspec.json.encode({"id": "a", "name": "a", "version": version, "trigger": {"event": "a"}})
        with pytest.raises(errors.Invalid) as caught:
            schemas.parse_job(raw)

        assert [one.path for one in caught.value.issues] == ["version"]
