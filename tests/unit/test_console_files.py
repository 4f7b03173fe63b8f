"""The files that the console's pages load."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

from falcon import testing

from kongflow_events import settings
from kongflow_events.console import static
from kongflow_events.web.app import create_app

VENDORED = resources.files("kongflow_events.console").joinpath("static", "vendor")


def test_what_others_wrote_is_as_they_released_it() -> None:
    rows = re.findall(
        r"^\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|$",
        VENDORED.joinpath("VENDOR.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert {name: hashlib.sha256(VENDORED.joinpath(name).read_bytes()).hexdigest() for name, _ in rows} == dict(rows)
    scripts = {file.name for file in VENDORED.iterdir() if file.name.endswith((".js", ".css"))}
    assert scripts == {name for name, _ in rows}


def test_files_have_names_that_change_with_their_bytes_and_are_kept_for_ever() -> None:
    client = testing.TestClient(create_app(settings.load({})))

    for name in ("console.css", "console.js", "htmx.js", "icon.svg"):
        answer = client.simulate_get(static.file_url(name))
        assert answer.status_code == 200
        assert hashlib.sha256(answer.content).hexdigest()[:16] in static.file_url(name)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.simulate_get("/console/static/console.css").status_code == 404
    assert client.simulate_get("/console/static/..%2fapp.py").status_code == 404
