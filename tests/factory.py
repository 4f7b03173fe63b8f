"""Rows for tests, written straight through the models, and the workers' part, done at once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kongflow_events import models, schemas, words
from kongflow_events.services import deliver, invoke
from kongflow_events.store import db

JOB_EVENT = "order.paid"


@contextmanager
def connected(database: str) -> Iterator[None]:
    """A unit of work on the database at this URL, for whoever is connected to none."""
    db.connect(database, pool_size=2)
    try:
        with db.unit():
            yield
    finally:
        db.close()


def environment(name: str = "alice") -> words.Environment:
    """A DEVELOPMENT environment in an organization and project of its own."""
    with db.unit():
        organization = models.Organization.create(slug=name, title=name)
        project = models.Project.create(slug=name, name=name, organization_id=organization.id)
        row = models.RuntimeEnvironment.create(
            slug="dev", type="DEVELOPMENT", organization_id=organization.id, project_id=project.id
        )
    return words.Environment(row.id, organization.id, project.id, "dev")


def job(environment: words.Environment, slug: str = "job", version: str = "1.0.0") -> models.JobVersion:
    """A job with one version, which is `latest`."""
    with db.unit():
        row = models.Job.create(
            slug=slug, title=slug, organization_id=environment.organization_id, project_id=environment.project_id
        )
        made = models.JobVersion.create(
            job_id=row.id, environment_id=environment.id, version=version, event_specification={}
        )
        models.JobAlias.create(job_id=row.id, environment_id=environment.id, version_id=made.id)
    return made


def trigger(environment: words.Environment, *job_ids: uuid.UUID) -> uuid.UUID:
    """A dynamic trigger with these jobs attached."""
    with db.unit():
        row = models.DynamicTrigger.create(slug=uuid.uuid4().hex, environment_id=environment.id)
        for job_id in job_ids:
            models.DynamicTriggerJob.create(dynamic_trigger_id=row.id, job_id=job_id)
    return row.id


def dispatcher(environment: words.Environment, *names: str, to: dict[str, Any], **columns: Any) -> uuid.UUID:
    """A dispatcher that listens to `names` (JOB_EVENT when none are given) and sets off `to`."""
    names = names or (JOB_EVENT,)
    with db.unit(), db.atomic():
        row = models.EventDispatcher.create(
            event=names[0],
            **{
                "source": "trigger.dev",
                "dispatchable_id": uuid.uuid4().hex,
                "dispatchable": to,
                "environment_id": environment.id,
                **columns,
            },
        )
        for name in names:
            models.EventDispatcherName.create(
                environment_id=environment.id, source=row.source, name=name, dispatcher_id=row.id
            )
    return row.id


def to_job(version: models.JobVersion) -> dict[str, Any]:
    """The dispatchable that starts this version."""
    return {"type": words.JOB_VERSION, "id": str(version.id)}


def to_url(url: str) -> dict[str, Any]:
    """The dispatchable that calls this URL."""
    return {"type": words.EPHEMERAL, "url": url}


def account(environment: words.Environment, identifier: str) -> uuid.UUID:
    """An external account."""
    with db.unit():
        row = models.ExternalAccount.create(
            identifier=identifier, organization_id=environment.organization_id, environment_id=environment.id
        )
    return row.id


def event(name: str = JOB_EVENT, **fields: Any) -> schemas.SendEvent:
    """An event as a sender would give it; `payload` and `context` as JSON text."""
    return schemas.SendEvent(name=name, **fields)


def work() -> None:
    """Deliver and invoke everything that is due."""
    with db.unit():
        owed = [row.subject_id for row in models.Outbox.select().where(models.Outbox.kind == "deliver")]
    invoke.invoke(deliver.deliver(owed).get("invoke", []))
