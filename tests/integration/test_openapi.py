"""The document of the API: true of the application, complete, and readable as a page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing
import uuid
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import falcon.inspect
import msgspec
import pytest
from click.testing import CliRunner
from falcon import testing
from openapi_spec_validator import OpenAPIV31SpecValidator

from kongflow_events import models, settings, vault, words
from kongflow_events.cli import main
from kongflow_events.schemas import answers, examples, queries, typed
from kongflow_events.services import redrive, replay
from kongflow_events.store import db, events, redrives, replays
from kongflow_events.web import operations, page
from kongflow_events.web.app import create_app, routes
from tests import documented, factory
from tests.integration.conftest import Api
from tests.processes import ROOT

OPERATIONS = [
    pytest.param(path, method, id=f"{method.upper()} {path}")
    for path, methods in documented.document()["paths"].items()
    for method in methods
]


def operation(path: str, method: str) -> Any:
    return documented.document()["paths"][path][method]


def media_of(holder: Any) -> Any:
    return next(iter(holder["content"].values()))


def schemas_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every schema with fields, wherever it stands."""
    if isinstance(value, dict):
        if isinstance(value.get("properties"), dict):
            yield value
        for below in value.values():
            yield from schemas_in(below)


class TestDocument:
    def test_it_has_every_route_and_method_of_the_application_and_no_other(self) -> None:
        app = create_app(settings.load({}))
        served = {
            (operations.path_of(route.path), method.method.lower())
            for route in falcon.inspect.inspect_routes(app)
            # The console's pages, and the way to them, are for people, and no part of the API.
            if route.path != "/" and not route.path.startswith("/console")
            for method in route.methods
            # Falcon answers OPTIONS everywhere; the document has it where we do.
            if not method.internal
        }
        said = {(path, method) for path, method in (one.values for one in OPERATIONS) if method != "options"}

        assert served == said
        assert ("/api/v1/events", "post") in said
        assert ("/docs", "head") in said

    def test_it_has_a_preflight_where_the_application_answers_one_itself(self) -> None:
        said = {path for path, method in (one.values for one in OPERATIONS) if method == "options"}

        assert said == {operations.path_of(path) for path, resource in routes(settings.load({})) if _cors(resource)}

    def test_it_is_openapi_3_1(self) -> None:
        assert [str(error) for error in OpenAPIV31SpecValidator(documented.document()).iter_errors()] == []

    def test_every_operation_has_a_name_of_its_own(self) -> None:
        names = [operation(*one.values)["operationId"] for one in OPERATIONS]

        assert len(set(names)) == len(names)

    @pytest.mark.parametrize(("path", "method"), OPERATIONS)
    def test_every_body_and_every_answer_has_an_example(self, path: str, method: str) -> None:
        told = operation(path, method)
        for media in told.get("requestBody", {}).get("content", {}).values():
            assert media["example"]
        for response in told["responses"].values():
            for media in response.get("content", {}).values():
                assert "example" in media
            assert method != "head" or "content" not in response
        for response in documented.document()["components"]["responses"].values():
            assert response["description"]
            assert all(media["example"] for media in response.get("content", {}).values())

    def test_every_field_says_what_it_is(self) -> None:
        silent = [
            (schema.get("title"), name)
            for schema in schemas_in(documented.document()["components"]["schemas"])
            for name, field in schema["properties"].items()
            # What tells two dispatchables apart repeats its fields.
            if "title" in schema and not field.get("description")
        ]

        assert silent == []

    def test_every_lookup_of_a_named_schema_finds_it(self) -> None:
        named = documented.document()["components"]
        referred = set(re.findall(r'"\$ref": "#/components/(\w+)/([\w-]+)"', json.dumps(documented.document())))

        assert all(name in named[kind] for kind, name in referred)
        # What nothing names says nothing; a 405 has no operation of its own.
        assert {name for kind, name in referred if kind == "schemas"} == set(named["schemas"])
        assert set(named["responses"]) - {name for kind, name in referred if kind == "responses"} == {
            "MethodNotAllowed"
        }

    def test_a_responder_that_says_nothing_of_itself_stops_the_start(self) -> None:
        class Silent:
            def on_get(self) -> None:
                """Say nothing."""

        with pytest.raises(TypeError, match="GET /silent does not say what it takes"):
            operations.described([("/silent", Silent())])

    def test_words_that_stand_in_two_places_are_the_same(self) -> None:
        table = (ROOT / "schema.sql").read_text().partition("CREATE TABLE job_runs")[2].partition(")),")[0]
        allowed = re.findall(r"'(\w+)'", table.partition("CHECK")[2])

        assert set(typing.get_args(answers.RunStatus)) == set(allowed)
        assert set(typing.get_args(queries.State)) == set(events.STATES)


class TestExamples:
    @pytest.mark.parametrize("kind", examples.BODIES, ids=str)
    def test_a_body_is_what_its_type_reads(self, kind: Any) -> None:
        body = examples.BODIES[kind]
        read = typed.decoder(kind)(json.dumps(body).encode())

        assert isinstance(read, kind)
        known = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert set(body) <= known

    @pytest.mark.parametrize("kind", examples.ANSWERS, ids=str)
    def test_an_answer_is_what_its_type_writes(self, kind: Any) -> None:
        written = json.dumps(examples.ANSWERS[kind]).encode()

        assert json.loads(msgspec.json.encode(msgspec.json.decode(written, type=kind))) == examples.ANSWERS[kind]

    @pytest.fixture
    def story(self, alice: Api) -> Api:
        """What the examples speak of is there."""
        where = {"environment_id": alice.environment.id}
        version = factory.job(alice.environment, examples.JOB)
        alice.send(id=examples.EVENT, options={"deliverAfter": 60})
        with db.unit():
            ours = models.JobVersion.create(
                id=examples.JOB_VERSION, job_id=version.job_id, version="0.9.0", event_specification={}, **where
            )
            models.EventDispatcher.create(
                id=examples.DISPATCHER,
                event="a",
                source="a",
                dispatchable_id="a",
                dispatchable={"type": words.WEBHOOK, "url": "http://127.0.0.1:9/", "format": "event"},
                **where,
            )
            vault.keep(uuid.UUID(examples.DISPATCHER), "hmac")
            models.JobRun.create(
                id=examples.RUN,
                job_id=version.job_id,
                version_id=ours.id,
                event_record_id=models.EventRecord.get().id,
                **where,
            )
            models.Invocation.insert(
                id=examples.INVOCATION,
                event_record_id=models.EventRecord.get().id,
                dispatcher_id=examples.DISPATCHER,
                dispatcher_event="a",
                dispatchable=factory.to_job(ours),
                **where,
            ).execute()
            redrive.start_redrive(alice.environment, redrives.Wanted(of="invocations"), 1)
            replay.start_replay(alice.environment, replays.Wanted(), 1)
            db.run("INSERT INTO process_heartbeats (kind, instance) VALUES ('scheduler', 'a')")
        return alice

    def die(self) -> None:
        """The story's invocation and delivery are dead letters, whatever was asked before."""
        with db.unit():
            db.run("DELETE FROM outbox")
            db.run("UPDATE invocations SET status = 'DEAD', died_at = now()")
            db.run(
                """INSERT INTO outbox (subject_id, kind, lane, due_at, hint_at, died_at)
                   SELECT id, 'deliver', environment_id, now(), 'infinity', now() FROM event_records WHERE event_id = %s""",
                (examples.EVENT,),
            )

    def test_a_request_made_of_examples_gets_the_200_that_is_documented(self, story: Api) -> None:
        # What is deleted is asked for before.
        for path, method in sorted((one.values for one in OPERATIONS), key=lambda one: one[1] == "delete"):
            told = operation(path, method)
            target = path
            for parameter in told.get("parameters", ()):
                target = target.replace(f"{{{parameter['name']}}}", parameter.get("example", ""))
            body = media_of(told["requestBody"])["example"] if "requestBody" in told else None
            self.die()
            answer = story(method.upper(), target, body)

            assert answer.status_code == 200, f"{method} {target}: {answer.text}"


class TestServed:
    def test_it_is_served_without_a_key_to_pages_of_any_origin_and_only_once(self, client: testing.TestClient) -> None:
        first = client.simulate_get("/openapi.json")
        again = client.simulate_get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})

        assert first.json == documented.document()
        assert first.headers["content-type"] == "application/json; charset=utf-8"
        assert first.headers["access-control-allow-origin"] == "*"
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]

    @pytest.mark.parametrize("tag", ['"other"', "other", "", '"', "W/", "é", ",", '"a", "b"'])
    def test_an_odd_tag_gets_the_document(self, client: testing.TestClient, tag: str) -> None:
        assert client.simulate_get("/openapi.json", headers={"If-None-Match": tag}).status_code == 200

    @pytest.mark.parametrize("tag", ["*", '"a", {}', "W/{}"])
    def test_whoever_has_it_is_told_so(self, client: testing.TestClient, tag: str) -> None:
        known = client.simulate_head("/docs").headers["etag"]

        assert client.simulate_get("/docs", headers={"If-None-Match": tag.format(known)}).status_code == 304

    def test_the_command_prints_it_without_a_database(self) -> None:
        result = CliRunner().invoke(main, ["openapi"])

        assert json.loads(result.output) == documented.document()

    def test_commands_that_do_not_need_it_load_neither_the_page_nor_the_server(self) -> None:
        loaded = "import sys, kongflow_events.cli; print(sorted({'jinja2', 'falcon', 'psycopg2'} & set(sys.modules)))"

        assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True).stdout == b"[]\n"


class TestPage:
    @pytest.fixture
    def html(self, client: testing.TestClient) -> str:
        """The page."""
        return str(client.simulate_get("/docs").text)

    def test_it_lets_a_browser_load_nothing_but_its_stylesheet(self, client: testing.TestClient, html: str) -> None:
        answer = client.simulate_get("/docs")
        policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
        style = client.simulate_get("/docs/style.css")

        assert (policy["default-src"], policy["style-src"]) == ("'none'", "'self'")
        assert "unsafe" not in str(policy)
        assert answer.headers["x-content-type-options"] == style.headers["x-content-type-options"] == "nosniff"
        assert style.headers["content-type"] == "text/css; charset=utf-8"
        assert "url(" not in style.text
        assert "@import" not in style.text
        assert loads(html) == ["/docs/style.css"]

    def test_it_has_every_operation_with_its_fields_statuses_and_a_command(self, html: str) -> None:
        text = texts(html)
        for path, method in (one.values for one in OPERATIONS):
            told = operation(path, method)
            if method in ("head", "options"):
                continue
            assert f'<article id="{told["operationId"]}">' in html
            assert told["summary"] in text
            for parameter in told.get("parameters", ()):
                assert parameter["description"].partition("`")[0] in text
        for schema in ("SendBody", "DispatcherBody", "Run", "Operator"):
            for name in documented.document()["components"]["schemas"][schema]["properties"]:
                assert f'<code class="name">{name}</code>' in html
        assert "curl $KONGFLOW_URL/api/v1/events/bulk" in text

    def test_every_place_it_leads_to_is_there(self, html: str) -> None:
        ids = re.findall(r'\bid="([^"]+)"', html)

        assert len(ids) == len(set(ids))
        assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)

    def test_whatever_the_document_says_it_stays_text(self) -> None:
        evil = "<script>alert('`<b>`')</script>"
        hostile = poisoned(documented.document(), evil)
        html = page.render(hostile)

        assert "&lt;script&gt;" in html
        assert "<script" not in html
        assert "&lt;b&gt;" in html


def poisoned(value: Any, text: str) -> Any:
    """The document with `text` behind everything that is prose or an example."""
    if isinstance(value, dict):
        prose = ("description", "summary", "title", "bearerFormat")
        return {
            name: f"{below} {text}" if name in prose and isinstance(below, str) else poisoned(below, text)
            for name, below in value.items()
            if name != "example"
        } | ({"example": {text: text}} if "schema" in value and "in" not in value else {})
    return [poisoned(each, text) for each in value] if isinstance(value, list) else value


def loads(html: str) -> list[str]:
    """What a browser would load for a page, beside the page."""
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            named = dict(attributes)
            assert tag not in ("script", "style", "iframe", "object", "img")
            assert "style" not in named
            assert not [name for name in named if name.startswith("on")]
            if tag == "link":
                found.append(named["href"])

    Parser().feed(html)
    return found


def texts(html: str) -> str:
    """The words of a page."""
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_data(self, data: str) -> None:
            found.append(data)

    Parser().feed(html)
    return "".join(found)


def _cors(resource: Any) -> bool:
    return getattr(resource, "cors", False)
