"""What the service says to bad input: for each kind a table, for each row the status, the whole body, the headers.

A kind of mistake that any body can hold is tried on every route that takes a body.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from falcon import testing

from kongflow_events import errors, filters, models, settings
from kongflow_events.services import deliver, ingest, invoke, keys
from kongflow_events.store import db
from kongflow_events.web.app import create_app
from tests import factory
from tests.integration.conftest import Api

DATA = Path(__file__).parent.parent / "data"
RULES = "/api/v1/event-dispatchers"
RULE = uuid.UUID(int=1)
URL = "http://127.0.0.1:9/hook"
MOST, MOST_BULK, MOST_EVENTS = 20_000, 40_000, 5


class Route(NamedTuple):
    """A route that takes a body: how to ask it, a body that it takes, and what it makes of a breach of its schema."""

    method: str
    path: str
    good: dict[str, Any]
    most: int = MOST


ROUTES = {
    "events": Route("POST", "/api/v1/events", {"event": {"name": "a"}}),
    "bulk": Route("POST", "/api/v1/events/bulk", {"events": [{"name": "a"}]}, MOST_BULK),
    "ephemeral": Route("POST", f"{RULES}/ephemeral", {"url": URL, "name": "a"}),
    "rule": Route("POST", RULES, {"event": "a", "dispatchable": {"type": "EPHEMERAL", "url": f"{URL}/rule"}}),
    "change": Route("PATCH", f"{RULES}/{RULE}", {"enabled": True}),
    "job": Route("POST", "/api/v1/jobs", {"id": "j", "name": "j", "version": "1.0.0", "trigger": {"event": "a"}}),
    "trigger": Route("PUT", "/api/v1/dynamic-triggers/t", {"jobs": []}),
}

Answer = tuple[int, str]


@pytest.fixture
def client(store: str) -> testing.TestClient:
    """The application with limits that a test can reach."""
    limits = {"MAX_BODY": MOST, "MAX_BULK_BODY": MOST_BULK, "MAX_BULK_EVENTS": MOST_EVENTS}
    return testing.TestClient(
        create_app(settings.load({f"KONGFLOW_{name}": str(most) for name, most in limits.items()}))
    )


@pytest.fixture
def alice(client: testing.TestClient) -> Api:
    """A tenant with one rule, which the PATCH route changes."""
    alice = Api(client, factory.environment("alice"))
    factory.dispatcher(alice.environment, "a", to=factory.to_job(factory.job(alice.environment)), id=RULE)
    return alice


def text(value: Any) -> str:
    """JSON as the service writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def seen(answer: Any) -> Answer:
    """The status and the whole body of an answer, whose form has to be ours."""
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["x-request-id"]
    return answer.status_code, answer.content.decode()


def refusal(status: int, error: str) -> Answer:
    """A refusal without issues."""
    return status, text({"error": error})


def invalid(*issues: tuple[str, str, str], route: str = "") -> Answer:
    """The refusal of a body or query that breaks its schema; the ephemeral route's is upstream's 400 with the issues."""
    listed = [{"code": code, "path": path, "message": message} for code, path, message in issues]
    if route == "ephemeral":
        return 400, text({"error": "Invalid request body", "issues": listed})
    said = " | ".join(f"Code: {code} ~ Path: {path} ~ Message: {message}" for code, path, message in issues)
    return 422, text({"error": said, "message": said, "issues": listed})


def ask(api: Api, route: str, body: bytes, **options: Any) -> Any:
    """Send a body to a route."""
    return api(ROUTES[route].method, ROUTES[route].path, body, **options)


def with_odd(route: str, value: bytes) -> bytes:
    """The route's good body with `value`, any bytes, as an additional key's."""
    return b'{"odd":' + value + b"," + text(ROUTES[route].good).encode()[1:]


def on_every_route(api: Api, bodies: Mapping[str, Callable[[str], bytes]]) -> dict[tuple[str, str], Answer]:
    """What each route says to each body."""
    return {(route, what): seen(ask(api, route, body(route))) for route in ROUTES for what, body in bodies.items()}


def same(expected: Answer, answers: Iterable[Any]) -> dict[Any, Answer]:
    """Each of `answers` is to be this one."""
    return dict.fromkeys(answers, expected)


def test_the_good_bodies_of_the_tables_are_good(alice: Api) -> None:
    assert {
        route: ask(alice, route, text(ROUTES[route].good).encode()).status_code for route in ROUTES
    } == dict.fromkeys(ROUTES, 200)


# What an unknown key comes to: upstream's own bodies drop it, the others refuse it.
ODD_STATUS = {route: 200 if route in ("events", "bulk", "ephemeral") else 422 for route in ROUTES}


def test_an_unknown_key_is_dropped_where_upstream_drops_it_and_refused_elsewhere(alice: Api) -> None:
    assert {route: ask(alice, route, with_odd(route, b"0")).status_code for route in ROUTES} == ODD_STATUS
    [issue] = ask(alice, "change", b'{"enbled":true}').json["issues"]
    assert (issue["code"], issue["path"]) == ("unrecognized_keys", "enbled")
    assert (
        issue["message"]
        == "Unknown key; known are contextFilter, dispatchable, enabled, event, manual, paused, payloadFilter, source"
    )


class TestNoJson:
    REFUSED = refusal(400, "Invalid JSON body")

    # Bodies that are no JSON as a whole.
    BODIES: Mapping[str, bytes] = {
        "nothing": b"",
        "blank": b" \n",
        "a bare word": b"nope",
        "an open end": b"{",
        "an open text": b'{"a":"b',
        "two bodies": b"{}{}",
        "a form": b"event=a&payload=1",
        "XML": b"<event/>",
        "a key without quotes": b"{a:1}",
        "single quotes": b"{'a':1}",
        "a comma too many": b'{"a":1,}',
        "a comment": b'{"a":1/**/}',
        "a bare NUL": b'{"a":"\0"}',
        "a bare line feed": b'{"a":"\n"}',
        "NUL behind the end": b"{}\0",
    }
    # Encodings of a good body that are not UTF-8 without a mark.
    ENCODINGS: Mapping[str, str] = {"a byte order mark": "utf-8-sig", "UTF-16": "utf-16", "UTF-32": "utf-32"}
    # Values that are no JSON, inside a good body.
    VALUES: Mapping[str, bytes] = {
        "NaN": b"NaN",
        "Infinity": b"Infinity",
        "-Infinity": b"-Infinity",
        "Python's True": b"True",
        "undefined": b"undefined",
        "a leading zero": b"01",
        "a plus": b"+1",
        "a bare point": b"1.",
        "hexadecimal": b"0x1",
        "a number past every double": b"1e400",
        "a negative one": b"-1e400",
        "a number too small to store": b"1e-1000",
        "4,301 digits": b"1" * 4301,
        "4,301 negative digits": b"-" + b"1" * 4301,
        "4,301 digits of a fraction": b"0." + b"1" * 4301,
        "a lone high surrogate": rb'"\ud800"',
        "a lone low surrogate": rb'"\udc00"',
        "surrogates the wrong way round": rb'"\udc00\ud800"',
        "a surrogate in a key": rb'{"\ud800":1}',
        "a surrogate as bytes": b'"\xed\xa0\x80"',
        "a byte that is no UTF-8": b'"\xff"',
        "Latin-1": "é".encode("latin-1").join([b'"', b'"']),
        "an overlong encoding": b'"\xc0\x80"',
        "a code point past the last": b'"\xf4\x90\x80\x80"',
        "half an escape": rb'"\u12"',
        "an unknown escape": rb'"\x41"',
        "an open list": b"[1",
    }

    def test_it_is_a_400_on_every_route(self, alice: Api) -> None:
        bodies: dict[str, Callable[[str], bytes]] = {
            what: lambda _, body=body: body for what, body in self.BODIES.items()
        }
        bodies |= {
            what: lambda route, encoding=encoding: text(ROUTES[route].good).encode(encoding)
            for what, encoding in self.ENCODINGS.items()
        }
        bodies |= {what: lambda route, value=value: with_odd(route, value) for what, value in self.VALUES.items()}
        answers = on_every_route(alice, bodies)

        assert answers == same(self.REFUSED, answers)
        assert len(answers) == len(ROUTES) * (len(self.BODIES) + len(self.ENCODINGS) + len(self.VALUES))


class TestWhatCannotBeStored:
    NUL = "Text must not contain the NUL character"
    DEEP = ("too_big", "", "Nesting must not exceed 64 levels")

    # A value with NUL in it, and the path that names the place.
    NULS: Mapping[bytes, str] = {
        rb'"\u0000"': "odd",
        rb'"a\u0000b"': "odd",
        rb'["a","\u0000"]': "odd[1]",
        rb'{"k":{"l":"\u0000"}}': "odd.k.l",
        rb'{"\u0000":1}': "odd",
        rb'{"k":[{"a\u0000":1}]}': "odd.k[0]",
        rb'{"a b":"\u0000"}': 'odd["a b"]',
        '{"é\\"":"\\u0000"}'.encode(): 'odd["é\\""]',
    }

    def test_nul_in_any_text_is_a_422_that_names_the_place(self, alice: Api) -> None:
        cases = [(route, value) for route in ROUTES for value in self.NULS]
        answers = {(route, value): seen(ask(alice, route, with_odd(route, value))) for route, value in cases}

        assert answers == {
            (route, value): invalid(("invalid_string", self.NULS[value], self.NUL), route=route)
            for route, value in cases
        }

    def test_every_nul_is_named(self, alice: Api) -> None:
        body = (
            rb'{"event":{"name":"\u0000","id":"\u0000","payload":{"\u0000":"\u0000"}},"options":{"accountId":"\u0000"}}'
        )

        paths = ["event.name", "event.id", "event.payload", 'event.payload["\\u0000"]', "options.accountId"]
        assert seen(ask(alice, "events", body)) == invalid(*(("invalid_string", path, self.NUL) for path in paths))

    @pytest.mark.parametrize("bracket", [b"[]", b"{}"])
    def test_65_levels_are_a_422_and_64_are_not(self, alice: Api, bracket: bytes) -> None:
        def nested(levels: int) -> bytes:
            opening = b"[" if bracket == b"[]" else b'{"k":'
            return opening * (levels - 1) + bracket + bracket[1:] * (levels - 1)

        # The body is a level itself.
        deep = on_every_route(alice, {"65": lambda route: with_odd(route, nested(64))})
        assert deep == {(route, "65"): invalid(self.DEEP, route=route) for route in ROUTES}
        fits = {route: ask(alice, route, with_odd(route, nested(63))).status_code for route in ROUTES}
        assert fits == ODD_STATUS

    def test_a_body_of_nothing_but_brackets_is_no_deeper_than_the_limit_or_is_refused(self, alice: Api) -> None:
        answers = on_every_route(alice, {"all": lambda route: b"[" * ROUTES[route].most})

        assert answers == {(route, "all"): invalid(self.DEEP, route=route) for route in ROUTES}


def rows(name: str) -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """A table of tests/data: where, what is sent, and the issues of the answer; its first lines say how it is written."""
    lines = (DATA / name).read_text().splitlines()
    parts = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [(where, _long(sent), [_issue(one) for one in said.split(" ; ")]) for where, sent, said in parts]


def _issue(written: str) -> tuple[str, str, str]:
    code, path, message = written.split(" ~ ")
    path = "" if path == "-" else path.replace("<NUL>", "\0")
    return code, path, message.replace("<operators>", _operators())


@cache
def _operators() -> str:
    """The names of all operators, as the filter language lists them to whoever uses another."""
    with pytest.raises(errors.Invalid) as caught:
        filters.parse({"a": [{"odd": 1}]})
    return caught.value.issues[0].message.partition("known are ")[2]


def _long(written: str) -> str:
    return re.sub(r"<(\d+) (.)>", lambda found: found[2] * int(found[1]), written)


# A breach of "every route" is one for each.
BREACHES = [
    (route, body, issues)
    for where, body, issues in rows("refused-bodies.txt")
    for route in ROUTES
    if where in (route, "*")
]


class TestBreaches:
    def test_each_is_said_with_every_issue_in_upstreams_words(self, alice: Api) -> None:
        for route, body, issues in BREACHES:
            assert seen(ask(alice, route, body.encode())) == invalid(*issues, route=route), (route, body)

    def test_none_of_them_stores_anything(self, alice: Api) -> None:
        def stored() -> list[int]:
            tables = (models.EventRecord, models.Outbox, models.EventDispatcher, models.DynamicTrigger, models.Job)
            with db.unit():
                return [table.select().count() for table in (*tables, models.ExternalAccount)]

        before = stored()
        for route, body, _ in BREACHES:
            ask(alice, route, body.encode())

        assert stored() == before

    def test_a_second_rule_for_a_target_is_a_409(self, alice: Api) -> None:
        ask(alice, "rule", text(ROUTES["rule"].good).encode())

        said = f"A dispatcher for {URL}/rule exists; change it, or name another dispatchableId"
        assert seen(ask(alice, "rule", text(ROUTES["rule"].good).encode())) == refusal(409, said)

    def test_a_body_of_nothing_but_mistakes_gets_a_hundred_of_them(self, alice: Api) -> None:
        answer = ask(alice, "bulk", b'{"events":[' + b"1," * 10_000 + b"1]}")

        listed = [("invalid_type", f"events[{number}]", "Expected object, received number") for number in range(100)]
        assert seen(answer) == invalid(*listed, ("custom", "", "and more: only the first 100 are listed"))


class TestTargets:
    """URLs that the service does not call, at creation; what is said does not depend on who asks where."""

    NOT_PUBLIC = "The URL must lead to a public address"
    ODD = "The URL must not contain white space, control characters or backslashes"
    ABSOLUTE = "The URL must be an absolute http or https URL"
    URLS: Mapping[str, str] = {
        "/relative": ABSOLUTE,
        "example.com": ABSOLUTE,
        "ftp://example.com/": ABSOLUTE,
        "file:///etc/passwd": ABSOLUTE,
        "javascript:alert(1)": ABSOLUTE,
        "http://": ABSOLUTE,
        "http:///path": ABSOLUTE,
        "http://user:secret@example.com/": "The URL must not carry a user or a password",
        "http://example.com/#top": "The URL must not carry a fragment",
        "http://exam ple.com/": ODD,
        "http://exam\nple.com/": ODD,
        "http://a.com\\@127.0.0.1/": ODD,
        "http://example.com:0/": "The URL must not name port 0",
        "http://10.0.0.1/": NOT_PUBLIC,
        "http://172.16.0.1/": NOT_PUBLIC,
        "http://192.168.1.1:8080/x": NOT_PUBLIC,
        "http://169.254.169.254/latest/meta-data/": NOT_PUBLIC,
        "http://0.0.0.0/": NOT_PUBLIC,
        "http://[::1]/": NOT_PUBLIC,
        "http://[fd00::1]/": NOT_PUBLIC,
        "http://[::ffff:10.0.0.1]/": NOT_PUBLIC,
        "http://167772161/": NOT_PUBLIC,
        "http://0xa000001/": NOT_PUBLIC,
        "http://10.1/": NOT_PUBLIC,
        "http://012.0.0.1/": NOT_PUBLIC,
        f"http://127.0.0.1/{'x' * 2048}": "The URL must not be longer than 2048 bytes",
    }

    @pytest.mark.parametrize(("route", "path"), [("ephemeral", "url"), ("rule", "dispatchable.url")])
    def test_a_url_that_is_not_public_is_refused(self, alice: Api, route: str, path: str) -> None:
        def body(url: str) -> dict[str, Any]:
            target = {"type": "EPHEMERAL", "url": url}
            return {"url": url, "name": "a"} if route == "ephemeral" else {"event": "a", "dispatchable": target}

        answers = {url: seen(ask(alice, route, text(body(url)).encode())) for url in self.URLS}

        expected = {"The URL must not be longer than 2048 bytes": "too_big"}
        assert answers == {
            url: invalid((expected.get(said, "invalid_string"), path, said), route=route)
            for url, said in self.URLS.items()
        }


class TestPayloads:
    """What is odd and yet JSON: it is stored, and comes back as the bytes that were sent."""

    # Each beside why one might think it would not.
    KEPT: Mapping[str, bytes] = {
        "30 digits": b"123456789012345678901234567890",
        "4,300 digits": b"1" * 4300,
        "more digits than a double has": b"0.1234567890123456789",
        "a zero at the end": b"1.10",
        "an exponent": b"1E+2",
        "minus nothing": b"-0",
        "the largest double": b"1.7976931348623157e308",
        "a number that is nothing to a double": b"1e-999",
        "a key twice": b'{"a":1,"a":2}',
        "keys in no order": b'{"b":1,"a":2}',
        "blanks": b'{"a" : [ 1,\n2 ]}',
        "an empty key": b'{"":""}',
        "a name of JavaScript's": b'{"__proto__":{"a":1},"constructor":null}',
        "escapes": rb'"\u0041\/\n\\u0000"',
        "an escaped pair": rb'"\ud83d\ude00"',
        "the last code point": "\U0010ffff".encode().join([b'"', b'"']),
        "no character": "\ufffe\uffff".encode().join([b'"', b'"']),
        "line ends of JavaScript's": "\u2028\u2029".encode().join([b'"', b'"']),
        "right to left": "\u202eab".encode().join([b'"', b'"']),
        "61 levels": b"[" * 61 + b"]" * 61,
        "nothing in it": b"[]",
        "false": b"false",
        "zero": b"0",
        "no text": b'""',
    }

    def test_the_sender_reads_back_what_was_sent(self, alice: Api) -> None:
        sent = {
            what: ask(alice, "events", b'{"event":{"name":"a","payload":%b}}' % raw) for what, raw in self.KEPT.items()
        }
        assert {what: answer.status_code for what, answer in sent.items()} == dict.fromkeys(self.KEPT, 200)

        listed = [alice.get("/api/v1/events", params={"limit": 100}).content]
        for what, raw in self.KEPT.items():
            payload = b'"payload":' + raw + b',"context":'
            assert payload in sent[what].content, what
            assert payload in listed[0], what

    def test_so_do_the_senders_of_many(self, alice: Api) -> None:
        for what, raw in self.KEPT.items():
            answer = ask(alice, "bulk", b'{"events":[{"name":"a","payload":%b}]}' % raw)
            assert b'"payload":' + raw + b',"context":' in answer.content, what

    def test_a_context_is_json_but_not_bytes(self, alice: Api) -> None:
        answer = ask(alice, "events", b'{"event":{"name":"a","context":{"b":1.10,"a":1e2}}}')

        assert answer.json["context"] == {"a": 100, "b": 1.1}


class TestSize:
    def test_a_body_over_the_limit_is_a_413_that_names_it_and_ends_the_connection(self, alice: Api) -> None:
        for route, (_, _, _, most) in ROUTES.items():
            answer = ask(alice, route, with_odd(route, b'"' + b"x" * most + b'"'))

            assert seen(answer) == refusal(413, f"The body is larger than {most} bytes")
            assert answer.headers["connection"] == "close"

    def test_a_body_of_the_limit_is_taken(self, alice: Api) -> None:
        for route, (_, _, _, most) in ROUTES.items():
            good = text(ROUTES[route].good).encode()
            body = good + b" " * (most - len(good))

            assert len(body) == most
            assert ask(alice, route, body).status_code == 200
            assert ask(alice, route, body + b" ").status_code == 413

    def test_a_stated_length_over_the_limit_is_refused_before_it_is_read(self, alice: Api) -> None:
        answer = ask(alice, "events", b"{}", headers={"Content-Length": str(MOST + 1)})

        assert seen(answer) == refusal(413, f"The body is larger than {MOST} bytes")

    def test_too_many_events_are_a_413_that_names_the_limit_and_ends_the_connection(self, alice: Api) -> None:
        answer = ask(alice, "bulk", text({"events": [{"name": "a"}] * (MOST_EVENTS + 1)}).encode())

        assert seen(answer) == refusal(413, "A bulk may hold 5 events; this one holds 6")
        assert answer.headers["connection"] == "close"
        assert ask(alice, "bulk", text({"events": [{"name": "a"}] * MOST_EVENTS}).encode()).status_code == 200

    def test_an_answer_that_is_no_413_leaves_the_connection(self, alice: Api) -> None:
        assert "connection" not in ask(alice, "events", b"{").headers


# Every route that asks for a key, with what its 401 says; `x` where an id stands.
LOWER, UPPER = "Invalid or Missing API key", "Invalid or Missing API Key"
KEYED = {
    ("POST", "/api/v1/events"): LOWER,
    ("GET", "/api/v1/events"): LOWER,
    ("POST", "/api/v1/events/bulk"): LOWER,
    ("GET", "/api/v1/events/x"): LOWER,
    ("GET", "/api/v2/events/x"): LOWER,
    ("POST", "/api/v1/events/x/cancel"): LOWER,
    ("POST", "/api/v1/events/x/cancel-runs"): LOWER,
    ("POST", "/api/v1/events/x/redrive"): LOWER,
    ("POST", "/api/v1/events/x/dismiss"): LOWER,
    ("GET", "/api/v1/statistics"): LOWER,
    ("GET", "/api/v1/invocations"): LOWER,
    ("GET", "/api/v1/invocations/x"): LOWER,
    ("POST", "/api/v1/invocations/x/redrive"): LOWER,
    ("POST", "/api/v1/invocations/x/dismiss"): LOWER,
    **{
        (method, f"/api/v1/{what}{rest}"): LOWER
        for what in ("redrives", "replays")
        for method, rest in (("POST", ""), ("GET", ""), ("POST", "/preview"), ("GET", "/x"), ("POST", "/x/cancel"))
    },
    ("POST", RULES): LOWER,
    ("GET", RULES): LOWER,
    ("GET", f"{RULES}/{RULE}"): LOWER,
    ("PATCH", f"{RULES}/{RULE}"): LOWER,
    ("DELETE", f"{RULES}/{RULE}"): LOWER,
    ("POST", f"{RULES}/{RULE}/explain"): LOWER,
    ("POST", f"{RULES}/{RULE}/secret/rotate"): LOWER,
    ("POST", f"{RULES}/{RULE}/test"): LOWER,
    ("POST", f"{RULES}/ephemeral"): UPPER,
    ("POST", "/api/v1/jobs"): UPPER,
    ("PUT", "/api/v1/dynamic-triggers/x"): UPPER,
    ("GET", "/api/v1/jobs/x/runs"): UPPER,
    ("GET", "/api/v1/runs/x"): UPPER,
    ("GET", "/api/v2/runs/x"): UPPER,
    ("GET", "/api/v2/runs/x/statuses"): UPPER,
    ("POST", "/api/v1/runs/x/cancel"): UPPER,
}
# The ones that a public key opens.
READ = {path for method, path in KEYED if method == "GET" and path.split("/")[3] in ("events", "runs") and "/x" in path}


class TestKeys:
    def test_no_good_key_is_a_401_in_the_words_of_the_route_before_the_body_is_read(
        self, client: testing.TestClient, alice: Api
    ) -> None:
        forms = [
            "",
            "Bearer",
            "Bearer ",
            "Bearer tr_dev_unknown",
            "tr_dev_unknown",
            "Basic dTpw",
            f"bearer {alice.key}",
            "é",
        ]
        for (method, path), said in KEYED.items():
            for headers in ({}, *({"Authorization": form} for form in forms)):
                answer = client.simulate_request(method, path, headers=headers, body=b"{" * (MOST_BULK + 1))
                assert seen(answer) == refusal(401, said), (method, path, headers)

    def test_a_key_that_ended_is_refused_as_if_there_were_none(self, alice: Api) -> None:
        changes = {
            "revoked": "UPDATE api_keys SET revoked_at = now()",
            "expired": "UPDATE api_keys SET revoked_at = NULL, expires_at = now()",
            "of a deleted project": "UPDATE api_keys SET expires_at = NULL; UPDATE projects SET deleted_at = now()",
        }
        for what, change in changes.items():
            with db.unit():
                db.run(change)
            keys._verified.clear()
            for (method, path), said in KEYED.items():
                assert seen(alice(method, path)) == refusal(401, said), (what, method, path)

    def test_a_public_key_opens_only_what_pages_may_read(self, alice: Api) -> None:
        opened = {
            (method, path) for method, path in KEYED if alice(method, path, key=alice.public_key).status_code != 401
        }

        assert opened == {("GET", path) for path in READ}

    def test_a_json_web_token_is_an_unknown_key(self, alice: Api) -> None:
        token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4IiwicHViIjp0cnVlfQ.c2lnbmF0dXJl"
        answers = {route: seen(alice(*route, key=token)) for route in KEYED}

        assert answers == {route: refusal(401, said) for route, said in KEYED.items()}

    def test_a_key_anywhere_but_in_its_header_is_no_key(self, client: testing.TestClient, alice: Api) -> None:
        headers = {"X-Api-Key": alice.key, "Cookie": f"Authorization={alice.key}", "Proxy-Authorization": alice.key}
        answer = client.simulate_get("/api/v1/events", params={"apiKey": alice.key}, headers=headers)

        assert seen(answer) == refusal(401, LOWER)


class TestPaths:
    """Ids that cannot exist, or do not."""

    EVENT, RUN, JOB, DISPATCHER, INVOCATION, REDRIVE, REPLAY = (
        refusal(404, f"{what} not found")
        for what in ("Event", "Run", "Job", "Dispatcher", "Invocation", "Redrive", "Replay")
    )
    # What each route with an id says of one that it does not know.
    UNKNOWN: Mapping[tuple[str, str], Answer] = {
        ("GET", "/api/v1/events/{}"): EVENT,
        ("GET", "/api/v2/events/{}"): EVENT,
        ("POST", "/api/v1/events/{}/cancel"): EVENT,
        ("POST", "/api/v1/events/{}/cancel-runs"): EVENT,
        ("POST", "/api/v1/events/{}/redrive"): EVENT,
        ("POST", "/api/v1/events/{}/dismiss"): EVENT,
        ("GET", "/api/v1/invocations/{}"): INVOCATION,
        ("POST", "/api/v1/invocations/{}/redrive"): INVOCATION,
        ("POST", "/api/v1/invocations/{}/dismiss"): INVOCATION,
        ("GET", "/api/v1/redrives/{}"): REDRIVE,
        ("POST", "/api/v1/redrives/{}/cancel"): REDRIVE,
        ("GET", "/api/v1/replays/{}"): REPLAY,
        ("POST", "/api/v1/replays/{}/cancel"): REPLAY,
        ("GET", RULES + "/{}"): DISPATCHER,
        ("DELETE", RULES + "/{}"): DISPATCHER,
        ("GET", "/api/v1/jobs/{}/runs"): JOB,
        ("GET", "/api/v1/runs/{}"): RUN,
        ("GET", "/api/v2/runs/{}"): RUN,
        ("GET", "/api/v2/runs/{}/statuses"): RUN,
        ("POST", "/api/v1/runs/{}/cancel"): RUN,
    }
    IDS = (
        "nope",
        "%20",
        "%01",
        "%0a",
        "%ff",
        "%ed%a0%80",
        "%F0%9F%98%80",
        "..",
        "%2e%2e",
        "'--",
        "%25",
        "null",
        "-1",
        "0",
    )
    UUIDS = (str(uuid.UUID(int=2)), uuid.UUID(int=2).hex, f"%7b{uuid.UUID(int=2)}%7d", f"urn:uuid:{uuid.UUID(int=2)}")
    LONG_IDS = ("x" * 513, "x" * 5000)

    def test_an_id_that_is_unknown_or_cannot_exist_is_a_404(self, alice: Api) -> None:
        for (method, path), expected in self.UNKNOWN.items():
            for one in (*self.IDS, *self.UUIDS, *self.LONG_IDS):
                assert seen(alice(method, path.format(one))) == expected, (method, path, one)

    def test_so_it_is_for_a_change_of_a_rule_and_for_its_explanation(self, alice: Api) -> None:
        for one in (*self.IDS, *self.UUIDS, *self.LONG_IDS):
            assert seen(alice("PATCH", f"{RULES}/{one}", {"enabled": False})) == self.DISPATCHER, one
            assert seen(alice.post(f"{RULES}/{one}/explain", {"eventId": "x"})) == self.DISPATCHER, one

    def test_one_with_nul_is_a_404_on_every_route(self, alice: Api) -> None:
        for method, path in (*self.UNKNOWN, ("PATCH", RULES + "/{}"), ("PUT", "/api/v1/dynamic-triggers/{}")):
            for one in ("%00", "a%00", "%00a", str(RULE) + "%00"):
                answer = alice(method, path.format(one), b"{" if method in ("PATCH", "PUT") else None)
                assert seen(answer) == refusal(404, "Not Found"), (method, path, one)

    def test_a_page_may_read_that_it_is_not_there(self, client: testing.TestClient, alice: Api) -> None:
        for version, one in ((1, "%00"), (2, "%00"), (1, "nope"), (2, "nope")):
            answer = alice.get(f"/api/v{version}/events/{one}", headers={"Origin": "https://app"})

            assert answer.status_code == 404
            assert answer.headers["access-control-allow-origin"] == "https://app"
            assert answer.headers["vary"] == "Origin"
        preflight = client.simulate_options("/api/v2/events/%00", headers={"Origin": "https://app"})
        assert (preflight.status_code, preflight.json) == (200, {})

    NO_ROUTES = ("/nope", "/api", "/api/v1", "/api/v3/events", "/api/v2/events", "/API/v1/events", "/%00")
    NO_ROUTES += ("/api/v1/events/a/b", "/api/v1/events/a%2fb/cancel", "/api/v1/events/a/cancel/b")

    def test_a_path_that_is_no_route_is_a_404(self, client: testing.TestClient) -> None:
        for path in self.NO_ROUTES:
            assert seen(client.simulate_get(path)) == refusal(404, "Not Found"), path

    def test_a_dynamic_trigger_needs_an_id_that_can_be_stored(self, alice: Api) -> None:
        for slug in ("", "x" * 513):
            answer = alice("PUT", f"/api/v1/dynamic-triggers/{slug}", {"jobs": []})
            assert seen(answer) == invalid(("custom", "id", "An id has from 1 to 512 characters"))


class TestMethods:
    ALLOWED: Mapping[str, str] = {
        "/api/v1/events": "GET, HEAD, POST, OPTIONS",
        "/api/v1/events/bulk": "POST, OPTIONS",
        "/api/v1/events/x": "GET, HEAD, OPTIONS",
        "/api/v2/events/x": "GET, HEAD, OPTIONS",
        "/api/v1/events/x/cancel": "POST, OPTIONS",
        "/api/v1/events/x/cancel-runs": "POST, OPTIONS",
        "/api/v1/events/x/redrive": "POST, OPTIONS",
        "/api/v1/events/x/dismiss": "POST, OPTIONS",
        "/api/v1/invocations": "GET, HEAD, OPTIONS",
        "/api/v1/invocations/x": "GET, HEAD, OPTIONS",
        "/api/v1/invocations/x/redrive": "POST, OPTIONS",
        "/api/v1/invocations/x/dismiss": "POST, OPTIONS",
        **{
            f"/api/v1/{what}{rest}": allowed
            for what in ("redrives", "replays")
            for rest, allowed in (
                ("", "GET, HEAD, POST, OPTIONS"),
                ("/preview", "POST, OPTIONS"),
                ("/x", "GET, HEAD, OPTIONS"),
                ("/x/cancel", "POST, OPTIONS"),
            )
        },
        RULES: "GET, HEAD, POST, OPTIONS",
        f"{RULES}/x/explain": "POST, OPTIONS",
        f"{RULES}/ephemeral": "POST, OPTIONS",
        f"{RULES}/x": "DELETE, GET, HEAD, PATCH, OPTIONS",
        "/api/v1/jobs": "POST, OPTIONS",
        "/api/v1/jobs/x/runs": "GET, HEAD, OPTIONS",
        "/api/v1/dynamic-triggers/x": "PUT, OPTIONS",
        "/api/v1/runs/x": "GET, HEAD, OPTIONS",
        "/api/v2/runs/x": "GET, HEAD, OPTIONS",
        "/api/v2/runs/x/statuses": "GET, HEAD, OPTIONS",
        "/api/v1/runs/x/cancel": "POST, OPTIONS",
    }

    def test_a_wrong_one_is_a_405_that_names_the_right_ones_whoever_asks(self, client: testing.TestClient) -> None:
        for path, allowed in self.ALLOWED.items():
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
                if method in allowed.split(", "):
                    continue
                answer = client.simulate_request(method, path, body=b"{")
                assert answer.status_code == 405, (method, path)
                assert answer.headers["allow"] == allowed, path
                assert method == "HEAD" or seen(answer) == refusal(405, "Method Not Allowed")

    def test_options_say_which_are_right_without_a_key(self, client: testing.TestClient) -> None:
        for path, allowed in self.ALLOWED.items():
            answer = client.simulate_options(path)
            assert answer.status_code == 200
            assert answer.headers.get("allow", allowed).removesuffix(", OPTIONS") == allowed.removesuffix(", OPTIONS")


class TestQueries:
    def test_a_parameter_that_is_wrong_is_a_422_that_names_it(self, alice: Api) -> None:
        for path, query, issues in rows("refused-queries.txt"):
            answer = alice.get(path, query_string=query)
            assert seen(answer) == invalid(*issues), query

    def test_of_many_that_nobody_knows_ten_are_named(self, alice: Api) -> None:
        answer = alice.get("/api/v1/events", query_string="&".join(f"x{number}=1" for number in range(1000)))

        assert [issue["path"] for issue in answer.json["issues"]] == [f"x{number}" for number in range(10)]

    def test_upstreams_own_routes_take_no_notice_of_one_that_they_do_not_know(self, alice: Api) -> None:
        alice.send(id="1")

        for path in ("/api/v1/events/1", "/api/v2/events/1", "/api/v1/jobs/job/runs"):
            assert alice.get(path, query_string="sate=dead&a%00=%00").status_code == 200

    def test_what_is_odd_but_clear_is_answered(self, alice: Api) -> None:
        for query in ("", "&&", "limit=0&limit=1", "name=%ff", "since=5", "until=2001-01-01"):
            assert alice.get("/api/v1/events", query_string=query).status_code == 200, query


class TestAway:
    """What is no fault of the sender: nothing was stored, and the answer says when to come again."""

    LATER = refusal(503, "The service cannot answer now; try again, an event with the same id")

    def everywhere(self, api: Api) -> dict[str, Any]:
        return {route: ask(api, route, text(ROUTES[route].good).encode()) for route in ROUTES}

    def all_say_later(self, answers: Mapping[str, Any]) -> None:
        assert {route: seen(answer) for route, answer in answers.items()} == same(self.LATER, answers)
        assert {answer.headers["retry-after"] for answer in answers.values()} == {"1"}

    def test_a_database_that_is_away(self, alice: Api, store: str) -> None:
        db.connect("postgresql://nobody@127.0.0.1:1/none")
        answers = self.everywhere(alice) | {
            "GET": alice.get("/api/v1/events"),
            "GET one": alice.get("/api/v2/events/x"),
        }
        self.all_say_later(answers)

        db.connect(store)
        with db.unit():
            assert models.EventRecord.select().count() == 0

    def test_an_exhausted_pool(self, alice: Api, store: str) -> None:
        db.connect(store, pool_size=1, wait_seconds=0.02)
        answers: dict[str, Any] = {}
        with db.unit():
            thread = threading.Thread(target=lambda: answers.update(self.everywhere(alice)))
            thread.start()
            thread.join()

        assert len(answers) == len(ROUTES)
        self.all_say_later(answers)

    def test_a_database_that_takes_no_writes(self, alice: Api, store: str) -> None:
        with db.unit():
            name = db.rows("SELECT current_database() AS name")[0]["name"]
            db.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        db.close()
        db.connect(store)
        self.all_say_later(self.everywhere(alice))

        assert alice.get("/api/v1/events").json == {"data": [], "nextCursor": None}

    def test_work_that_meets_one_is_nobodys_failure(self, alice: Api, store: str) -> None:
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment, "other")))
        alice.send()
        with db.unit():
            [owed] = [row.subject_id for row in models.Outbox.select()]
            name = db.rows("SELECT current_database() AS name")[0]["name"]
            db.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        db.close()
        with pytest.raises(db.ReadOnly):
            deliver.deliver([owed])

        with db.unit():
            [row] = models.Outbox.select()
            assert (row.attempts, row.last_error) == (0, None)

    def test_a_page_may_read_that_too(self, alice: Api) -> None:
        db.connect("postgresql://nobody@127.0.0.1:1/none")
        answer = alice.get("/api/v2/events/x", headers={"Origin": "https://app"})

        assert seen(answer) == self.LATER
        assert answer.headers["access-control-allow-origin"] == "https://app"


class TestUnforeseen:
    def test_it_is_a_500_with_a_name_for_the_log_and_nothing_of_its_cause(self, alice: Api) -> None:
        with db.unit():
            db.run("ALTER TABLE event_records DROP COLUMN source_context")
        answer = ask(alice, "events", b'{"event":{"name":"a"}}', headers={"X-Request-Id": "mine"})

        assert seen(answer) == (500, text({"error": "Internal Server Error", "requestId": "mine"}))
        assert "retry-after" not in answer.headers

    def test_runs_that_are_disabled_are_a_403_after_everything_else_is_right(self, alice: Api) -> None:
        with db.unit():
            models.Organization.update(runs_enabled=False).execute()
        said = {
            (route, body): seen(ask(alice, route, body))[0]
            for route, bodies in {
                "events": (b"{", b"{}", b'{"event":{"name":"a"}}'),
                "bulk": (b"{", b"{}", b'{"events":[{"name":"a"}]}'),
            }.items()
            for body in bodies
        }

        assert list(said.values()) == [400, 422, 403] * 2
        assert seen(ask(alice, "bulk", b'{"events":[]}')) == refusal(403, "Runs are disabled for this organization")
        with db.unit():
            assert models.EventRecord.select().count() == 0


class TestTextColumns:
    """Texts of strangers that the service itself writes: PostgreSQL refuses some, and noting a failure must not fail."""

    NASTY = "a\0b\ud800c" + "x" * 5000

    @pytest.fixture
    def owed(self, alice: Api) -> uuid.UUID:
        """An invocation that is due."""
        factory.dispatcher(alice.environment, to=factory.to_job(factory.job(alice.environment, "other")))
        with db.unit():
            record = ingest.ingest_send_event(alice.environment, factory.event())
        [made] = deliver.deliver([record.id], one_by_one=True)["invoke"]
        return made

    def test_a_failure_whose_words_cannot_be_stored_is_noted_in_words_that_can(
        self, owed: uuid.UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise ValueError(self.NASTY)

        monkeypatch.setattr(invoke, "_invoke", fail)
        invoke.invoke([owed])

        with db.unit():
            [attempt], [row] = models.InvocationAttempt.select(), models.Outbox.select()
        assert attempt.error == row.last_error
        assert attempt.error.startswith("a\N{REPLACEMENT CHARACTER}b?cx")
        assert len(attempt.error.encode()) <= 2000
        assert (attempt.outcome, row.attempts) == ("failed", 1)

    def test_a_delivery_that_fails_so_is_noted_too(self, alice: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> None:
            raise ValueError(self.NASTY)

        alice.send()
        with db.unit():
            [owed] = [row.subject_id for row in models.Outbox.select()]
        monkeypatch.setattr(deliver, "_deliver", fail)
        deliver.deliver([owed])

        with db.unit():
            [row] = models.Outbox.select()
        assert (row.attempts, row.kind) == (1, "deliver")
        assert row.last_error.startswith("a\N{REPLACEMENT CHARACTER}b?cx")

    def test_what_a_key_looks_like_does_not_matter(self, client: testing.TestClient, alice: Api) -> None:
        # WSGI hands header bytes over as Latin-1.
        for header in ("\xff\xfe", "tr_dev_\xed\xa0\x80", "x" * 100_000):
            answer = client.simulate_get("/api/v1/events", headers={"Authorization": header})
            assert seen(answer) == refusal(401, LOWER)


def test_every_route_that_takes_a_key_is_in_the_tables(client: testing.TestClient) -> None:
    def same_form(path: str) -> str:
        return "/".join("*" if "{" in part or part in ("x", str(RULE)) else part for part in path.split("/"))

    asked = {(method, same_form(path)) for method, path in KEYED}
    has = {(method, same_form(path)) for path, method in _routes(client.app)}
    # The console has a door of its own; so have the metrics.
    ours = {path for _, path in has if path.startswith("/api/")}

    assert {(method, path) for method, path in has if path in ours} == asked


def _routes(app: Any) -> Iterable[tuple[str, str]]:
    """Every path of the application, with the methods that it answers beside HEAD and OPTIONS."""

    def walk(nodes: Iterable[Any]) -> Iterable[tuple[str, str]]:
        for node in nodes:
            if node.resource is not None:
                for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                    if hasattr(node.resource, f"on_{method.lower()}"):
                        yield node.uri_template, method
            yield from walk(node.children)

    return walk(app._router._roots)
