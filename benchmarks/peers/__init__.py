"""What a team would write by hand for the same workload, twice; each with packages of its own in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from benchmarks import workload
from benchmarks.load import CACHE
from benchmarks.servers import Postgres, Servers
from benchmarks.system import System, processes
from tests.processes import Http
from tests.servers import free_port

_HERE = Path(__file__).parent
_KEY = "tr_dev_peer0000000000000000"
_ENVIRONMENT = "00000000-0000-0000-0000-000000000003"


@contextmanager
def fastapi_celery(servers: Servers, postgres: Postgres) -> Iterator[System]:
    """FastAPI and Celery on RabbitMQ, each with as many processes as the service has."""
    folder = _HERE / "fastapi_celery"
    binaries = _virtualenv(folder / "requirements.txt") / "bin"
    servers.node.empty("peer-deliver", "peer-invoke")
    with _database(postgres) as database:
        commands = {
            "web": f"{binaries}/uvicorn --app-dir {folder} web:app --port $PORT --workers 2 --log-level warning",
            "worker": f"{binaries}/celery --workdir {folder} -A tasks worker -Q peer-deliver,peer-invoke"
            " --concurrency 2 --loglevel WARNING --without-gossip --without-mingle",
        }
        with _started(servers, database, commands, {"RABBITMQ_URL": servers.node.url}) as system:
            yield system


@contextmanager
def node_graphile(servers: Servers, postgres: Postgres) -> Iterator[System]:
    """Fastify and graphile-worker, which needs PostgreSQL alone."""
    folder = _node_project(_HERE / "node_graphile")
    with _database(postgres) as database:
        graphile = str(folder / "node_modules/.bin/graphile-worker")
        subprocess.run([graphile, "--schema-only", "--connection", database], check=True, capture_output=True)
        commands = {name: f"node {folder}/{name}.mjs" for name in ("web", "worker")}
        with _started(servers, database, commands, {"NODE_ENV": "production"}) as system:
            yield system


@contextmanager
def _started(
    servers: Servers, database: str, commands: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[System]:
    port = free_port()
    variables = {"DATABASE_URL": database, "PORT": str(port), **environ}
    with processes(commands, variables, servers.home / "peers.log") as leaders:
        Http(f"http://127.0.0.1:{port}", _KEY).wait("/healthz")
        yield System(port, _KEY, database, leaders)


@contextmanager
def _database(postgres: Postgres) -> Iterator[str]:
    """A database with the peers' tables, the key and the rules."""
    with postgres.database() as database:
        connection = psycopg2.connect(database)
        with connection, connection.cursor() as cursor:
            for script in (_HERE.parent / "plan.sql", _HERE / "schema.sql"):
                cursor.execute(script.read_text(encoding="utf-8"))
            cursor.execute(
                "INSERT INTO api_keys VALUES (%s, %s)", [hashlib.sha256(_KEY.encode()).digest(), _ENVIRONMENT]
            )
            cursor.executemany(
                "INSERT INTO event_dispatchers (event, payload_filter, job_id, environment_id) VALUES (%s, %s, %s, %s)",
                [
                    (workload.EVENT, json.dumps(rule), f"job-{number}", _ENVIRONMENT)
                    for number, rule in enumerate(workload.RULES)
                ],
            )
        connection.close()
        yield database


def _virtualenv(requirements: Path) -> Path:
    """A virtual environment with these packages, made once for each version of the list."""
    folder = _cached(requirements)
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        options = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([folder / "bin/pip", "install", *options, "-r", requirements], check=True, capture_output=True)
        (folder / "done").touch()
    return folder


def _node_project(source: Path) -> Path:
    """The project beside its locked packages, which are fetched once for each version of the lock."""
    folder = _cached(source / "package-lock.json")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    if not (folder / "done").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
        (folder / "done").touch()
    return folder


def _cached(file: Path) -> Path:
    version = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return (CACHE / "peers" / f"{file.parent.name}-{version}").absolute()
