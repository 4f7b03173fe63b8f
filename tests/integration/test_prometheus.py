"""A real Prometheus: it takes the rules, fires them when it should, and finds every documented series of real processes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from kongflow_events import metrics
from tests.integration.test_whole_path import Service
from tests.processes import ROOT, procfile, running
from tests.receiver import Receiver, status
from tests.servers import RabbitMQ, eventually, free_port

pytestmark = pytest.mark.slow

RULES, DASHBOARD = ROOT / "docs" / "alerts.yml", ROOT / "docs" / "grafana.json"
RUNBOOK, METRICS = ROOT / "docs" / "recover.md", ROOT / "docs" / "metrics.md"
CASES = ROOT / "tests" / "data" / "alerts_test.yml"
TOKEN = "a-token-for-prometheus"
# A histogram is there by its samples.
SAMPLES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def promtool(*words: str | Path, folder: Path = ROOT) -> str:
    """What promtool says; it has to be content."""
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """A server that scrapes one place each second."""

    def __init__(self, place: str, home: Path) -> None:
        self.port = free_port()
        scrape = {
            "job_name": "kongflow",
            "authorization": {"credentials": TOKEN},
            "static_configs": [{"targets": [place]}],
        }
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape], "rule_files": [str(RULES)]}
        (home / "prometheus.yml").write_text(json.dumps(config))
        storage = f"--config.file={home}/prometheus.yml --storage.tsdb.path={home}/data"
        self.command = f"prometheus {storage} --web.listen-address=127.0.0.1:{self.port}"
        self._http = urllib3.PoolManager(retries=False, timeout=10)

    def get(self, path: str, **fields: str) -> Any:
        """The data of an answer, which has to be a success; None while nobody answers."""
        try:
            answer = self._http.request("GET", f"http://127.0.0.1:{self.port}/api/v1/{path}", fields=fields)
        except urllib3.exceptions.HTTPError:
            return None
        assert answer.status == 200, (fields, answer.data)
        return answer.json()["data"]

    def value(self, expression: str) -> list[Any]:
        """The samples of an expression now."""
        return list((self.get("query", query=expression) or {"result": []})["result"])


def expressions() -> Iterator[str]:
    """Every expression of the dashboard, with a time in place of Grafana's."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m")


def names_in(text: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bkongflow_\w+", text)}


def test_the_rules_are_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_the_rules_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    for file in (RULES, CASES):
        shutil.copy(file, tmp_path)

    assert "SUCCESS" in promtool("test", "rules", CASES.name, folder=tmp_path)


def test_every_rule_is_made_to_fire() -> None:
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    fired = {check["alertname"] for case in cases for check in case.get("alert_rule_test", ()) if check["exp_alerts"]}
    fired |= {
        re.findall(r'alertname="(\w+)"', check["expr"])[0]
        for case in cases
        for check in case.get("promql_expr_test", ())
        if check["exp_samples"]
    }

    assert {rule["alert"] for rule in rules} - fired == set()


def test_rules_and_dashboard_name_only_series_that_there_are_and_the_dashboard_all_of_them() -> None:
    there = {series.name for series in metrics.SERIES}
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]

    assert names_in(" ".join(rule["expr"] for rule in rules)) <= there
    assert names_in(" ".join(expressions())) == there
    assert all({"summary", "description", "runbook"} == set(rule["annotations"]) for rule in rules)


def test_every_alert_leads_to_a_section_and_stands_in_the_tables() -> None:
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    page = RUNBOOK.read_text(encoding="utf-8")
    sections = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", page, re.MULTILINE)}
    table = page.partition("## From an alert")[2].partition("\n## ")[0]
    led = {
        (name, level, anchor)
        for names, level, anchor in re.findall(r"^\| (`\w.*?) \| (\w+) \| .*?\]\(#([\w-]+)\)", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }

    assert {anchor for _, _, anchor in led} <= sections
    assert {(name, level, f"docs/recover.md#{anchor}") for name, level, anchor in led} == {
        (rule["alert"], rule["labels"]["severity"], rule["annotations"]["runbook"]) for rule in rules
    }
    listed = METRICS.read_text(encoding="utf-8").partition("| Alert | Fires when |")[2]
    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in listed] == []


def test_it_finds_every_documented_series_of_real_processes_and_understands_the_dashboard(
    database: str, queues: RabbitMQ, tmp_path: Path
) -> None:
    service = Service(database, queues, tmp_path / "processes.log")
    environ = {**service.environ, "KONGFLOW_METRICS_TOKEN": TOKEN}
    prometheus = Prometheus(service.http.url.removeprefix("http://"), tmp_path)
    commands = [procfile()[name] for name in ("web", "worker", "poster", "scheduler")]
    with Receiver(status(200)) as target, running([*commands, prometheus.command], environ, service.log):
        service.http.wait()
        service.register("ship")
        rule = {"event": "order.paid", "dispatchable": {"type": "EPHEMERAL", "url": target.url}}
        service.http("POST", "/api/v1/event-dispatchers", rule)
        service.send("1")
        eventually(lambda: service.count("SELECT count(*) FROM invocations WHERE status = 'SUCCEEDED'") == 2)
        # What all four have counted comes on the page of one.
        for expression in (
            'kongflow_events_total{outcome="new"} == 1',
            'kongflow_deliveries_total{outcome="matched"} == 1',
            'kongflow_invocations_total{kind="invoke", outcome="succeeded"} == 1',
            'kongflow_invocations_total{kind="post", outcome="succeeded"} == 1',
            "kongflow_send_to_run_seconds_count == 1",
            "kongflow_send_to_call_seconds_count == 1",
            'kongflow_post_seconds_count{outcome="succeeded"} == 1',
            'kongflow_messages_total{queue="post", outcome="done"} >= 1',
            "kongflow_relay_ticks_total > 0",
            'kongflow_queue_consumers{queue="deliver"} >= 1',
            "kongflow_database_up == 1",
            "kongflow_relays == 1",
            "sum(kongflow_outbox_rows) == 0",
        ):
            eventually(lambda expression=expression: prometheus.value(expression), 40, expression)  # type: ignore[misc]
        for series in metrics.SERIES:
            for sample in SAMPLES[series.kind]:
                assert prometheus.value(series.name + sample), series.name + sample
        for expression in expressions():
            prometheus.value(expression)
        assert not prometheus.value('ALERTS{alertstate="firing"}')
