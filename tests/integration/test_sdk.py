"""The published trigger.dev client, unmodified, against a running service: every method on events and runs."""

from __future__ import annotations

import io
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import peewee
import pytest

from kongflow_events import models, settings, words
from kongflow_events.services import keys
from kongflow_events.store import db
from kongflow_events.web.app import create_app
from tests import factory
from tests.node import Script


class SdkError(Exception):
    """What the client threw."""


class Sdk:
    """The client, its methods by their own names."""

    def __init__(self, driver: Script, url: str, key: str) -> None:
        self._driver = driver
        self._where = {"url": url, "key": key}

    def __call__(self, method: str, *args: Any) -> Any:
        answer = self._driver.ask({**self._where, "method": method, "args": args})
        if "error" in answer:
            raise SdkError(answer["error"])
        return answer["value"]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Threaded(ThreadingHTTPServer, WSGIServer):
    """Keep-alive connections of the client must not stand in one another's way."""

    daemon_threads = True


@pytest.fixture(scope="session")
def driver() -> Iterator[Script]:
    """The locked project with its packages, running."""
    made = Script("driver.mjs")
    yield made
    made.close()


@pytest.fixture
def environment(store: str) -> words.Environment:
    return factory.environment("alice")


class Watched:
    """The service, and the requests that reached it; `before` is called with the number of each."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.before: Callable[[int], object] = lambda _: None
        self._app = create_app(settings.load(environ or {}))

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.requests.append(environ)
        self.before(len(self.requests))
        return self._app(environ, start_response)


@pytest.fixture
def service(environment: words.Environment) -> Watched:
    return Watched()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The URL of a WSGI application that runs meanwhile."""
    with make_server("127.0.0.1", 0, app, server_class=Threaded, handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def url(service: Watched) -> Iterator[str]:
    """A running service."""
    with serving(service) as url:
        yield url


@pytest.fixture
def sdk(url: str, environment: words.Environment, driver: Script) -> Sdk:
    with db.unit():
        return Sdk(driver, url, keys.create_key(environment).key)


def date(text: str) -> dict[str, str]:
    return {"$date": text}


def is_date(value: Any) -> bool:
    return isinstance(value, dict) and re.fullmatch(r"\d{4}-.*Z", value["$date"]) is not None


@pytest.fixture
def run_id(sdk: Sdk, environment: words.Environment) -> str:
    """A run that the event `1` started."""
    factory.dispatcher(environment, to=factory.to_job(factory.job(environment, "ship")))
    sdk("sendEvent", {"id": "1", "name": factory.JOB_EVENT})
    factory.work()
    found: str = sdk("getEvent", "1")["runs"][0]["id"]
    return found


class TestEvents:
    def test_send_event_comes_back_with_dates(self, sdk: Sdk) -> None:
        event = {"name": "user.created", "payload": {"userId": "u"}, "timestamp": date("2001-09-09T01:46:40.000Z")}
        options = {"deliverAt": date("2033-05-18T03:33:20.000Z"), "accountId": "acc_1"}
        sent = sdk("sendEvent", event, options)

        assert (sent["name"], sent["payload"], sent["context"]) == ("user.created", {"userId": "u"}, {})
        assert sent["timestamp"] == date("2001-09-09T01:46:40.000Z")
        assert sent["deliverAt"] == date("2033-05-18T03:33:20.000Z")
        assert sent["deliveredAt"] is sent["cancelledAt"] is None
        with db.unit():
            assert models.ExternalAccount.get().identifier == "acc_1"

    @pytest.mark.parametrize("payload", [None, 0, False, "", [], "text", {"a": [1, None]}])
    def test_any_payload_goes_there_and_back(self, sdk: Sdk, payload: Any) -> None:
        assert sdk("sendEvent", {"name": "a", "payload": payload})["payload"] == ({} if payload is None else payload)

    def test_the_same_id_again_is_the_same_event(self, sdk: Sdk) -> None:
        first = sdk("sendEvent", {"id": "1", "name": "a", "payload": 1})

        assert sdk("sendEvent", {"id": "1", "name": "a", "payload": 2}) == first

    def test_a_delayed_event_is_changed(self, sdk: Sdk) -> None:
        sdk("sendEvent", {"id": "1", "name": "a", "payload": 1}, {"deliverAfter": 60})

        assert sdk("sendEvent", {"id": "1", "name": "a", "payload": 2})["payload"] == 2

    def test_send_events_answers_in_order(self, sdk: Sdk) -> None:
        sent = sdk("sendEvents", [{"name": "a", "id": one} for one in "zam"], {"deliverAfter": 60})

        assert [event["id"] for event in sent] == ["z", "a", "m"]
        assert all(is_date(event["deliverAt"]) for event in sent)
        assert sdk("sendEvents", []) == []

    def test_get_event_shows_its_runs(self, sdk: Sdk, run_id: str) -> None:
        event = sdk("getEvent", "1")

        assert (event["id"], is_date(event["createdAt"]), is_date(event["updatedAt"])) == ("1", True, True)
        assert event["runs"] == [{"id": run_id, "status": "PENDING", "startedAt": None, "completedAt": None}]

    @pytest.mark.parametrize("event_id", ["with space", "ü"])
    def test_an_id_that_has_to_be_encoded_is_found(self, sdk: Sdk, event_id: str) -> None:
        sdk("sendEvent", {"id": event_id, "name": "a"})

        assert sdk("getEvent", event_id)["id"] == event_id
        assert is_date(sdk("cancelEvent", event_id)["cancelledAt"])

    def test_cancel_event_is_idempotent(self, sdk: Sdk) -> None:
        sdk("sendEvent", {"id": "1", "name": "a"}, {"deliverAfter": 60})
        first = sdk("cancelEvent", "1")

        assert is_date(first["cancelledAt"])
        assert sdk("cancelEvent", "1") == first

    def test_cancel_runs_for_event_names_the_runs(self, sdk: Sdk, run_id: str) -> None:
        assert sdk("cancelRunsForEvent", "1") == {"cancelledRunIds": [run_id], "failedToCancelRunIds": []}
        assert sdk("cancelRunsForEvent", "1") == {"cancelledRunIds": [], "failedToCancelRunIds": []}

    def test_create_ephemeral_event_dispatcher_gives_its_id(self, sdk: Sdk) -> None:
        wait = {"url": "http://127.0.0.1:9/cb", "name": "paid", "filter": {"orderId": ["o1"]}, "timeoutInSeconds": 60}
        made = sdk("createEphemeralEventDispatcher", wait)

        assert uuid.UUID(made["id"])
        assert sdk("createEphemeralEventDispatcher", wait) == made


class TestWhatIsLegal:
    """Null, the empty text and characters of the whole world, wherever the client may put them."""

    TEXTS = ["", "ü", "日本", "\U0001f4a9", "a b", "\u2028"]

    @pytest.mark.parametrize("word", TEXTS)
    def test_every_text_of_an_event(self, sdk: Sdk, word: str) -> None:
        event = {"id": word, "name": word, "source": word, "payload": {word: word}, "context": {word: [word]}}
        sent = sdk("sendEvent", event, {"accountId": word})

        assert (sent["id"], sent["name"], sent["payload"], sent["context"]) == (
            word,
            word,
            {word: word},
            {word: [word]},
        )
        with db.unit():
            record = models.EventRecord.get()
            assert (record.event_id, record.source) == (word, word)
            assert [row.identifier for row in models.ExternalAccount.select()] == ([word] if word else [])
        assert sdk("sendEvents", [event, event], {"accountId": word}) == [sent, sent]
        assert sdk("getEvent", word)["name"] == word
        assert is_date(sdk("cancelEvent", word)["cancelledAt"])
        assert sdk("cancelRunsForEvent", word) == {"cancelledRunIds": [], "failedToCancelRunIds": []}

    def test_null_where_a_value_may_be_left_out(self, sdk: Sdk) -> None:
        event = {"name": "a", "payload": None, "context": None, "timestamp": None}
        sent = sdk("sendEvent", event, {"deliverAt": None})

        assert (sent["payload"], sent["context"], sent["timestamp"]) == ({}, {}, sent["deliverAt"])
        assert [one["payload"] for one in sdk("sendEvents", [event, {**event, "payload": [None]}])] == [{}, [None]]

    @pytest.mark.parametrize("word", TEXTS)
    def test_every_text_of_a_wait(self, sdk: Sdk, word: str) -> None:
        wait = {"url": "http://127.0.0.1:9/cb", "source": word, "filter": {word: [word]}, "accountId": word}
        for number, name in enumerate((word, [word], [word, word], [])):
            assert uuid.UUID(
                sdk("createEphemeralEventDispatcher", {**wait, "url": f"{wait['url']}{number}", "name": name})["id"]
            )

        with db.unit():
            assert {row.source for row in models.EventDispatcher.select()} == {word}
            assert {row.name for row in models.EventDispatcherName.select()} == {word}

    def test_a_filter_that_asks_nothing(self, sdk: Sdk) -> None:
        wait = {"url": "http://127.0.0.1:9/cb", "name": "a", "filter": {}, "contextFilter": {"a": []}}

        assert sdk("createEphemeralEventDispatcher", wait)["id"]

    @pytest.mark.parametrize("slug", ["ü", "a b", "日本"])
    def test_a_job_of_any_name(self, sdk: Sdk, environment: words.Environment, slug: str) -> None:
        factory.job(environment, slug)

        assert sdk("getRuns", slug)["runs"] == []


STATUSES = [
    *("PENDING", "QUEUED", "WAITING_ON_CONNECTIONS", "PREPROCESSING", "STARTED", "SUCCESS", "FAILURE", "TIMED_OUT"),
    *("ABORTED", "CANCELED", "UNRESOLVED_AUTH", "INVALID_PAYLOAD", "EXECUTING", "WAITING_TO_CONTINUE"),
    "WAITING_TO_EXECUTE",
]


class TestStatuses:
    def test_the_client_knows_every_status_that_a_run_may_have(self, sdk: Sdk, run_id: str) -> None:
        for status in STATUSES:
            with db.unit():
                models.JobRun.update(status=status).execute()
            assert [run["status"] for run in sdk("getEvent", "1")["runs"]] == [status]

    def test_a_run_can_have_no_other(self, run_id: str) -> None:
        with db.unit():
            with pytest.raises(peewee.IntegrityError):
                models.JobRun.update(status="ODD").execute()
            [constraint] = db.rows(
                "SELECT pg_get_constraintdef(oid) AS said FROM pg_constraint WHERE conname = 'job_runs_status_check'"
            )
        assert sorted(re.findall("'([A-Z_]+)'", constraint["said"])) == sorted(STATUSES)


class TestRequests:
    """What the client sends with every call; the service needs none of it but the key."""

    @pytest.fixture
    def headers(self, sdk: Sdk, service: Watched) -> dict[str, dict[str, str]]:
        """The headers of each call, by its path."""
        sdk("sendEvent", {"id": "1", "name": "a"})
        sdk("sendEvents", [])
        sdk("getEvent", "1")
        sdk("cancelEvent", "1")
        sdk("cancelRunsForEvent", "1")
        sdk("createEphemeralEventDispatcher", {"url": "http://127.0.0.1:9/", "name": "a"})
        names = ("CONTENT_TYPE", "CONTENT_LENGTH")
        return {
            f"{one['REQUEST_METHOD']} {one['PATH_INFO']}": {
                name.removeprefix("HTTP_"): value
                for name, value in one.items()
                if name.startswith("HTTP_") or (name in names and value)
            }
            for one in service.requests
        }

    def test_each_method_asks_its_route(self, headers: dict[str, dict[str, str]]) -> None:
        assert list(headers) == [
            "POST /api/v1/events",
            "POST /api/v1/events/bulk",
            "GET /api/v2/events/1",
            "POST /api/v1/events/1/cancel",
            "POST /api/v1/events/1/cancel-runs",
            "POST /api/v1/event-dispatchers/ephemeral",
        ]

    def test_only_a_post_has_a_type_and_a_cancel_has_it_without_a_body(
        self, headers: dict[str, dict[str, str]]
    ) -> None:
        types = {call: sent.get("CONTENT_TYPE") for call, sent in headers.items()}
        # What wsgiref calls the type of a request that names none.
        assert types.pop("GET /api/v2/events/1") in (None, "text/plain")
        assert set(types.values()) == {"application/json"}
        for verb in ("cancel", "cancel-runs"):
            assert headers[f"POST /api/v1/events/1/{verb}"]["CONTENT_LENGTH"] == "0"

    def test_no_call_names_a_version_or_a_key_for_repeats(self, headers: dict[str, dict[str, str]]) -> None:
        for sent in headers.values():
            assert sent["AUTHORIZATION"].startswith("Bearer tr_dev_")
            assert not {name for name in sent if "VERSION" in name or "IDEMPOTENCY" in name}

    def test_a_send_always_has_an_event_and_options(self, sdk: Sdk, service: Watched) -> None:
        bodies: list[bytes] = []

        def keep(_: int) -> None:
            environ = service.requests[-1]
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            bodies.append(body)
            environ["wsgi.input"] = io.BytesIO(body)

        service.before = keep
        sdk("sendEvent", {"name": "a"})
        sdk("sendEvents", [{"name": "a"}], {"accountId": "acme"})

        assert [json.loads(body) for body in bodies] == [
            {"event": {"name": "a"}, "options": {}},
            {"events": [{"name": "a"}], "options": {"accountId": "acme"}},
        ]


class TestRuns:
    @pytest.mark.parametrize("status", ["PENDING", "EXECUTING", "WAITING_TO_CONTINUE", "SUCCESS", "UNRESOLVED_AUTH"])
    def test_get_run_knows_every_status(self, sdk: Sdk, run_id: str, status: str) -> None:
        with db.unit():
            models.JobRun.update(status=status).execute()
        run = sdk("getRun", run_id)

        assert (run["id"], run["status"], run["tasks"], run["statuses"]) == (run_id, status, [], [])
        assert is_date(run["updatedAt"])

    def test_get_runs_lists_a_jobs_runs(self, sdk: Sdk, run_id: str) -> None:
        assert [run["id"] for run in sdk("getRuns", "ship")["runs"]] == [run_id]

    def test_get_run_statuses(self, sdk: Sdk, run_id: str) -> None:
        assert sdk("getRunStatuses", run_id)["run"] == {"id": run_id, "status": "PENDING", "output": None}

    def test_cancel_run(self, sdk: Sdk, run_id: str) -> None:
        assert sdk("cancelRun", run_id)["status"] == "CANCELED"


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "args", "said"),
        [
            ("getEvent", ["nope"], "Event not found"),
            ("cancelEvent", ["nope"], "Event not found"),
            ("cancelRunsForEvent", ["nope"], "Event not found"),
            ("getRun", [str(uuid.UUID(int=1))], "Run not found"),
            ("getRuns", ["nope"], "Job not found"),
            ("cancelRun", [str(uuid.UUID(int=1))], "Run not found"),
            (
                "sendEvent",
                [{"name": 5}],
                "Code: invalid_type ~ Path: event.name ~ Message: Expected string, received number",
            ),
            ("createEphemeralEventDispatcher", [{"url": "http://127.0.0.1/", "name": []}], None),
            ("createEphemeralEventDispatcher", [{"url": "x", "name": "a"}], "Invalid request body"),
        ],
    )
    def test_the_clients_error_is_ours(self, sdk: Sdk, method: str, args: list[Any], said: str | None) -> None:
        if said is None:
            assert sdk(method, *args)["id"]
        else:
            with pytest.raises(SdkError, match=f"^{re.escape(said)}$"):
                sdk(method, *args)

    def test_a_wrong_key_is_said_so_without_retrying(self, url: str, driver: Script) -> None:
        with pytest.raises(SdkError, match="^Invalid or Missing API key$"):
            Sdk(driver, url, "tr_dev_wrong")("sendEvent", {"name": "a"})

    def test_a_rate_limit_is_said_so_without_retrying(self, environment: words.Environment, driver: Script) -> None:
        service = Watched({"KONGFLOW_KEY_RATE": "0.01", "KONGFLOW_KEY_BURST": "1"})
        with db.unit():
            key = keys.create_key(environment).key
        with serving(service) as url:
            sdk = Sdk(driver, url, key)
            sdk("sendEvent", {"name": "a"})
            with pytest.raises(
                SdkError, match="^Too many requests with this API key: 0 of 1 left, try again in 100 s$"
            ):
                sdk("sendEvent", {"name": "a"})

        assert [one["PATH_INFO"] for one in service.requests] == ["/api/v1/events"] * 2

    @pytest.mark.parametrize(("key", "said"), [("", "Missing API key"), ("nonsense", "Invalid API key")])
    def test_a_key_of_another_form_never_leaves_the_client(
        self, url: str, service: Watched, driver: Script, key: str, said: str
    ) -> None:
        with pytest.raises(SdkError, match=said):
            Sdk(driver, url, key)("sendEvent", {"name": "a"})

        assert service.requests == []


@pytest.mark.slow
class TestAway:
    """The client's own retries against the service itself, while its database is away."""

    AWAY = "postgresql://nobody@127.0.0.1:1/none"

    def test_seven_requests_then_its_error_and_nothing_stored(
        self, sdk: Sdk, url: str, service: Watched, store: str
    ) -> None:
        db.connect(self.AWAY)
        with pytest.raises(SdkError, match=f"^Failed to fetch {url}/api/v1/events, got status code 503$"):
            sdk("sendEvent", {"id": "1", "name": "a"})

        assert [one["PATH_INFO"] for one in service.requests] == ["/api/v1/events"] * 7
        db.connect(store)
        with db.unit():
            assert models.EventRecord.select().count() == 0

    @pytest.mark.parametrize(
        ("method", "args"),
        [
            ("sendEvents", [[{"name": "a"}]]),
            ("getEvent", ["1"]),
            ("cancelEvent", ["1"]),
            ("cancelRunsForEvent", ["1"]),
            ("createEphemeralEventDispatcher", [{"url": "http://127.0.0.1:9/", "name": "a"}]),
        ],
    )
    def test_so_does_every_other_method(self, sdk: Sdk, service: Watched, method: str, args: list[Any]) -> None:
        db.connect(self.AWAY)
        with pytest.raises(SdkError, match="got status code 503$"):
            sdk(method, *args)

        assert len(service.requests) == 7

    def test_a_database_that_is_back_in_time_stores_one_event(self, sdk: Sdk, service: Watched, store: str) -> None:
        def come_back(number: int) -> None:
            if number == 4:
                db.connect(store)

        db.connect(self.AWAY)
        service.before = come_back
        # Without an id: a retry of what was stored would be a second event.
        sent = sdk("sendEvent", {"name": "a", "payload": {"n": 1}})

        assert (len(service.requests), sent["payload"]) == (4, {"n": 1})
        with db.unit():
            assert [row.event_id for row in models.EventRecord.select()] == [sent["id"]]


class TestReactions:
    """What the client makes of an answer: why ours look as they do."""

    EVENT = {"id": "1", "name": "a", "payload": None, "timestamp": "2001-09-09T01:46:40.000Z"}
    SHOWN = {"id": "1", "name": "a", "createdAt": "2001-09-09", "updatedAt": "2001-09-09", "runs": []}

    @pytest.fixture
    def told(self, driver: Script) -> Iterator[Callable[..., Sdk]]:
        """The client of a server that gives one answer, whatever it is asked."""
        said: dict[str, Any] = {}

        def app(_: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response(f"{said['status']} x", [("Content-Type", "application/json")])
            return [] if said["status"] == 204 else [said["body"]]

        with make_server("127.0.0.1", 0, app, server_class=Threaded, handler_class=Quiet) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

            def tell(status: int, body: Any) -> Sdk:
                said.update(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())
                return Sdk(driver, f"http://127.0.0.1:{server.server_port}", "tr_dev_x")

            yield tell
            server.shutdown()

    @pytest.mark.parametrize("status", [201, 202, 204])
    def test_no_success_but_200_is_one(self, told: Callable[..., Sdk], status: int) -> None:
        with pytest.raises(SdkError, match=rf"^Failed to fetch .*/api/v1/events, got status code {status}$"):
            told(status, self.EVENT)("sendEvent", {"name": "a"})

    @pytest.mark.parametrize("status", [400, 401, 404, 422, 429])
    def test_a_refusal_is_said_in_the_words_of_its_error(self, told: Callable[..., Sdk], status: int) -> None:
        with pytest.raises(SdkError, match="^said$"):
            told(status, {"error": "said", "message": "unheard"})("sendEvent", {"name": "a"})

    def test_a_message_alone_is_not_heard(self, told: Callable[..., Sdk]) -> None:
        with pytest.raises(SdkError, match="^$"):
            told(422, {"message": "unheard"})("sendEvent", {"name": "a"})

    def test_a_refusal_that_is_no_json_hides_its_cause(self, told: Callable[..., Sdk]) -> None:
        with pytest.raises(SdkError, match="JSON"):
            told(401, b"<h1>401</h1>")("sendEvent", {"name": "a"})

    @pytest.mark.parametrize("key", ["id", "name", "payload", "timestamp"])
    def test_a_key_that_is_missing_is_an_error(self, told: Callable[..., Sdk], key: str) -> None:
        with pytest.raises(SdkError, match=key):
            told(200, {name: value for name, value in self.EVENT.items() if name != key})("sendEvent", {"name": "a"})

    def test_a_payload_of_null_will_do_and_what_may_be_missing_may(self, told: Callable[..., Sdk]) -> None:
        assert told(200, self.EVENT)("sendEvent", {"name": "a"}) == {
            **self.EVENT,
            "timestamp": date(self.EVENT["timestamp"]),
        }

    def test_a_key_too_many_is_dropped(self, told: Callable[..., Sdk]) -> None:
        assert "odd" not in told(200, {**self.EVENT, "odd": 1})("sendEvent", {"name": "a"})

    def test_a_status_of_a_run_that_it_does_not_know_is_an_error(self, told: Callable[..., Sdk]) -> None:
        run = {"id": "1", "status": "ODD", "startedAt": None, "completedAt": None}
        with pytest.raises(SdkError, match="status"):
            told(200, {**self.SHOWN, "runs": [run]})("getEvent", "1")

    @pytest.mark.parametrize("key", ["id", "name", "createdAt", "updatedAt", "runs"])
    def test_an_event_without_one_of_its_keys_is_an_error(self, told: Callable[..., Sdk], key: str) -> None:
        with pytest.raises(SdkError, match=key):
            told(200, {name: value for name, value in self.SHOWN.items() if name != key})("getEvent", "1")

    @pytest.mark.parametrize(
        ("text", "read"),
        [
            ("2001-09-09T01:46:40.123456789Z", "2001-09-09T01:46:40.123Z"),
            ("2001-09-09T03:46:40+02:00", "2001-09-09T01:46:40.000Z"),
            ("2001-09-09 01:46:40+00", "2001-09-09T01:46:40.000Z"),
            (None, "1970-01-01T00:00:00.000Z"),
        ],
    )
    def test_it_reads_dates_in_more_forms_than_ours(
        self, told: Callable[..., Sdk], text: str | None, read: str
    ) -> None:
        assert told(200, {**self.EVENT, "timestamp": text})("sendEvent", {"name": "a"})["timestamp"] == date(read)

    BOTH = ("cancelledRunIds", "failedToCancelRunIds")

    @pytest.mark.parametrize("key", BOTH)
    def test_a_cancel_of_runs_needs_both_lists(self, told: Callable[..., Sdk], key: str) -> None:
        with pytest.raises(SdkError, match=key):
            told(200, {name: [] for name in self.BOTH if name != key})("cancelRunsForEvent", "1")


@pytest.mark.slow
class TestRetries:
    """What the client does by itself when a server in our place answers so."""

    @pytest.fixture
    def asked(self, driver: Script) -> Iterator[tuple[Sdk, list[str], list[int]]]:
        """The client, the paths it asked for, and the statuses it is to meet, one after the other."""
        paths: list[str] = []
        statuses: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                paths.append(self.path)
                self.send_response(statuses.pop(0) if statuses else 500)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"error":"later"}')

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            yield Sdk(driver, f"http://127.0.0.1:{server.server_port}", "tr_dev_x"), paths, statuses
            server.shutdown()

    def test_a_5xx_is_tried_seven_times(self, asked: tuple[Sdk, list[str], list[int]]) -> None:
        sdk, paths, _ = asked
        with pytest.raises(SdkError, match="status code 500"):
            sdk("sendEvent", {"name": "a"})

        assert paths == ["/api/v1/events"] * 7

    @pytest.mark.parametrize("status", [401, 403, 404, 413, 422, 429])
    def test_a_4xx_is_not_tried_again(self, asked: tuple[Sdk, list[str], list[int]], status: int) -> None:
        sdk, paths, statuses = asked
        statuses.append(status)
        with pytest.raises(SdkError, match="^later$"):
            sdk("sendEvent", {"name": "a"})

        assert len(paths) == 1
