"""CloudEvents in and out, as the official SDK writes and reads them, and by hand where it would not do wrong."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kongflow_events import models
from kongflow_events.services import deliver, invoke
from kongflow_events.store import db
from tests.integration.conftest import Api

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
URL = "/api/v1/events"
TIME = datetime(2020, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
MINIMAL = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid"}
HEADERS = {f"ce-{name}": value for name, value in MINIMAL.items()}

JSON_OBJECT = {"amount": 1.5, "lines": [{"n": 1}, None, "ü"]}
EVENTS: dict[str, tuple[dict[str, Any], Any]] = {
    "object": ({"datacontenttype": "application/json"}, JSON_OBJECT),
    "object of no stated type": ({}, JSON_OBJECT),
    "object of a vendor's type": ({"datacontenttype": "application/vnd.shop+json;v=2"}, JSON_OBJECT),
    "object as text/json": ({"datacontenttype": "text/json"}, JSON_OBJECT),
    "empty object": ({}, {}),
    "object that looks like bytes": ({}, {"data_base64": "aGk="}),
    "text": ({"datacontenttype": "text/plain; charset=UTF-8"}, 'grüße "😀"\n'),
    "bytes": ({"datacontenttype": "image/png"}, b"\x89PNG\x00\xff"),
    "nothing": ({}, None),
    "nothing of some type": ({"datacontenttype": "image/png"}, None),
    "all attributes": (
        {
            "datacontenttype": "application/json",
            "dataschema": "https://shop.example/order#paid",
            "subject": 'über "50%" \\ 😀',
            "time": TIME,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "sequence": 2**31 - 1,
            "lowest": -(2**31),
            "sampled": True,
            "off": False,
        },
        JSON_OBJECT,
    ),
}


def made(name: str) -> CloudEvent:
    attributes, data = EVENTS[name]
    return CloudEvent({"type": "order.paid", "source": "https://shop.example/eu", **attributes}, data)


def post(api: Api, message: http.HTTPMessage) -> Any:
    return api.post(URL, message.body, headers=message.headers)


def structured(api: Api, body: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api.post(URL, raw, headers={"Content-Type": STRUCTURED})


def batched(api: Api, body: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api.post(URL, raw, headers={"Content-Type": BATCHED})


def binary(api: Api, body: bytes = b"", content_type: str | None = None, **attributes: str | None) -> Any:
    given = {f"ce-{name}": value for name, value in {**MINIMAL, **attributes}.items() if value is not None}
    headers = given if content_type is None else {**given, "Content-Type": content_type}
    return api.post(URL, body, headers=headers)


def batch(api: Api, **asked: Any) -> list[Any]:
    """The list of events as a batch, newest first, as bare JSON."""
    answer = api.get(URL, headers={"Accept": BATCHED}, params=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"{BATCHED}; charset=utf-8")
    found: list[Any] = answer.json
    return found


def came_back(api: Api, **asked: Any) -> list[CloudEvent]:
    """The same, as the SDK reads it."""
    return [JSONFormat().read(CloudEvent, json.dumps(one)) for one in batch(api, **asked)]  # type: ignore[misc]


def parts(event: Any) -> tuple[dict[str, Any], Any]:
    return event.get_attributes(), event.get_data()


def issues(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    assert answer.json["error"] == answer.json["message"]
    return [(issue["path"], issue["message"]) for issue in answer.json["issues"]]


def stored() -> int:
    with db.unit():
        return int(models.EventRecord.select().count())


class TestRoundTrip:
    @pytest.mark.parametrize("name", EVENTS)
    def test_a_structured_event_comes_back_as_it_was(self, alice: Api, name: str) -> None:
        event = made(name)
        answer = post(alice, http.to_structured_event(event))

        assert answer.status_code == 200, answer.text
        assert (answer.json["id"], answer.json["name"]) == (event.get_id(), event.get_type())
        assert [parts(one) for one in came_back(alice)] == [parts(event)]

    @pytest.mark.parametrize("name", EVENTS)
    def test_a_binary_event_comes_back_as_the_sdk_itself_would_read_it(self, alice: Api, name: str) -> None:
        event = made(name)
        message = http.to_binary_event(event)
        answer = post(alice, message)

        assert answer.status_code == 200, answer.text
        assert [parts(one) for one in came_back(alice)] == [parts(http.from_binary_event(message))]
        assert came_back(alice)[0].get_data() == event.get_data()

    def test_a_batch_is_answered_in_its_order_and_comes_back_newest_first(self, alice: Api) -> None:
        for names in (list(EVENTS)[:5], list(EVENTS)[5:10], list(EVENTS)[10:]):
            events = [made(name) for name in names]
            answer = batched(alice, b"[" + b",".join(JSONFormat().write(event) for event in events) + b"]")

            assert [one["id"] for one in answer.json] == [event.get_id() for event in events]
            assert [parts(one) for one in came_back(alice, limit=len(events))] == [parts(one) for one in events[::-1]]

    def test_what_came_back_can_be_sent_again(self, alice: Api, bob: Api) -> None:
        for name in list(EVENTS)[:5]:
            post(alice, http.to_structured_event(made(name)))
        first = batch(alice)

        assert batched(bob, first[::-1]).status_code == 200
        assert batch(bob) == first

    def test_an_event_without_a_time_gets_the_time_it_came(self, alice: Api) -> None:
        answer = structured(alice, MINIMAL)
        [event] = batch(alice)

        assert event == {**MINIMAL, "time": event["time"]}
        assert answer.json["timestamp"][:-1] == event["time"][:23]

    def test_the_data_keeps_the_senders_bytes(self, alice: Api) -> None:
        data = b'{"b": 1.10,  "a":[1e2]}'
        body = json.dumps({**MINIMAL, "data": 0}).encode().replace(b"0}", data + b"}")

        for answer in (structured(alice, body), binary(alice, data, "application/json", id="2")):
            assert b'"payload":' + data in answer.content
        assert alice.get(URL, headers={"Accept": BATCHED}).content.count(b'"data":' + data) == 2

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(st.data())
    def test_any_event_that_is_one_comes_back(self, alice: Api, data: st.DataObject) -> None:
        letters = st.characters(exclude_categories=["Cc", "Cs", "Cn"])
        text = st.text(letters)
        value = st.none() | st.booleans() | st.integers() | text
        drawn = data.draw(
            st.lists(
                st.tuples(
                    st.dictionaries(
                        st.from_regex("[a-z0-9]{1,20}", fullmatch=True).filter(
                            lambda name: (
                                name not in {*MINIMAL, "time", "data", "subject", "datacontenttype", "dataschema"}
                            )
                        ),
                        text | st.booleans() | st.integers(-(2**31), 2**31 - 1),
                    ),
                    st.dictionaries(text, value | st.lists(value)) | st.binary() | st.none(),
                ),
                min_size=1,
                max_size=5,
            )
        )
        events = [CloudEvent({"type": "t", "source": "s", "id": str(uuid.uuid4()), **one}, of) for one, of in drawn]
        answer = batched(alice, b"[" + b",".join(JSONFormat().write(event) for event in events) + b"]")

        assert answer.status_code == 200, answer.text
        assert [parts(one) for one in came_back(alice, limit=len(events))] == [parts(one) for one in events[::-1]]


class TestWhatIsStored:
    def test_attributes_have_their_places(self, alice: Api) -> None:
        answer = structured(alice, {**MINIMAL, "time": "2020-01-01T01:00:00+01:00", "subject": "a", "count": 3})

        assert answer.json["context"] == {"specversion": "1.0", "subject": "a", "count": 3, "data": "none"}
        assert (answer.json["payload"], answer.json["timestamp"]) == ({}, "2020-01-01T00:00:00.000Z")
        assert [one["id"] for one in alice.get(URL, params={"source": "/shop"}).json["data"]] == ["1"]

    def test_bytes_are_base64_in_an_object(self, alice: Api) -> None:
        answers = [
            structured(alice, {**MINIMAL, "data_base64": "AP8="}),
            binary(alice, b"\0\xff", "application/octet-stream", id="2"),
        ]

        for answer in answers:
            assert (answer.json["payload"], answer.json["context"]["data"]) == ({"data_base64": "AP8="}, "base64")

    @pytest.mark.parametrize(
        ("charset", "body"),
        [
            ("", "grüße".encode()),
            ("; charset=utf-8", "grüße".encode()),
            ('; format=flowed; Charset="ISO-8859-1"', "grüße".encode("latin-1")),
            ("; charset=utf-16", "grüße".encode("utf-16")),
            ("; charset=windows-1252", "grüße".encode("cp1252")),
            ("; charset=gb18030", "grüße".encode("gb18030")),
        ],
    )
    def test_text_is_decoded_by_its_charset(self, alice: Api, charset: str, body: bytes) -> None:
        answer = binary(alice, body, f"text/plain{charset}")

        assert (answer.json["payload"], answer.json["context"].get("data")) == ("grüße", None)

    @pytest.mark.parametrize("content_type", [None, ""])
    def test_a_body_without_a_content_type_is_json(self, alice: Api, content_type: str | None) -> None:
        answer = binary(alice, b"[1]", content_type)

        assert (answer.json["payload"], answer.json["context"]) == ([1], {"specversion": "1.0"})

    @pytest.mark.parametrize("body", [b"null", b" null\n", b""])
    def test_null_is_no_data(self, alice: Api, body: bytes) -> None:
        assert binary(alice, body, "application/json").json["payload"] == {}
        assert structured(alice, {**MINIMAL, "id": "2", "data": None, "data_base64": None}).json["payload"] == {}
        assert all("data" not in event for event in batch(alice))

    def test_a_null_attribute_is_no_attribute(self, alice: Api) -> None:
        answer = structured(alice, {**MINIMAL, "subject": None, "time": None, "ext": None})

        assert answer.json["context"] == {"specversion": "1.0", "data": "none"}

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("%e2%82%ac", "€"),
            ("%41", "A"),
            ("%2541", "%41"),
            ('"a \\"b\\" \\\\"', 'a "b" \\'),
            ('"%E2%82%AC 5"', "€ 5"),
            ("100%", "100%"),
            ('a "b"', 'a "b"'),
        ],
    )
    def test_a_headers_value_is_unquoted_and_then_decoded_once(self, alice: Api, value: str, text: str) -> None:
        assert binary(alice, subject=value).json["context"]["subject"] == text

    def test_names_of_headers_have_no_case_and_the_body_wins_over_them_in_the_structured_mode(self, alice: Api) -> None:
        headers = {name.upper(): value for name, value in HEADERS.items()}
        assert alice.post(URL, b"", headers=headers).json["id"] == "1"

        headers = {**HEADERS, "Content-Type": f"{STRUCTURED.upper()}; charset=UTF-8", "ce-id": "2", "ce-ODD-": "x"}
        assert alice.post(URL, json.dumps(MINIMAL).encode(), headers=headers).json["id"] == "1"

    def test_a_job_hears_an_event_of_its_source_and_filters_see_its_attributes(self, alice: Api) -> None:
        body = {"id": "ship", "name": "Ship", "version": "1.0.0"}
        trigger = {"event": "order.paid", "source": "/shop", "filter": {"amount": [{"$gt": 10}]}}
        alice.post("/api/v1/jobs", {**body, "trigger": {**trigger, "contextFilter": {"subject": ["eu"]}}})
        for event_id, amount, subject in (("heard", 42, "eu"), ("little", 1, "eu"), ("far", 42, "us")):
            structured(alice, {**MINIMAL, "id": event_id, "subject": subject, "data": {"amount": amount}})
        with db.unit():
            owed = [row.subject_id for row in models.Outbox.select().where(models.Outbox.kind == "deliver")]
        invoke.invoke(deliver.deliver(owed).get("invoke", []))

        runs = {one: len(alice.get(f"/api/v2/events/{one}").json["runs"]) for one in ("heard", "little", "far")}
        assert runs == {"heard": 1, "little": 0, "far": 0}


# What is wrong, in words.
LETTERS = "An attribute's name has only lower-case letters and digits, and is not data"
TYPES = "Expected string, boolean or integer of 32 bits"
TEXT = "Text must be UTF-8 without control characters and noncharacters"
LITERAL = 'Invalid literal value, expected "1.0"'
FILLED = "String must contain at least 1 character(s)"
ASCII = "Expected text, percent-encoded where it is not ASCII"


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"specversion": "0.3"}, [("specversion", LITERAL)]),
            ({"specversion": 1.0}, [("specversion", LITERAL)]),
            ({"specversion": None}, [("specversion", "Required")]),
            ({"id": None, "source": None, "type": None}, [(one, "Required") for one in ("id", "source", "type")]),
            ({"id": "", "source": "", "type": ""}, [(one, FILLED) for one in ("id", "source", "type")]),
            ({"id": 5}, [("id", "Expected string, received number")]),
            ({"id": "x" * 513}, [("id", "String must contain at most 512 character(s)")]),
            ({"id": "a\tb"}, [("id", TEXT)]),
            ({"type": "a\x7f"}, [("type", TEXT)]),
            ({"source": "\ufdd0"}, [("source", TEXT)]),
            ({"subject": "\U0001ffff"}, [("subject", TEXT)]),
            ({"subject": ""}, [("subject", FILLED)]),
            ({"dataschema": ""}, [("dataschema", FILLED)]),
            ({"dataschema": {}}, [("dataschema", "Expected string, received object")]),
            ({"datacontenttype": "json"}, [("datacontenttype", "Invalid")]),
            ({"datacontenttype": "text/plain\n"}, [("datacontenttype", "Invalid")]),
            ({"datacontenttype": "text/plain; charset=ü"}, [("datacontenttype", "Invalid")]),
            *(
                ({"time": time}, [("time", "Invalid date")])
                for time in (
                    "",
                    "yesterday",
                    "2020-01-01",
                    "2020-01-01T00:00:00",
                    "2020-02-30T00:00:00Z",
                    "1577836800000",
                )
            ),
            ({"time": 1577836800000}, [("time", "Expected string, received number")]),
            ({"Ext": "a"}, [("Ext", LETTERS)]),
            ({"my_ext": "a"}, [("my_ext", LETTERS)]),
            ({"my-ext": "a"}, [('["my-ext"]', LETTERS)]),
            ({"": "a"}, [('[""]', LETTERS)]),
            ({"é": "a"}, [("é", LETTERS)]),
            ({"ext": 1.5}, [("ext", TYPES)]),
            ({"ext": 2**31}, [("ext", TYPES)]),
            ({"ext": -(2**31) - 1}, [("ext", TYPES)]),
            ({"ext": []}, [("ext", TYPES)]),
            ({"ext": {"a": 1}}, [("ext", TYPES)]),
            ({"ext": "a\nb"}, [("ext", TEXT)]),
            ({"data": {}, "data_base64": "AP8="}, [("data_base64", "Must not stand beside data")]),
            *(
                ({"data_base64": bad}, [("data_base64", "Invalid base64")])
                for bad in ("A", "AP8", "AP8=\n", "AP_8", "ü", "A P8=")
            ),
            ({"data_base64": 5}, [("data_base64", "Expected string, received number")]),
            ({"data": {"a": "\0"}}, [("data.a", "Text must not contain the NUL character")]),
            (
                {"id": None, "time": "x", "Ext": 1, "ext": [], "data": 1, "data_base64": "?"},
                [
                    ("id", "Required"),
                    ("time", "Invalid date"),
                    ("Ext", LETTERS),
                    ("ext", TYPES),
                    ("data_base64", "Must not stand beside data"),
                    ("data_base64", "Invalid base64"),
                ],
            ),
        ],
    )
    def test_every_mistake_in_json_is_named(
        self, alice: Api, change: dict[str, Any], expected: list[tuple[str, str]]
    ) -> None:
        event = {**MINIMAL, **change}

        assert issues(structured(alice, event)) == expected
        inside = [(f"[1]{path}" if path.startswith("[") else f"[1].{path}", message) for path, message in expected]
        assert issues(batched(alice, [{**MINIMAL, "id": "0"}, event])) == inside
        assert stored() == 0

    @pytest.mark.parametrize(
        ("attributes", "content_type", "expected"),
        [
            ({"id": None, "time": "x"}, None, [("ce-id", "Required"), ("ce-time", "Invalid date")]),
            ({"specversion": "1.1"}, None, [("ce-specversion", LITERAL)]),
            ({"specversion": None, "source": None}, None, [("ce-source", "Required"), ("ce-specversion", "Required")]),
            ({"id": "x" * 513}, None, [("ce-id", "String must contain at most 512 character(s)")]),
            ({"subject": "%C0%A0"}, None, [("ce-subject", TEXT)]),
            ({"subject": "%ED%A0%80"}, None, [("ce-subject", TEXT)]),
            ({"subject": "\xfc"}, None, [("ce-subject", TEXT)]),
            ({"subject": "a%0Ab"}, None, [("ce-subject", TEXT)]),
            ({"id": "%00"}, None, [("ce-id", TEXT)]),
            ({"id": ""}, None, [("ce-id", FILLED), ("ce-id", ASCII)]),
            ({"ext": ""}, None, [("ce-ext", ASCII)]),
            ({"my-ext": "a"}, None, [("ce-my-ext", LETTERS)]),
            ({"": "a"}, None, [("ce-", LETTERS)]),
            ({"data": "a"}, None, [("ce-data", LETTERS)]),
            ({"datacontenttype": "a/b"}, "a/b", [("ce-datacontenttype", "Content-Type stands for it")]),
            ({}, "json", [("content-type", "Invalid")]),
            ({}, "text/plain; charset=rot13", [("content-type", "Unknown charset")]),
            ({}, "text/plain; charset=", [("content-type", "Unknown charset")]),
            ({}, "text/plain; charset=punycode", [("content-type", "Unknown charset")]),
            (
                {"type": None, "ext": "%FF"},
                "text/plain; charset=x",
                [("ce-type", "Required"), ("ce-ext", TEXT), ("content-type", "Unknown charset")],
            ),
        ],
    )
    def test_every_mistake_in_headers_is_named(
        self, alice: Api, attributes: dict[str, Any], content_type: str | None, expected: list[tuple[str, str]]
    ) -> None:
        assert issues(binary(alice, b"{}", content_type, **attributes)) == expected
        assert stored() == 0

    @pytest.mark.parametrize(
        ("content_type", "body", "status", "error"),
        [
            ("application/json", b"{", 400, "Invalid JSON body"),
            ("application/vnd.a+json", b"NaN", 400, "Invalid JSON body"),
            (None, b"hello", 400, "Invalid JSON body"),
            ("text/plain", b"\xff", 400, "Invalid utf-8 body"),
            ("text/plain; charset=utf-16le", b"\x00\xd8", 400, "Invalid utf-16le body"),
            ("text/plain; charset=US-ASCII", "ü".encode(), 400, "Invalid us-ascii body"),
            (
                "text/plain",
                b"a\0b",
                422,
                "Code: invalid_string ~ Path:  ~ Message: Text must not contain the NUL character",
            ),
        ],
    )
    def test_a_body_that_is_not_of_its_type_is_refused(
        self, alice: Api, content_type: str | None, body: bytes, status: int, error: str
    ) -> None:
        answer = binary(alice, body, content_type)

        assert (answer.status_code, answer.json["error"]) == (status, error)

    @pytest.mark.parametrize("body", [b"", b"{", b"nope", b'{"a":"\\ud800"}', b'[{"data":1e400}]', b"\xef\xbb\xbf{}"])
    def test_what_is_no_json_is_a_400(self, alice: Api, body: bytes) -> None:
        for answer in (structured(alice, body), batched(alice, body)):
            assert (answer.status_code, answer.json) == (400, {"error": "Invalid JSON body"})

    def test_the_outermost_value_has_to_be_the_modes(self, alice: Api) -> None:
        assert issues(structured(alice, [MINIMAL])) == [("", "Expected object, received array")]
        assert issues(batched(alice, MINIMAL)) == [("", "Expected array, received object")]
        assert issues(batched(alice, [MINIMAL, 5])) == [("[1]", "Expected object, received number")]

    @pytest.mark.parametrize(
        "media_type", ["application/cloudevents", "application/cloudevents+avro", "Application/CloudEvents-Batch+Proto"]
    )
    def test_another_format_is_a_415_that_names_ours(self, alice: Api, media_type: str) -> None:
        answer = alice.post(URL, b"{}", headers={"Content-Type": media_type})

        assert (answer.status_code, answer.json) == (
            415,
            {"error": f"CloudEvents are read as {STRUCTURED} or {BATCHED}"},
        )

    def test_the_limits_are_those_of_other_bodies(self, alice: Api) -> None:
        large = {**MINIMAL, "data": "x" * 20000}
        for answer in (structured(alice, large), binary(alice, b"x" * 20001, "image/png")):
            assert (answer.status_code, answer.json) == (413, {"error": "The body is larger than 20000 bytes"})
        assert batched(alice, [large]).status_code == 200

        answer = batched(alice, [MINIMAL] * 6)
        assert (answer.status_code, answer.json) == (413, {"error": "A batch may hold 5 events; this one holds 6"})
        assert structured(alice, b'{"data":' + b"[" * 64 + b"]" * 64 + b"}").status_code == 422

    def test_mistakes_without_number_or_end_get_a_short_answer(self, alice: Api) -> None:
        answer = structured(alice, {**MINIMAL, **{"X" * 1000 + str(number): 1 for number in range(15)}})
        assert [len(path) for path, _ in issues(answer)] == [64] * 15

        answer = structured(alice, {**MINIMAL, **{f"X{number}": 1 for number in range(1000)}})
        assert len(issues(answer)) == 101

    def test_only_a_private_key_sends(self, alice: Api) -> None:
        answer = alice.post(
            URL, json.dumps(MINIMAL).encode(), headers={"Content-Type": STRUCTURED}, key=alice.public_key
        )

        assert answer.status_code == 401

    def test_a_content_type_that_means_nothing_here_is_an_event_of_our_own(self, alice: Api) -> None:
        body = b'{"event":{"name":"a"}}'
        for content_type in ("application/x-www-form-urlencoded", "text/plain", "application/cloudevent+json"):
            assert alice.post(URL, body, headers={"Content-Type": content_type}).json["name"] == "a"


class TestIdentity:
    ELSEWHERE = {**MINIMAL, "source": "/elsewhere"}

    def conflict(self, answer: Any) -> bool:
        return (answer.status_code, answer.json) == (409, {"error": 'The event "1" is known from another source'})

    def test_the_same_event_again_is_the_first_one(self, alice: Api) -> None:
        first = structured(alice, {**MINIMAL, "data": 1}).json

        assert structured(alice, {**MINIMAL, "data": 2}).json == first
        assert [one["payload"] for one in batched(alice, [MINIMAL, MINIMAL]).json] == [1, 1]
        assert stored() == 1

    def test_an_id_from_another_source_is_a_conflict_and_stores_nothing(self, alice: Api) -> None:
        structured(alice, MINIMAL)

        assert self.conflict(structured(alice, self.ELSEWHERE))
        assert self.conflict(binary(alice, source="/elsewhere"))
        assert self.conflict(batched(alice, [{**MINIMAL, "id": "2"}, self.ELSEWHERE]))
        assert [event["source"] for event in batch(alice)] == ["/shop"]

    def test_two_sources_of_one_id_in_a_batch_are_a_conflict_too(self, alice: Api) -> None:
        assert self.conflict(batched(alice, [MINIMAL, self.ELSEWHERE]))
        assert stored() == 0

    def test_a_delayed_event_of_another_source_is_not_changed(self, alice: Api) -> None:
        first = alice.send(id="1", payload={"a": 1}, options={"deliverAfter": 60})

        assert self.conflict(structured(alice, {**MINIMAL, "data": {"a": 2}}))
        [listed] = alice.get(URL).json["data"]
        assert first.items() <= listed.items()

    def test_another_tenants_event_is_no_conflict(self, alice: Api, bob: Api) -> None:
        structured(alice, MINIMAL)

        assert structured(bob, self.ELSEWHERE).status_code == 200

    def test_of_sixteen_sources_that_send_one_id_together_one_wins(self, alice: Api) -> None:
        together = threading.Barrier(16)
        statuses: list[int] = []

        def send(number: int) -> None:
            together.wait()
            statuses.append(structured(alice, {**MINIMAL, "source": f"/{number}"}).status_code)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(statuses) == [200] + [409] * 15
        assert stored() == 1

    def test_nothing_is_a_batch(self, alice: Api) -> None:
        answer = batched(alice, [])

        assert (answer.status_code, answer.json) == (200, [])


class TestList:
    @pytest.mark.parametrize(
        ("accept", "batched"),
        [
            (None, False),
            ("*/*", False),
            ("application/json", False),
            ("text/html", False),
            ("nonsense", False),
            (STRUCTURED, False),
            (BATCHED, True),
            (f"{BATCHED}, application/json", False),
            (f"application/json, {BATCHED}", False),
            (f"application/json;q=0.9, {BATCHED}", True),
            (f"application/json, {BATCHED};q=0.9", False),
            (f"{BATCHED}, */*;q=0.1", True),
            (f"{BATCHED};q=0", False),
        ],
    )
    def test_the_form_is_the_one_that_the_client_prefers(self, alice: Api, accept: str | None, batched: bool) -> None:
        alice.send(id="1")
        answer = alice.get(URL, headers={} if accept is None else {"Accept": accept})

        assert isinstance(answer.json, list) == batched
        assert answer.headers["vary"] == "Accept"

    def test_pages_are_linked_to_their_end(self, alice: Api) -> None:
        for number in range(5):
            structured(alice, {**MINIMAL, "id": str(number), "type": "ä & b"})
        alice.send("other")

        def pages() -> Iterator[list[str]]:
            url: str | None = f"{URL}?name=%C3%A4%20%26%20b&limit=2"
            for _ in range(4):
                if url is None:
                    return
                answer = alice.get(
                    urlsplit(url).path, params=parse_qs(urlsplit(url).query), headers={"Accept": BATCHED}
                )
                yield [event["id"] for event in answer.json]
                link = answer.headers.get("link")
                assert link is None or link.endswith('>; rel="next"')
                url = link and link[1 : link.index(">")]

        assert list(pages()) == [["4", "3"], ["2", "1"], ["0"]]

    def test_an_event_of_our_own_gets_what_an_event_needs(self, alice: Api) -> None:
        context = {"subject": "eu", "count": 3, "datacontenttype": "text/plain", "dataschema": ""}
        taken = {"id": "2", "source": "/shop", "type": "b", "time": "2001-01-01T00:00:00Z"}
        odd = {"camelCase": "a", "large": 2**31, "half": 0.5, "none": None, "nested": {}, "line": "a\n", "data": "none"}
        alice.send(
            "a", id="1", payload=[1], context={**context, **taken, **odd}, timestamp="2020-01-01T00:00:00.123456Z"
        )

        assert batch(alice) == [
            {
                "specversion": "1.0",
                "id": "1",
                "source": "trigger.dev",
                "type": "a",
                "time": "2020-01-01T00:00:00.123456Z",
                "subject": "eu",
                "count": 3,
                "datacontenttype": "application/json",
                "data": [1],
            }
        ]

    @pytest.mark.parametrize(
        ("payload", "context"),
        [
            ({"data_base64": "AP8="}, {}),
            ({"data_base64": "?"}, {"data": "base64"}),
            ({"data_base64": 5}, {"data": "base64"}),
            ({"data_base64": "AP8=", "more": 1}, {"data": "base64"}),
            ("AP8=", {"data": "base64"}),
            ({"a": 1}, {"data": "none"}),
            ({"a": 1}, {"data": ["none"]}),
            ({"a": 1}, ["data"]),
            ({"a": 1}, "base64"),
        ],
    )
    def test_a_context_of_ours_that_seems_to_speak_of_the_data_does_not(
        self, alice: Api, payload: Any, context: Any
    ) -> None:
        alice.send(payload=payload, context=context)

        [event] = batch(alice)
        assert event["data"] == payload
        assert "data_base64" not in event

    @pytest.mark.parametrize("odd", [{"id": ""}, {"name": ""}, {"source": ""}, {"id": "a\n"}, {"name": "\ufdd0"}])
    def test_an_event_that_no_cloud_event_can_be_is_left_out(self, alice: Api, odd: dict[str, str]) -> None:
        alice.send("a", id="before")
        alice.send(**{"name": "a", **odd})
        alice.send("a", id="after")

        assert [event.get_id() for event in came_back(alice)] == ["after", "before"]
        assert len(alice.get(URL).json["data"]) == 3

    def test_head_has_the_headers_of_get(self, alice: Api) -> None:
        for number in range(2):
            structured(alice, {**MINIMAL, "id": str(number)})
        answer = alice("HEAD", URL, headers={"Accept": BATCHED}, params={"limit": 1})

        assert answer.content == b""
        assert "link" in answer.headers

    def test_another_tenants_events_are_not_in_it(self, alice: Api, bob: Api) -> None:
        structured(alice, MINIMAL)

        assert batch(bob) == []


ATTRIBUTE = st.sampled_from(
    [*MINIMAL, "time", "subject", "datacontenttype", "dataschema", "data", "data_base64", "ext"]
)
LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"))
PLAUSIBLE = st.sampled_from(["1.0", "a", "2020-01-01T00:00:00Z", "text/plain", "AP8=", "%E2%82%AC", '"a"', "%ff"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | PLAUSIBLE,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=5,
)
# Most have what an event must have, so that what is wrong is deeper than that.
BASE = st.sampled_from([MINIMAL, MINIMAL, {**MINIMAL, "source": "/elsewhere"}, {}])
EVENT = st.tuples(BASE, st.dictionaries(ATTRIBUTE | st.text(), JSON, max_size=2)).map(lambda two: {**two[0], **two[1]})
GIVEN = st.tuples(BASE, st.dictionaries(ATTRIBUTE | st.text("abz09-_"), PLAUSIBLE | LATIN, max_size=2)).map(
    lambda two: {f"ce-{name}": value for name, value in {**two[0], **two[1]}.items()}
)
ENCODED = st.sampled_from(
    ["", "application/json", "image/png", "text/plain", "text/a;charset=utf-16", "text/a;charset=gbk"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.tuples(st.just(STRUCTURED), EVENT.map(json.dumps).map(str.encode), st.just({}) | GIVEN)
    | st.tuples(st.just(BATCHED), st.lists(EVENT, max_size=6).map(json.dumps).map(str.encode), st.just({}))
    | st.tuples(ENCODED | LATIN, st.binary() | JSON.map(json.dumps).map(str.encode), GIVEN)
    | st.tuples(st.sampled_from([STRUCTURED, BATCHED]), st.binary(), st.just({}))
)
def test_any_headers_and_bodies_are_stored_or_refused_and_what_is_stored_is_listed(
    alice: Api, request_: tuple[str, bytes, dict[str, str]]
) -> None:
    content_type, body, headers = request_
    answer = alice.post(URL, body, headers={**headers, "Content-Type": content_type})

    assert answer.status_code in (200, 400, 409, 413, 415, 422)
    came_back(alice, limit=3)


def test_base64_comes_back_as_it_was_written(alice: Api) -> None:
    encoded = base64.b64encode(bytes(range(256))).decode()
    structured(alice, json.dumps({**MINIMAL, "data_base64": encoded}).replace("/", "\\/").encode())

    assert batch(alice)[0]["data_base64"] == encoded
