"""Schemathesis against a running service: every route of the document, every check, every phase, nothing left out."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kongflow_events.schemas import examples
from tests.integration.test_dev import dev
from tests.processes import BIN, Http
from tests.servers import eventually, free_port

pytestmark = pytest.mark.slow

# No 5xx, no status or body beside the document, nothing that breaks a schema accepted. What keeps to its schema is accepted
# too, but for what no schema can say: whether a target is in the environment or at an address that may be called, whether
# a filter means something, whether a window ends after it begins, which characters and media types an attribute of a
# CloudEvent may have. There a 422 (or upstream's 400) is an answer that the document promises.
CONFIG = """
seed = 2026
headers = {{ Authorization = "Bearer {key}" }}
parameters = {{ "path.runId" = {{ dictionary = "runs", probability = 0.5 }} }}

[generation]
# JSON Schema cannot forbid NUL inside any JSON; other tests send it everywhere.
allow-x00 = false

[dictionaries]
runs = {{ values = ["{run}"] }}
versions = {{ values = ["{version}"] }}
targets = {{ values = ["http://127.0.0.1:9/a", "http://127.0.0.1:9/b", "http://127.0.0.1:9/c"] }}

[[operations]]
include-operation-id = ["createEventDispatcher", "updateEventDispatcher", "registerJob", "putDynamicTrigger",
    "explainEventDispatcher", "startReplay", "previewReplay", "sendEvent", "getStatistics", "headGetStatistics"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "422"]

[operations.parameters]
"body.dispatchable.id" = {{ dictionary = "versions", probability = 0.8 }}
"body.dispatchable.url" = {{ dictionary = "targets", probability = 0.8 }}

[[operations]]
include-operation-id = "createEphemeralEventDispatcher"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400"]

[operations.parameters]
"body.url" = {{ dictionary = "targets", probability = 0.8 }}
"""


def test_the_service_keeps_to_its_document_whatever_it_is_sent(home: Path, tmp_path: Path) -> None:
    with dev(home, free_port()) as (http, _):
        config = tmp_path / "schemathesis.toml"
        config.write_text(CONFIG.format(key=http.key, **story(http)))
        command = [BIN / "schemathesis", "--config-file", config, "run", f"{http.url}/openapi.json"]
        options = ["--checks", "all", "--continue-on-failure", "--max-examples", "40", "--no-color"]
        found = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr


def story(http: Http) -> dict[str, Any]:
    """A job, an event, and the run that it started."""
    job = http("POST", "/api/v1/jobs", examples.BODIES[examples.requests.JobBody])
    http("POST", "/api/v1/events", examples.BODIES[examples.requests.SendBody])

    def runs() -> list[Any]:
        found: list[Any] = http("GET", f"/api/v1/jobs/{examples.JOB}/runs")["runs"]
        return found

    eventually(runs)
    return {"version": job["versionId"], "run": runs()[0]["id"]}
