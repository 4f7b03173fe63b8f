"""The limit of the machine: how fast PostgreSQL takes the events themselves, by pgbench, into the table of plan.sql."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks import workload
from benchmarks.servers import Servers

_PLAN = Path(__file__).with_name("plan.sql")
_COLUMNS = "event_id, name, payload, context, source, organization_id, environment_id, project_id"
_OWNERS = ", ".join(f"'00000000-0000-0000-0000-00000000000{number}'" for number in (1, 3, 2))
# One event of the workload; its id is random, as a sender's is.
_PAYLOAD = json.dumps(workload.order(0)["payload"]).replace("'", "''")
_ROW = f"gen_random_uuid()::text, '{workload.EVENT}', '{_PAYLOAD}', '{{}}', 'trigger.dev', {_OWNERS}"


def measure(servers: Servers, seconds: int) -> dict[str, Any]:
    """Rows a second: one row a transaction by 8 clients, and 1,000 rows a transaction by 2."""
    with servers.postgres.database() as database:
        _prepare(database)
        singles = _pgbench(servers, database, f"INSERT INTO event_records ({_COLUMNS}) VALUES ({_ROW});", 8, seconds)
        many = f"INSERT INTO event_records ({_COLUMNS}) SELECT {_ROW} FROM generate_series(1, 1000);"
        return {"rows/s": singles, "rows/s, 1000 a statement": 1000 * _pgbench(servers, database, many, 2, seconds)}


def _prepare(database: str) -> None:
    connection = psycopg2.connect(database)
    with connection, connection.cursor() as cursor:
        cursor.execute(_PLAN.read_text(encoding="utf-8"))
    connection.close()


def _pgbench(servers: Servers, database: str, statement: str, clients: int, seconds: int) -> float:
    """Transactions a second of prepared statements."""
    script = servers.home / "pgbench.sql"
    script.write_text(statement, encoding="utf-8")
    command = ["--no-vacuum", "--protocol=prepared", f"--client={clients}", "--jobs=2", f"--time={seconds}"]
    binary = (servers.postgres.binaries or Path()) / "pgbench"
    made = subprocess.run([binary, *command, f"--file={script}", database], capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([\d.]+)", made.stdout)
    assert found, made.stdout
    return round(float(found[1]), 1)
