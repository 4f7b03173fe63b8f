"""The suite's real parts: a PostgreSQL and a RabbitMQ of its own, and a fresh database for each test that wants one."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from kongflow_events import logs, settings, words
from kongflow_events.embedded import EmbeddedPostgres
from kongflow_events.store import db, readers, schema
from tests.servers import RabbitMQ, RabbitMQNode, open_to_others

# Which server: an existing one, or the binaries in a directory (the system's, say) in place of the embedded ones.
DATABASE_URL = os.environ.get("KONGFLOW_TEST_DATABASE_URL")
POSTGRES_BIN = os.environ.get("KONGFLOW_TEST_POSTGRES_BIN")
RABBITMQ_URL = os.environ.get("KONGFLOW_TEST_RABBITMQ_URL")

_node: RabbitMQNode | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the Makefile asks for beside tests."""
    parser.addoption("--screenshots", metavar="FOLDER", help="keep pictures of the console's pages in this folder")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the broker when a collected test needs it: the others run while it comes up."""
    global _node  # noqa: PLW0603 - one node for the session, begun before any fixture
    needs_it = any("rabbitmq" in getattr(item, "fixturenames", ()) for item in session.items)
    if needs_it and RABBITMQ_URL is None and not session.config.option.collectonly:
        _node = RabbitMQNode()
        _node.start()


def pytest_sessionfinish() -> None:
    """Leave nothing running."""
    if _node is not None:
        _node.stop()


@pytest.fixture(scope="session", autouse=True)
def _scrubbed() -> None:
    """No variable of the person who runs the tests decides how they end."""
    for name in list(os.environ):
        if name.startswith("KONGFLOW_") or name in settings.BARE:
            del os.environ[name]
    logs.configure()
    # Receivers of the tests' own calls live on loopback.
    os.environ["KONGFLOW_ALLOWED_NETWORKS"] = "127.0.0.0/8"
    # What webhooks' secrets are sealed with.
    os.environ["KONGFLOW_SECRET_KEY"] = base64.b64encode(b"a key for the tests, 32 bytes ..").decode()


@pytest.fixture(scope="session")
def rabbitmq(_scrubbed: None) -> RabbitMQ:
    """A broker that answers."""
    broker = RabbitMQ(RABBITMQ_URL) if RABBITMQ_URL else _node
    assert broker is not None, "a fixture that is asked for at run time comes too late to start the broker"
    broker.wait()
    return broker


@pytest.fixture
def queues(rabbitmq: RabbitMQ) -> RabbitMQ:
    """The broker with nothing in its queues."""
    connection = rabbitmq.connect()
    for kind in words.KINDS:
        for queue in (kind, f"{kind}.DQ", f"{kind}.XQ"):
            channel = connection.channel()
            try:
                channel.queue_purge(queue)
            except Exception:  # noqa: BLE001 - a queue that nobody has declared yet closes the channel, and is empty
                continue
    connection.close()
    return rabbitmq


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL that may be filled and thrown away."""
    if DATABASE_URL:
        yield DATABASE_URL
        return
    # What is thrown away need not survive a power failure.
    options = {"fsync": "off", "max_connections": "200"}
    home = tmp_path_factory.mktemp("postgres")
    open_to_others(home)
    with EmbeddedPostgres(
        home / "data", binaries=Path(POSTGRES_BIN) if POSTGRES_BIN else None, options=options
    ) as postgres:
        yield postgres.url


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a database with the schema in it and nothing else."""
    name = f"kf_template_{uuid.uuid4().hex[:8]}"
    _execute(server, "CREATE DATABASE {}", name)
    assert schema.migrate(url_of(server, name)) == ["schema.sql"]
    yield name
    _execute(server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def database(server: str, template: str) -> Iterator[str]:
    """The URL of a fresh database with the schema in it."""
    name = f"kf_{uuid.uuid4().hex[:12]}"
    _execute(server, "CREATE DATABASE {} TEMPLATE {}", name, template)
    yield url_of(server, name)
    _execute(server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def empty_database(server: str) -> Iterator[str]:
    """The URL of a fresh database with nothing in it."""
    name = f"kf_{uuid.uuid4().hex[:12]}"
    _execute(server, "CREATE DATABASE {}", name)
    yield url_of(server, name)
    _execute(server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def store(database: str) -> Iterator[str]:
    """The store of this process, on a fresh database."""
    db.connect(database, pool_size=24)
    readers.connect(database, statement_seconds=2)
    yield database
    readers.close()
    db.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for data that the server's account can reach."""
    open_to_others(tmp_path)
    return tmp_path / "data"


def url_of(server: str, name: str) -> str:
    """The URL of another database on the same server."""
    parts: dict[str, Any] = psycopg2.extensions.parse_dsn(server)
    host, user, password = parts.get("host", "localhost"), parts.get("user", ""), parts.get("password", "")
    port = f"&port={parts['port']}" if "port" in parts else ""
    return f"postgresql://{user}:{password}@/{name}?host={host}{port}"


def _execute(server: str, statement: str, *names: str) -> None:
    connection = psycopg2.connect(server)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
    connection.close()
