"""A shop with an hour behind it: events of every fate, dispatchers that do well and badly, dead letters, runs, webhooks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from kongflow_events import models, schemas, words
from kongflow_events.services import cancel, deliver, dispatchers, environments, ingest, invoke, jobs, keys, post
from kongflow_events.store import audit, bulk_operations, db
from tests import receiver
from tests.receiver import Receiver

# What a browser must never run, wherever it comes from: each would say that it did by a global of the page.
SCRIPTS = (
    "<script>window.ran=1</script>",
    '"><img src=x onerror="window.ran=1">',
    "'><svg onload=window.ran=1>",
    "javascript:window.ran=1",
    "{{ 7*7 }}{% raw %}</textarea><script>window.ran=1</script>",
    '" autofocus onfocus="window.ran=1" x="',
    "</script><script>window.ran=1</script>",
    "<a href='javascript:window.ran=1'>click</a>",
)
# As a dispatcher's first name, and without white space as a URL's path.
ATTACK = SCRIPTS[1]
ATTACKING_PATH = '"><img/src=x/onerror=window.ran=1>'


# Ids grow with time: of the millisecond, with a number that tells rows of one kind apart.
_ID = """(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0') || '7000{kind}'
          || lpad(to_hex({number}), 15, '0'))::uuid"""

_PAST_EVENTS = f"""
INSERT INTO event_records (id, event_id, name, timestamp, payload, payload_raw, organization_id, environment_id, project_id,
                           deliver_at, delivered_at, created_at)
SELECT {_ID.format(at="at", kind="8", number="number")}, 'order-' || number, 'order.paid', at, payload::jsonb, payload,
       %(organization)s, %(environment)s, %(project)s, at, at + (15 + number %% 40) * interval '1 millisecond', at
  FROM (SELECT number, now() - (90 + 3450 * (place + 0.045 * sin(place * 20))) * interval '1 second' AS at,
               '{{"amount": ' || 10 + number %% 90 || ', "items": 2}}' AS payload
          FROM (SELECT number, number / 600.0 AS place FROM generate_series(0, 599) AS number) AS placed) AS past
"""

_PAST_INVOCATIONS = f"""
INSERT INTO invocations (id, environment_id, event_record_id, dispatcher_id, dispatcher_event, dispatchable, status, attempts,
                         created_at, completed_at, died_at, reason, last_error, last_outcome)
SELECT {_ID.format(at="at", kind="9", number="number * 2 + (role = 'ledger')::integer")}, environment_id, past.id,
       dispatchers.id, event, dispatchable - 'headers', CASE WHEN dies THEN 'DEAD' ELSE 'SUCCEEDED' END,
       CASE WHEN dies THEN 10 WHEN role = 'ledger' THEN 1 ELSE 2 END, at, at + interval '80 milliseconds',
       CASE WHEN dies THEN at + interval '20 seconds' END, CASE WHEN dies THEN 'the target answered 503' END,
       CASE WHEN role <> 'ledger' THEN 'the target answered 503' END, CASE WHEN role <> 'ledger' THEN 'refused' END
  FROM (SELECT id, created_at AS at, replace(event_id, 'order-', '')::integer AS number FROM event_records
         WHERE environment_id = %(environment)s AND created_at < now() - interval '80 seconds' AND event_id LIKE 'order-%%'
        ) AS past
  CROSS JOIN (VALUES (%(ledger)s, 'ledger'), (%(warehouse)s, 'warehouse')) AS roles(dispatcher_id, role)
  JOIN event_dispatchers AS dispatchers ON dispatchers.id = roles.dispatcher_id
 CROSS JOIN LATERAL (SELECT role = 'warehouse' AND number %% 100 = 7 AS dies) AS fate
 WHERE role = 'ledger' OR number %% 5 = 2 OR dies
"""

_PAST_ATTEMPTS = """
INSERT INTO invocation_attempts (invocation_id, number, started_at, duration_ms, outcome, status_code, error)
SELECT id, number, created_at + number * interval '30 milliseconds', 9 + (extract(epoch FROM created_at)::bigint * 7 %% 60),
       CASE WHEN good THEN 'succeeded' ELSE 'refused' END, CASE WHEN good THEN 200 ELSE 503 END,
       CASE WHEN NOT good THEN 'the target answered 503' END
  FROM invocations CROSS JOIN LATERAL generate_series(1, attempts) AS number
 CROSS JOIN LATERAL (SELECT status = 'SUCCEEDED' AND number = attempts AS good) AS fate
 WHERE created_at < now() - interval '80 seconds' AND dispatcher_id IN (%(ledger)s, %(warehouse)s)
"""


_ALL = {
    "of": "invocations",
    "dispatcher": None,
    "name": "order.paid",
    "error_class": "refused",
    "since": None,
    "until": None,
}

# What somebody did before.
_NORA = audit.Actor(None, "nora", "203.0.113.7")
_DONE = (
    ("key.create", "key tr_prod_Ab12"),
    ("dispatcher.disable", "dispatcher of order.cancelled"),
    ("event.cancel", "event order-canceled"),
    ("event.replay", "event order-1000"),
    ("dead-letters.redrive", "redrive 1"),
)


class Shop:
    """The environment, and the ids of what tests look for; beside it one whose senders and receivers are attackers."""

    def __init__(self) -> None:
        with db.unit():
            self.environment = environments.ensure_environment("acme", "shop", "PRODUCTION")
            self.attacked = environments.ensure_environment("acme", "shop", "STAGING")
            self.private_key = keys.create_key(self.environment)
            self.public_key = keys.create_key(self.environment, keys.PUBLIC, seconds=30 * 86_400)
        self.dispatchers: dict[str, uuid.UUID] = {}
        self._jobs()
        with Receiver(receiver.status(200)) as good, Receiver(_sorry) as bad:
            self._webhooks(good.url, bad.url)
            self._orders()
            self._failures(bad)
            _post_everything()
        self._others()
        self._attacks()
        self._age()
        self._history()
        with db.unit():
            self.run: uuid.UUID = models.JobRun.select().order_by(models.JobRun.id).get().id
            self.redrive: int = bulk_operations.start(self.environment.id, "redrive", _ALL, 100, 1000).id
            db.run("UPDATE bulk_operations SET seen = 640, done = 638 WHERE id = %s", (self.redrive,))
            for action, subject in _DONE:
                audit.note(_NORA, action, subject, environment_id=self.environment.id)
            self.records: dict[str, uuid.UUID] = {row.event_id: row.id for row in models.EventRecord.select()}

    def send(self, name: str, payload: Any, event_id: str | None = None, **options: Any) -> str:
        """Send an event, and deliver it unless it is for later; returns its id."""
        return _send(self.environment, name, payload, event_id, **options)

    def _jobs(self) -> None:
        with db.unit():
            for slug, title, trigger in (
                ("ship-order", "Ship an order", {"event": "order.paid", "filter": {"amount": [{"$gt": 10}]}}),
                ("refund-order", "Refund an order", {"event": "order.refunded"}),
            ):
                made = jobs.register_job(self.environment, _job(slug, title, trigger))
                assert made.dispatcher_id is not None
                self.dispatchers[slug] = made.dispatcher_id

    def _webhooks(self, good: str, bad: str) -> None:
        for name, event, url, payload_filter in (
            ("ledger", ["order.*"], f"{good}/ledger", None),
            ("warehouse", ["order.paid"], f"{bad}/warehouse", {"items": [{"$gt": 0}]}),
            ("crm", ["customer.created"], f"{good}/crm", {"plan": ["team", "business"]}),
            ("paused", ["customer.*"], f"{good}/mailing", None),
            ("disabled", ["order.cancelled"], f"{good}/old", None),
        ):
            self.dispatchers[name] = _webhook(self.environment, event, url, payload_filter)
        self.change("paused", paused=True)
        self.change("disabled", enabled=False)

    def change(self, name: str, **change: bool) -> None:
        """Change one of the shop's dispatchers."""
        dispatcher_id = str(self.dispatchers[name])
        dispatchers.update_event_dispatcher(self.environment, dispatcher_id, schemas.DispatcherChange(**change))

    def _orders(self) -> None:
        for number in range(24):
            amount = 4 if number % 8 == 7 else 12.5 + number
            self.send(
                "order.paid",
                {"amount": amount, "currency": "EUR", "items": number % 4, "customer": {"id": 40 + number % 5}},
                f"order-{1000 + number}",
            )
        for number in range(6):
            plan = "free" if number % 3 == 0 else "team"
            self.send("customer.created", {"plan": plan, "name": f"Customer {number}"}, f"customer-{number}")
        self.send("order.refunded", {"amount": 12.5, "reason": "damaged"}, "refund-1")

    def _failures(self, bad: Receiver) -> None:
        """Some of what the warehouse does not take is dead by now, and a job's version went missing."""
        _post_everything()
        for _ in range(10):
            with db.unit():
                db.run(
                    """UPDATE outbox SET due_at = now(), hint_at = now() WHERE subject_id IN (
                           SELECT subject_id FROM outbox WHERE lane = %s ORDER BY subject_id LIMIT 8)""",
                    (self.dispatchers["warehouse"],),
                )
                db.run("UPDATE targets SET rests_until = NULL, opened_at = NULL, failing_since = now()")
            _post_everything()
        with db.unit():
            db.run(
                """UPDATE targets SET failures = 9, failing_since = now() - interval '20 minutes', pauses = 3,
                          opened_at = now() - interval '18 minutes', rests_until = now() + interval '1 hour'
                    WHERE dispatcher_id = %s""",
                (self.dispatchers["warehouse"],),
            )

    def _others(self) -> None:
        self.send("order.paid", {"amount": 99}, "order-later", deliver_after=3600)
        self.send("order.paid", {"amount": 77}, "order-canceled", deliver_after=3600)
        with db.unit():
            cancel.cancel_event(self.environment, "order-canceled")
        self.send("nobody.listens", {"to": "this"}, "unmatched-1")
        self.send("order.cancelled", {"amount": 5}, "order-cancelled-1")
        for number in range(1, 5):
            record = self.send("order.paid", {"amount": 30 + number}, f"order-undelivered-{number}", deliver_after=3600)
            _bury_delivery(record, "canceling statement due to statement timeout")
        with db.unit():
            db.run(
                """UPDATE targets SET failures = 3, failing_since = now() - interval '2 minutes',
                          rests_until = now() + interval '1 hour'
                    WHERE dispatcher_id = %s""",
                (self.dispatchers["paused"],),
            )

    def _attacks(self) -> None:
        """Attackers' texts in every field that a sender or a receiver fills."""
        attacked = self.attacked
        dispatcher = _webhook(attacked, [ATTACK, *SCRIPTS], f"http://127.0.0.1:1/{ATTACKING_PATH}", {"name": [ATTACK]})
        self.dispatchers["attacked"] = dispatcher
        with db.unit():
            jobs.register_job(attacked, _job(ATTACK, ATTACK, {"event": ATTACK}))
        for number, text in enumerate(SCRIPTS):
            _send(attacked, text, {text: text, "name": ATTACK}, f"attack-{number} {text}")
        _bury(dispatcher, SCRIPTS[0])
        record = _send(attacked, ATTACK, ATTACK, f"undelivered {ATTACK}", deliver_after=3600)
        _bury_delivery(record, ATTACK)

    def _age(self) -> None:
        """Spread what was done here over the last minutes, by each row's place among its kind."""
        with db.unit(), db.atomic():
            db.run(
                """UPDATE event_records SET created_at = aged.at, timestamp = aged.at,
                          deliver_at = CASE WHEN deliver_at > now() THEN deliver_at ELSE aged.at END,
                          delivered_at = CASE WHEN delivered_at IS NOT NULL THEN aged.at + interval '21 milliseconds' END
                     FROM (SELECT id, now() - (1 - place) * interval '1 minute' AS at
                             FROM (SELECT id, percent_rank() OVER (PARTITION BY environment_id ORDER BY id) AS place
                                     FROM event_records) AS placed) AS aged
                    WHERE aged.id = event_records.id"""
            )
            db.run(
                """UPDATE invocations SET created_at = records.delivered_at,
                          completed_at = CASE WHEN completed_at IS NOT NULL
                                              THEN records.delivered_at + interval '90 milliseconds' END,
                          died_at = CASE WHEN died_at IS NOT NULL THEN records.delivered_at + interval '2 seconds' END
                     FROM event_records AS records WHERE records.id = event_record_id AND delivered_at IS NOT NULL"""
            )
            db.run(
                """UPDATE invocation_attempts AS attempts
                      SET started_at = invocations.created_at + attempts.number * interval '150 milliseconds'
                     FROM invocations WHERE invocations.id = invocation_id"""
            )

    def _history(self) -> None:
        """The hour before: orders in waves, taken by the ledger, and by the warehouse mostly at the second attempt."""
        parameters = {
            "environment": self.environment.id,
            "organization": self.environment.organization_id,
            "project": self.environment.project_id,
            "ledger": self.dispatchers["ledger"],
            "warehouse": self.dispatchers["warehouse"],
        }
        with db.unit(), db.atomic():
            for statement in (_PAST_EVENTS, _PAST_INVOCATIONS, _PAST_ATTEMPTS):
                db.run(statement, parameters)
            db.run(
                """INSERT INTO process_heartbeats (kind, instance, started_at)
                   VALUES ('scheduler', 'relay-1:41', now() - interval '3 hours')"""
            )
        with db.unit():
            db.run("ANALYZE")


def _send(environment: words.Environment, name: str, payload: Any, event_id: str | None = None, **options: Any) -> str:
    event = schemas.SendEvent(name=name, payload=json.dumps(payload), id=event_id, context='{"region": "eu"}')
    with db.unit():
        record = ingest.ingest_send_event(environment, event, schemas.SendOptions(**options))
    if not options:
        invoke.invoke(deliver.deliver([record.id]).get("invoke", []))
    found: str = record.event_id
    return found


def _job(slug: str, title: str, trigger: dict[str, Any]) -> schemas.JobBody:
    body = {"id": slug, "name": title, "version": "1.2.0", "trigger": trigger}
    return schemas.parse_job(json.dumps(body).encode())


def _webhook(environment: words.Environment, event: Sequence[str], url: str, payload_filter: Any = None) -> uuid.UUID:
    body = {
        "event": list(event),
        "source": words.SOURCE,
        "payloadFilter": payload_filter,
        "dispatchable": {"type": "WEBHOOK", "url": url, "headers": {"Authorization": "Bearer hidden-from-all"}},
    }
    read = schemas.parse_dispatcher(json.dumps(body).encode())
    made: uuid.UUID = dispatchers.create_event_dispatcher(environment, read).dispatcher.row.id
    return made


def _bury(dispatcher_id: uuid.UUID, error: str) -> None:
    """Let everything that a dispatcher owes be dead of this error."""
    with db.unit():
        db.run(
            """WITH dead AS (
                   UPDATE invocations SET status = 'DEAD', reason = %(error)s, last_error = %(error)s, attempts = 1,
                          last_outcome = 'refused', died_at = now(), completed_at = now()
                    WHERE dispatcher_id = %(id)s RETURNING id
               ), gone AS (DELETE FROM outbox USING dead WHERE subject_id = dead.id)
               INSERT INTO invocation_attempts (invocation_id, number, started_at, duration_ms, outcome, status_code,
                                                error, answer, request_headers)
               SELECT id, 1, now(), 12, 'refused', 500, %(error)s, %(error)s, %(headers)s FROM dead""",
            {"error": error, "id": dispatcher_id, "headers": json.dumps({"x-attack": error})},
        )


def _bury_delivery(event_id: str, error: str) -> None:
    with db.unit():
        db.run(
            """UPDATE outbox SET died_at = now(), hint_at = 'infinity', attempts = 5, due_at = now(), last_error = %s
                WHERE subject_id = (SELECT id FROM event_records WHERE event_id = %s)""",
            (error, event_id),
        )


def _post_everything() -> None:
    with db.unit():
        table = models.Outbox
        owed = [row.subject_id for row in table.select().where(table.kind == "post").order_by(table.subject_id)]
    post.post(owed)


def _sorry(handler: Any) -> None:
    answer = b'{"error": "the warehouse is being counted"}'
    handler.send_response(503)
    handler.send_header("Content-Length", str(len(answer)))
    handler.end_headers()
    handler.wfile.write(answer)
