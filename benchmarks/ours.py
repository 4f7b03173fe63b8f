"""The service, by the commands of the Procfile."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.servers import Postgres, Servers
from benchmarks.system import System, processes
from kongflow_events import words
from kongflow_events.services import environments, keys
from kongflow_events.store import schema
from tests import factory
from tests.processes import Http, procfile
from tests.servers import free_port, open_to_others

TYPES = ("web", "worker", "poster", "scheduler")
BULK_PATH = "/api/v1/events/bulk"


@contextmanager
def started(servers: Servers, postgres: Postgres) -> Iterator[System]:
    """All processes, with the rules of the workload in an environment of their own."""
    with migrated(postgres) as database:
        environment, key = make_environment(database)
        make_rules(database, environment)
        with running(servers, database, key) as system:
            yield system


@contextmanager
def migrated(postgres: Postgres) -> Iterator[str]:
    """The URL of a database with the schema in it."""
    with postgres.database() as database:
        schema.migrate(database)
        yield database


@contextmanager
def running(servers: Servers, database: str, key: str, **commands: str) -> Iterator[System]:
    """All processes on a database that is ready; `commands` stand in for the Procfile's."""
    servers.node.empty(*(name for kind in words.KINDS for name in (kind, f"{kind}.DQ", f"{kind}.XQ")))
    port = free_port()
    environ = {"DATABASE_URL": database, "RABBITMQ_URL": servers.node.url, "PORT": str(port)}
    asked = {name: procfile()[name] for name in TYPES} | commands
    with processes(asked, environ, servers.home / "ours.log") as leaders:
        Http(f"http://127.0.0.1:{port}", key).wait()
        yield System(port, key, database, leaders, bulk_path=BULK_PATH)


@contextmanager
def dev(servers: Servers, _: Postgres) -> Iterator[System]:
    """`kongflow-events dev` with the rules of the workload; its PostgreSQL is its own, and counts as its own."""
    port = free_port()
    data = Path(tempfile.mkdtemp(prefix="dev-", dir=servers.home))
    open_to_others(data)
    command = {"dev": f"kongflow-events dev --data {data} --port {port}"}
    with processes(command, {}, servers.home / "dev.log") as leaders:
        Http(f"http://127.0.0.1:{port}", "").wait()
        variables = dict(line.split("=", 1) for line in (data / "dev.env").read_text().splitlines())
        database = variables["DATABASE_URL"]
        with factory.connected(database):
            environment = keys.authenticate(f"Bearer {variables['KONGFLOW_KEY']}")
        make_rules(database, environment)
        yield System(port, variables["KONGFLOW_KEY"], database, leaders, bulk_path=BULK_PATH)


def make_environment(database: str) -> tuple[words.Environment, str]:
    """An environment and a key to it."""
    with factory.connected(database):
        environment = environments.create_environment("bench", "bench", "DEVELOPMENT")
        return environment, keys.create_key(environment).key


def make_rules(database: str, environment: words.Environment, rules: Iterable[dict[str, Any]] = workload.RULES) -> None:
    """A dispatcher with these filters each, for the workload's events; each starts a job of its own."""
    with factory.connected(database):
        for number, rule in enumerate(rules):
            job = factory.job(environment, f"job-{number}")
            factory.dispatcher(environment, workload.EVENT, to=factory.to_job(job), payload_filter=rule)


def make_job(database: str, environment: words.Environment) -> str:
    """A job that rules can start; returns the id of its version."""
    with factory.connected(database):
        return str(factory.job(environment, "job").id)
