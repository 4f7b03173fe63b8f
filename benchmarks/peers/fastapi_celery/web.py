"""Takes events: the event is stored and committed, then its delivery is queued."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from database import pool
from fastapi import Depends, FastAPI, Header, HTTPException
from psycopg.types.json import Jsonb
from pydantic import BaseModel
from tasks import deliver


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """The pool lives as long as the process."""
    pool.open(wait=True)
    yield
    pool.close()


app = FastAPI(lifespan=lifespan)


class Event(BaseModel):
    """What a client sends."""

    id: str
    name: str
    payload: dict[str, Any]
    context: dict[str, Any] | None = None
    source: str = "trigger.dev"


class SendEvent(BaseModel):
    """The body of a send."""

    event: Event


def environment(authorization: Annotated[str, Header()]) -> Any:
    """The environment of the key."""
    sha256 = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
    with pool.connection() as connection:
        found = connection.execute("SELECT environment_id FROM api_keys WHERE sha256 = %s", [sha256]).fetchone()
    if found is None:
        raise HTTPException(401, "Invalid API key")
    return found["environment_id"]


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """It is alive."""
    return {"status": "ok"}


@app.post("/api/v1/events")
def send(body: SendEvent, environment_id: Annotated[Any, Depends(environment)]) -> dict[str, Any]:
    """Store one event; a repeated id gives the first one back."""
    event = body.event
    with pool.connection() as connection:
        record = connection.execute(
            """
            INSERT INTO event_records
                (event_id, name, payload, context, source, organization_id, environment_id, project_id)
            VALUES (%s, %s, %s, %s, %s, '00000000-0000-0000-0000-000000000001', %s,
                    '00000000-0000-0000-0000-000000000002')
            ON CONFLICT (event_id, environment_id) DO UPDATE SET event_id = EXCLUDED.event_id
            RETURNING id, timestamp, deliver_at, delivered_at
            """,
            [event.id, event.name, Jsonb(event.payload), Jsonb(event.context), event.source, environment_id],
        ).fetchone()
    if record["delivered_at"] is None:
        deliver.delay(str(record["id"]))
    return {
        "id": event.id,
        "name": event.name,
        "payload": event.payload,
        "context": event.context,
        "timestamp": record["timestamp"],
        "deliverAt": record["deliver_at"],
        "deliveredAt": record["delivered_at"],
    }
