"""A browser for tests of the console: it keeps cookies, says where its forms come from, and brings their tokens along."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from falcon import testing

from kongflow_events.services import operators
from kongflow_events.store import db

HOST = "falconframework.org"
PASSWORD = "correct horse battery staple"
_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]+)"')


class Browser:
    """One browser; every answer is Falcon's result."""

    def __init__(self, client: testing.TestClient) -> None:
        self.client = client
        self.cookies: dict[str, str] = {}
        self.form_token = ""

    def get(self, path: str, **options: Any) -> Any:
        """Load a page, whose form's token is kept."""
        answer = self._ask("GET", path, **options)
        found = _TOKEN.search(answer.text or "")
        self.form_token = found[1] if found else self.form_token
        return answer

    def post(self, path: str, headers: dict[str, str] | None = None, **form: Any) -> Any:
        """Send a form of a page that was loaded before."""
        body = urlencode({"form_token": self.form_token, **form})
        sent = {"Origin": f"http://{HOST}", "Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self._ask("POST", path, body=body, headers=sent)

    def sign_in(self, name: str = "olga", role: operators.operators.Role = "operator") -> Browser:
        """Sign in as an operator who is made for it; returns the browser."""
        with db.unit():
            operators.add_operator(name, role, PASSWORD)
        answer = self.post("/console/sign-in", name=name, password=PASSWORD)
        assert answer.status_code == 303, answer.text
        self.get("/console/environments")
        return self

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        answer = self.client.simulate_request(method, path, cookies=self.cookies, **options)
        for name, cookie in answer.cookies.items():
            if cookie.value:
                self.cookies[name] = cookie.value
            else:
                self.cookies.pop(name, None)
        return answer
