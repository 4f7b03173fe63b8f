"""Jobs: what upstream's indexing registered, in one transaction: job, version, alias `latest`, dispatcher."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from kongflow_events import errors, filters, schemas, words
from kongflow_events.store import db, dispatchers, jobs

# It stands in an index, into which it has to fit.
_LONGEST_SLUG: Final = 512


def register_job(environment: words.Environment, body: schemas.JobBody) -> schemas.Job:
    """Register a version of a job; raises Invalid for a filter.

    `latest`, and with it the dispatcher, goes to the highest version by semantic versioning: an older one registered
    later changes neither, the same one again is taken as corrected.
    """
    payload, context, warnings = _filters(body.trigger)
    dispatcher_id: uuid.UUID | None
    with db.atomic():
        job_id = jobs.put_job(environment, body.id, body.name)
        specification = msgspec.json.encode(body.trigger).decode()
        version_id = jobs.put_version(job_id, environment.id, body.version, specification)
        current = jobs.latest(job_id, environment.id)
        if current is None or schemas.semver_key(body.version) >= schemas.semver_key(current[1]):
            current = (version_id, body.version)
            jobs.point_latest(job_id, environment.id, version_id)
            dispatcher_id = _listen(environment, job_id, version_id, body.trigger, payload, context)
        else:
            dispatcher_id = _listening(environment, job_id)
    return schemas.Job(body.id, body.name, body.version, version_id, current[1], dispatcher_id, warnings)


def put_dynamic_trigger(
    environment: words.Environment, slug: str, body: schemas.DynamicTriggerBody
) -> schemas.DynamicTrigger:
    """Make a dynamic trigger, or give it other jobs. Raises Invalid naming each job that does not exist."""
    if not 1 <= len(slug) <= _LONGEST_SLUG:
        raise errors.Invalid(errors.Issue("custom", "id", f"An id has from 1 to {_LONGEST_SLUG} characters"))
    slugs = list(dict.fromkeys(body.jobs))
    with db.atomic():
        known = jobs.ids_of(environment, slugs)
        missing = [
            errors.Issue("custom", f"jobs[{index}]", f"No job {one} in this project")
            for index, one in enumerate(body.jobs)
            if one not in known
        ]
        if missing:
            raise errors.Invalid(*missing)
        trigger_id = jobs.put_trigger(environment.id, slug, [known[one] for one in slugs])
    return schemas.DynamicTrigger(slug, trigger_id, slugs)


def _filters(trigger: Any) -> tuple[Any, Any, list[str]]:
    """The trigger's filters as they are stored, and their warnings; a job always has a payload filter, as upstream."""
    payload = {} if trigger.filter is msgspec.UNSET else trigger.filter
    context = None if trigger.context_filter is msgspec.UNSET else trigger.context_filter
    warnings = filters.check(
        {"trigger.filter": payload, "trigger.contextFilter": context},
        schemas.name_issues(trigger.event, "trigger.event"),
    )
    return payload, context, warnings + schemas.name_warnings(trigger.event, "trigger.event")


def _listen(
    environment: words.Environment, job_id: uuid.UUID, version_id: uuid.UUID, trigger: Any, payload: Any, context: Any
) -> uuid.UUID:
    columns = {
        "source": trigger.source,
        "payload_filter": payload,
        "context_filter": context,
        "dispatchable": {"type": words.JOB_VERSION, "id": str(version_id)},
    }
    names = schemas.names_of(trigger.event)
    existing = dispatchers.of_target(environment.id, str(job_id))
    if existing is not None:
        dispatchers.change(environment.id, existing.id, columns, names)
        found: uuid.UUID = existing.id
        return found
    place = {"dispatchable_id": str(job_id), "environment_id": environment.id}
    made: uuid.UUID = dispatchers.create({**columns, **place}, names).id
    return made


def _listening(environment: words.Environment, job_id: uuid.UUID) -> uuid.UUID | None:
    existing = dispatchers.of_target(environment.id, str(job_id))
    return existing.id if existing else None
