"""Every command that the documents show is run, or, where one machine is not enough for it, read by what would run it.

A block ```sh is run, in order, in one shell for each page, beside a running service. A block ```console shows what needs
root, another program or another machine: its commands of ours are parsed, its targets and units looked for.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import click
import pytest

from kongflow_events.cli import main, output
from kongflow_events.cli.deploy import _UNITS
from kongflow_events.embedded import _newest_binaries
from kongflow_events.services import environments, keys
from kongflow_events.store import db
from tests.node import PROJECT
from tests.processes import BIN, ROOT, Http, procfile, running
from tests.receiver import Receiver
from tests.servers import RabbitMQ, eventually, free_port

PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# What a page's reader has, and a test has in another place.
PLACEHOLDER: Final = "019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42"
RECEIVERS: Final = ("https://shop.example.com", "http://127.0.0.1:3000")

# Commands whose answer is another than 0, where the page says so.
CODES: Final = {
    "kongflow-events explain": 3,
    "kongflow-events dead list": 3,
    "kongflow-events doctor": 5,
    "kongflow-events import": 1,
    # What stands before it in a pipe is doctor: 5 is none of its own.
    "grep": 5,
}

# Slower than a person's fingers the machine must not be: what is sent is done a moment later.
PRELUDE: Final = """
cd "$HERE"
webhook() { kongflow-events dispatchers list --json | jq -r '[.data[] | select(.dispatchable.type == "WEBHOOK").id][0]'; }
dead() { kongflow-events invocations list --status DEAD --json | jq -r '.data[0].id'; }
failed() {
  case "$2:$1" in
    CODES) ;;
    *) echo "FAILED with $1: $2" >&2; exit 1 ;;
  esac
}
trap 'sleep 0.4' DEBUG
trap 'failed $? "$BASH_COMMAND"' ERR
set -o pipefail -o nounset
"""
# In the place of the command: what runs until Ctrl-C gets one, and again if it came too early.
WRAPPER: Final = f"""#!/bin/sh
case "$1" in
  listen|tail)
    {BIN}/kongflow-events "$@" &
    for second in 1 2 3 4; do sleep 1; kill -0 $! 2>/dev/null || break; done
    while kill -INT $! 2>/dev/null; do sleep 1; done
    wait $! ;;
  *) exec {BIN}/kongflow-events "$@" ;;
esac
"""

# Before a page begins: what it takes for granted.
A_DEAD_LETTER: Final = """
kongflow-events webhooks create https://shop.example.com/refunds --event refund.made --format cloudevent
kongflow-events send refund.made --id $'no\\tCloudEvent'
sleep 2
"""
# A folder in which the SDK is installed.
AN_APP: Final = f"""
[ -d {PROJECT}/node_modules/@trigger.dev/sdk ] || npm ci --prefix {PROJECT} --no-audit --no-fund
ln -s {PROJECT}/node_modules node_modules
"""


class Page(NamedTuple):
    """What a page runs beside, what it takes for granted, and words that its commands have to say."""

    stage: str
    says: tuple[str, ...]
    before: str = ""


RUN: Final = {
    "README.md": Page(
        "dev",
        (
            '"status":"PENDING"',
            "delivered",
            "payload.amount: $gt 10 does not hold for 5",
            "whsec_",
            "control character",
        ),
        A_DEAD_LETTER,
    ),
    "webhooks.md": Page("dev", ('"type":"WEBHOOK"', '/v2/large-orders"')),
    "first-event.md": Page("dev", ('"status":"PENDING"', "it does not match", "SUCCEEDED")),
    "come-from-trigger.md": Page("dev", ("name: 'order.paid'", '"status":"PENDING"', "SUCCEEDED"), AN_APP),
    "filters.md": Page("dev", ("$gt 10 does not hold for 5", "it matches")),
    "retries.md": Page("dev", ("DEAD", "control character", "redriven", "SUCCEEDED", "dismissed")),
    "replay.md": Page("dev", ("invocations", "DONE")),
    "metrics.md": Page("dev", ("kongflow_events_total",)),
    "traces.md": Page("dev", ('"name":"order.paid"',)),
    "cli.md": Page("dev", ("received", "accepted", "exported")),
    "deploy.md": Page(
        "servers", ("nothing to do", "KONGFLOW_KEY", "added olga as operator", "ExecStart", "client_max_body_size")
    ),
    "console.md": Page("servers", ("added olga as operator", "victor")),
    "operate.md": Page("servers", ("✓", "revoked", "resealed")),
    "recover.md": Page("servers", ("✓", "redriven"), A_DEAD_LETTER),
}

# As a reader comes to them, each with what the pages before it left behind.
IN_ORDER: Final = ("README.md", "first-event.md", "retries.md", "webhooks.md", "replay.md")


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def script(page: Path, wanted: Page, receiver: str) -> str:
    """The page's blocks as one program."""
    codes = " | ".join(f'*"{command}"*:{code}' for command, code in CODES.items())
    text = PRELUDE.replace("CODES", codes) + wanted.before + "\n".join(blocks(page, "sh"))
    for public in RECEIVERS:
        text = text.replace(public, receiver)
    lines = text.splitlines()
    return "\n".join(line.replace(PLACEHOLDER, "$(dead)" if " dead " in line else "$(webhook)") for line in lines)


@contextmanager
def dev(folder: Path) -> Iterator[dict[str, str]]:
    """What a page's reader has in the first terminal: `kongflow-events dev`."""
    port = free_port()
    variables = folder / ".kongflow" / "dev.env"
    with running([f"kongflow-events dev --data {folder}/.kongflow --port {port}"], {}, folder / "dev.log"):
        eventually(lambda: variables.exists() and "KONGFLOW_KEY" in variables.read_text(), 60)
        here = dict(line.split("=", 1) for line in variables.read_text().splitlines())
        Http(here["KONGFLOW_URL"], here["KONGFLOW_KEY"]).wait()
        yield here


@contextmanager
def servers(folder: Path, database: str, broker: str) -> Iterator[dict[str, str]]:
    """What an operator has: the Procfile's processes on a PostgreSQL and a RabbitMQ."""
    port = free_port()
    environ = {
        "DATABASE_URL": database,
        "RABBITMQ_URL": broker,
        "PORT": str(port),
        "KONGFLOW_STOP_GRACE": "0",
        "KONGFLOW_ALLOWED_NETWORKS": "127.0.0.0/8",
        "KONGFLOW_SECRET_KEY": base64.b64encode(os.urandom(32)).decode(),
    }
    db.connect(database, pool_size=2)
    with db.unit():
        key = keys.create_key(environments.create_environment("acme", "shop", "PRODUCTION")).key
    db.close()
    commands = [procfile()[name] for name in ("web", "worker", "poster", "scheduler")]
    with running(commands, environ, folder / "processes.log"):
        Http(f"http://127.0.0.1:{port}", key).wait()
        yield {**environ, "KONGFLOW_URL": f"http://127.0.0.1:{port}", "KONGFLOW_KEY": key}


def execute(program: str, folder: Path, environ: dict[str, str]) -> str:
    """What the program says; fails when one of its commands does."""
    # Where the pages say that it is.
    wrapper = folder / ".venv" / "bin" / "kongflow-events"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(WRAPPER)
    wrapper.chmod(0o755)
    path = f"{wrapper.parent}:{BIN}:{_newest_binaries()}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-c", program],
        env={**os.environ, **environ, "HERE": str(folder), "PATH": path, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def works(name: str, folder: Path, environ: dict[str, str], receiver: Receiver) -> None:
    """Run a page's commands, and expect what they have to say."""
    page = ROOT / name if name == "README.md" else ROOT / "docs" / name
    said = execute(script(page, RUN[name], receiver.url.rstrip("/")), folder, environ)

    assert [word for word in RUN[name].says if word not in said] == [], f"{name}: {said}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, page in RUN.items() if page.stage == "dev"])
def test_the_commands_of_a_page_work_beside_dev(name: str, home: Path) -> None:
    with dev(home.parent) as environ, Receiver() as receiver:
        works(name, home.parent, environ, receiver)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, page in RUN.items() if page.stage == "servers"])
def test_the_commands_of_a_page_work_beside_servers(name: str, database: str, queues: RabbitMQ, tmp_path: Path) -> None:
    with servers(tmp_path, database, queues.url) as environ, Receiver() as receiver:
        works(name, tmp_path, environ, receiver)


@pytest.mark.slow
def test_pages_that_point_to_one_another_work_one_after_the_other_beside_one_dev(home: Path) -> None:
    with dev(home.parent) as environ, Receiver() as receiver:
        for name in IN_ORDER:
            works(name, home.parent, environ, receiver)


def test_every_page_with_commands_is_run() -> None:
    assert {page.name for page in PAGES if blocks(page, "sh")} == set(RUN)


def test_a_command_that_fails_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for command, good in (("true", True), ("false", False), ("kongflow-events nonsense", False), ("x=$(false)", False)):
        page.write_text(f"text\n\n```sh\n{command}\necho done\n```\n")
        program = script(page, Page("dev", ()), "http://127.0.0.1:9")
        if good:
            assert "done" in execute(program, tmp_path, {})
        else:
            with pytest.raises(AssertionError, match="FAILED with"):
                execute(program, tmp_path, {})


def shown() -> list[str]:
    """The commands of the blocks that are not run, one a line, without what they print."""
    text = "".join(block for page in PAGES for block in blocks(page, "console")).replace("\\\n", " ")
    prompts = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    return [shlex.join(shlex.split(line, comments=True)) for line in prompts]


@pytest.mark.parametrize("command", sorted({line for line in shown() if "kongflow-events " in line}))
def test_a_command_that_is_only_shown_is_one_that_there_is(command: str) -> None:
    words = shlex.split(command)
    words = words[next(at for at, word in enumerate(words) if word.endswith("kongflow-events")) + 1 :]
    group: click.Command = main
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        group = group.commands[words.pop(0)]

    assert not isinstance(group, click.Group)
    group.make_context("shown", [word for word in words if word not in (">", "|")], resilient_parsing=False).close()


def test_make_targets_and_units_that_are_only_shown_are_there() -> None:
    commands = [shlex.split(line) for line in shown()]
    targets = {line[1] for line in commands if line[0] == "make"}
    assert targets >= {"dev", "test"}
    assert {one for one in targets if f"\n{one}:" not in (ROOT / "Makefile").read_text()} == set()

    named = {word for line in commands if "systemctl" in line for word in line if word.startswith("kongflow")}
    units = {re.sub("@.*", "@.service", word) if "@" in word else word for word in named}
    assert units
    assert {unit for unit in units if unit not in _UNITS and f"{unit}.service" not in _UNITS} == set()


def test_the_exit_codes_of_the_page_are_those_of_the_command() -> None:
    table = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    ours = {output.FAILED, output.USAGE, output.NOTHING, output.UNREACHABLE, output.WARNED, output.INTERRUPTED}

    assert codes == {0} | ours


def test_every_command_of_ours_stands_on_its_page() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    assert [name for name in main.commands if f"`{name}" not in page] == []
