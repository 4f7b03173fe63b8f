"""The service, by the commands of the Procfile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import workload
from benchmarks.servers import Postgres, Servers
from benchmarks.system import System, processes
from kongflow_events import words
from kongflow_events.services import environments, keys
from kongflow_events.store import db, schema
from tests import factory
from tests.processes import Http, procfile
from tests.servers import free_port

TYPES = ("web", "worker", "poster", "scheduler")


@contextmanager
def started(servers: Servers, postgres: Postgres) -> Iterator[System]:
    """All processes, with the rules of the workload in an environment of their own."""
    servers.node.empty(*(name for kind in words.KINDS for name in (kind, f"{kind}.DQ", f"{kind}.XQ")))
    with postgres.database() as database:
        schema.migrate(database)
        with running(servers, database, make_rules(database)) as system:
            yield system


@contextmanager
def running(servers: Servers, database: str, key: str, environ: dict[str, str] | None = None) -> Iterator[System]:
    """All processes on a database that is ready."""
    port = free_port()
    variables = {"DATABASE_URL": database, "RABBITMQ_URL": servers.node.url, "PORT": str(port), **(environ or {})}
    commands = {name: procfile()[name] for name in TYPES}
    with processes(commands, variables, servers.home / "ours.log") as leaders:
        Http(f"http://127.0.0.1:{port}", key).wait()
        yield System(port, key, database, leaders, bulk_path="/api/v1/events/bulk")


def make_rules(database: str) -> str:
    """An environment with the rules of the workload; returns its key."""
    db.connect(database, pool_size=2)
    try:
        with db.unit():
            environment = environments.create_environment("bench", "bench", "DEVELOPMENT")
            key = keys.create_key(environment).key
        for number in range(workload.DISPATCHERS):
            job = factory.job(environment, f"job-{number}")
            factory.dispatcher(
                environment, workload.EVENT, to=factory.to_job(job), payload_filter=workload.rule(number)
            )
        return key
    finally:
        db.close()
