"""Delivers events and starts runs; a task is acknowledged when it is done, and doing it twice does nothing."""

import os

from celery import Celery
from celery.signals import worker_process_init
from database import pool
from filters import matches

app = Celery("peer", broker=os.environ["RABBITMQ_URL"])
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=16)


@worker_process_init.connect
def open_pool(**_: object) -> None:
    """Each worker process has connections of its own."""
    pool.open(wait=True)


@app.task(queue="peer-deliver")
def deliver(event_record_id: str) -> None:
    """Queue one invocation for each dispatcher that matches."""
    with pool.connection() as connection:
        event = connection.execute(
            "SELECT environment_id, name, source, payload FROM event_records WHERE id = %s", [event_record_id]
        ).fetchone()
        dispatchers = connection.execute(
            """
            SELECT id, payload_filter FROM event_dispatchers
            WHERE environment_id = %s AND event = %s AND source = %s AND enabled
            """,
            [event["environment_id"], event["name"], event["source"]],
        ).fetchall()
        connection.execute("UPDATE event_records SET delivered_at = now() WHERE id = %s", [event_record_id])
    for dispatcher in dispatchers:
        if matches(dispatcher["payload_filter"], event["payload"]):
            invoke.delay(str(dispatcher["id"]), event_record_id)


@app.task(queue="peer-invoke")
def invoke(dispatcher_id: str, event_record_id: str) -> None:
    """Start the run of one dispatcher for one event, once."""
    with pool.connection() as connection:
        connection.execute(
            """
            INSERT INTO job_runs (job_id, event_record_id, dispatcher_id)
            SELECT job_id, %s, id FROM event_dispatchers WHERE id = %s AND enabled
            ON CONFLICT DO NOTHING
            """,
            [event_record_id, dispatcher_id],
        )
