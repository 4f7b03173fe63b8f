"""Two tenants with names, and the API as each of them sees it."""

from __future__ import annotations

from typing import Any

import pytest
from falcon import testing

from kongflow_events import settings, words
from kongflow_events.services import keys
from kongflow_events.store import db
from kongflow_events.web.app import create_app
from tests import documented, factory


class Api:
    """The API through one tenant's key; every answer is Falcon's result, and what the document says it is."""

    def __init__(self, client: testing.TestClient, environment: words.Environment) -> None:
        self.environment = environment
        self._client = client
        with db.unit():
            self.key = keys.create_key(environment).key
            self.public_key = keys.create_key(environment, keys.PUBLIC).key

    def __call__(self, method: str, path: str, body: Any = None, *, key: str | None = None, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {key or self.key}", **options.pop("headers", {})}
        if isinstance(body, bytes):
            options["body"] = body
        elif body is not None:
            options["json"] = body
        answer = self._client.simulate_request(method, path, headers=headers, **options)
        documented.check(method, path, answer)
        return answer

    def get(self, path: str, **options: Any) -> Any:
        return self("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self("POST", path, body, **options)

    def send(self, name: str = factory.JOB_EVENT, options: Any = None, **event: Any) -> Any:
        """Send an event; returns the answer's JSON."""
        answer = self.post("/api/v1/events", {"event": {"name": name, **event}, "options": options or {}})
        assert answer.status_code == 200, answer.text
        return answer.json


@pytest.fixture
def client(store: str) -> testing.TestClient:
    """The application on a fresh database, asked without a key."""
    return testing.TestClient(
        create_app(settings.load({"KONGFLOW_MAX_BODY": "20000", "KONGFLOW_MAX_BULK_EVENTS": "5"}))
    )


@pytest.fixture
def alice(client: testing.TestClient) -> Api:
    """A tenant."""
    return Api(client, factory.environment("alice"))


@pytest.fixture
def bob(client: testing.TestClient) -> Api:
    """A stranger to Alice."""
    return Api(client, factory.environment("bob"))
