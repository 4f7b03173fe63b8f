"""Thousands of bodies that nobody thought of: none is a 5xx, every refusal says why, and what is taken reads back."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from falcon import testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kongflow_events import settings as service
from kongflow_events.web.app import create_app
from tests import bodies, factory
from tests.bodies import Body
from tests.integration.conftest import Api

RULES = "/api/v1/event-dispatchers"
WHERE = {
    "events": ("POST", "/api/v1/events"),
    "bulk": ("POST", "/api/v1/events/bulk"),
    "ephemeral": ("POST", f"{RULES}/ephemeral"),
    "rule": ("POST", RULES),
    "change": ("PATCH", f"{RULES}/{{rule}}"),
    "job": ("POST", "/api/v1/jobs"),
    "trigger": ("PUT", "/api/v1/dynamic-triggers/some"),
}
# What each route may say to a body that comes with a good key.
STATUSES = {
    **{route: {200, 400, 413, 422} for route in WHERE},
    "ephemeral": {200, 400, 413},
    "rule": {200, 400, 409, 413, 422},
}


class Sent(msgspec.Struct):
    """What a body says of an event, as the bytes that it says it in."""

    payload: msgspec.Raw = msgspec.Raw(b"null")
    id: str | None = None


class Shown(msgspec.Struct):
    """What an answer says of an event, likewise."""

    id: str
    payload: msgspec.Raw


class One(msgspec.Struct):
    event: Sent


class Many(msgspec.Struct):
    events: list[Sent]


class Listed(msgspec.Struct):
    data: list[Shown]


class Throng:
    """One tenant that is sent many bodies; `met` counts what was sent and what it was answered."""

    def __init__(self, api: Api, rule: str) -> None:
        self.met: Counter[tuple[str, str, int]] = Counter()
        self._api = api
        self._rule = rule
        # What the service may show as the payload of an id: a repeat may change it, or leave it as it was.
        self._payloads: dict[str, set[bytes]] = {}

    def send(self, body: Body) -> None:
        """Send one body, and hold its answer against what every answer has to be."""
        method, path = WHERE[body.route]
        answer = self._api(method, path.format(rule=self._rule), body.raw)
        self.met[body.route, body.kind, answer.status_code] += 1

        assert answer.status_code in STATUSES[body.route], answer.content
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        if answer.status_code == 200:
            self._reads_back(body, answer)
        else:
            assert body.kind != bodies.VALID or answer.status_code == 409, answer.content
            self._says_why(answer)

    def _says_why(self, answer: Any) -> None:
        said = answer.json
        assert isinstance(said["error"], str)
        assert said["error"]
        if answer.status_code == 422:
            assert said["message"] == said["error"]
            assert said["issues"]
        for issue in said.get("issues", []):
            assert [type(issue[key]) for key in ("code", "path", "message")] == [str, str, str]

    def _reads_back(self, body: Body, answer: Any) -> None:
        match body.route:
            case "events":
                sent = [msgspec.json.decode(body.raw, type=One).event]
                self._payloads_are_kept(sent, [msgspec.json.decode(answer.content, type=Shown)])
            case "bulk":
                sent = msgspec.json.decode(body.raw, type=Many).events
                self._payloads_are_kept(sent, msgspec.json.decode(answer.content, type=list[Shown]))
            case "rule" | "change" | "ephemeral":
                stored = self._api.get(f"{RULES}/{answer.json['id']}").json
                assert stored | answer.json | {"warnings": []} == stored
            case "job":
                asked = msgspec.json.decode(body.raw)
                assert {key: answer.json[key] for key in ("id", "name", "version")}.items() <= asked.items()
                assert self._api.get(f"{RULES}/{answer.json['dispatcherId']}").status_code == 200
            case "trigger":
                assert answer.json["jobs"] == list(dict.fromkeys(msgspec.json.decode(body.raw)["jobs"]))

    def _payloads_are_kept(self, sent: list[Sent], shown: list[Shown]) -> None:
        new = []
        for asked, said in zip(sent, shown, strict=True):
            assert asked.id in (None, said.id)
            payload = bytes(asked.payload)
            if said.id not in self._payloads:
                new.append(said.id)
            self._payloads.setdefault(said.id, set()).add(b"{}" if payload == b"null" else payload)
            assert bytes(said.payload) in self._payloads[said.id]
        if new:
            page = self._api.get("/api/v1/events", params={"limit": len(set(new))}).content
            listed = {one.id: bytes(one.payload) for one in msgspec.json.decode(page, type=Listed).data}
            assert listed == {one.id: bytes(one.payload) for one in shown if one.id in new}


@pytest.fixture
def throng(store: str) -> Throng:
    """Alice, with a webhook to be changed."""
    limits = {"KONGFLOW_MAX_BODY": "100000", "KONGFLOW_MAX_BULK_BODY": "110000", "KONGFLOW_MAX_BULK_EVENTS": "100"}
    alice = Api(testing.TestClient(create_app(service.load(limits))), factory.environment("alice"))
    made = alice.post(RULES, {"event": "a", "dispatchable": {"type": "WEBHOOK", "url": "http://127.0.0.1:9/"}})
    return Throng(alice, made.json["id"])


KINDS = {bodies.VALID, bodies.NOISE, bodies.DAMAGED, *bodies.MISTAKES}
STATUSES_MET = {200, 400, 409, 413, 422}


@pytest.mark.parametrize(
    ("number", "kinds", "statuses"),
    # So few may miss a kind of mistake, and with it what is too large or is there already.
    [(400, {bodies.VALID}, {200, 400, 422}), pytest.param(10_000, KINDS, STATUSES_MET, marks=pytest.mark.slow)],
)
def test_no_body_is_more_than_the_service_can_answer(
    throng: Throng, number: int, kinds: set[str], statuses: set[int]
) -> None:
    version = factory.to_job(factory.job(throng._api.environment))
    targets = st.just(version) | st.builds(factory.to_url, bodies.URL)
    for route in WHERE:
        made = bodies.bodies(route, bodies.WEBHOOK_CHANGE if route == "change" else targets)
        _send(throng, made, number // len(WHERE) + 1)

    met = throng.met
    assert met.total() >= number
    near = sum(count for (_, kind, _), count in met.items() if kind != bodies.NOISE)
    assert near >= met.total() / 2
    assert {kind for _, kind, _ in met} >= kinds
    assert {route for route, _, status in met if status == 200} == set(WHERE)
    assert {status for _, _, status in met} >= statuses


def _send(throng: Throng, made: st.SearchStrategy[Body], number: int) -> None:
    @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(made)
    def send(body: Body) -> None:
        throng.send(body)

    send()
