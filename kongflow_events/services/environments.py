"""Environments: where events, dispatchers and runs live, each with keys of its own."""

from __future__ import annotations

from typing import Final

from kongflow_events import errors, words
from kongflow_events.store import db, environments

# What keys and URLs call each type, as upstream does.
SLUGS: Final = {"DEVELOPMENT": "dev", "STAGING": "stg", "PRODUCTION": "prod", "PREVIEW": "prev"}


def create_environment(organization: str, project: str, type_: str) -> words.Environment:
    """Make an environment, and the organization and project (by slug) when they do not exist.

    Raises Conflict when the project has an environment of this type already, or belongs to another organization.
    """
    try:
        with db.atomic():
            environment, new = environments.find_or_make(organization, project, type_, SLUGS[type_])
            if not new:
                raise errors.Conflict(f"{organization}/{project} has a {type_} environment already")
    except ValueError as error:
        raise errors.Conflict(str(error)) from None
    return environment


def ensure_environment(organization: str, project: str, type_: str) -> words.Environment:
    """The environment at this place, made when it does not exist."""
    with db.atomic():
        return environments.find_or_make(organization, project, type_, SLUGS[type_])[0]


def find_environment(place: str) -> words.Environment:
    """The environment at `organization/project/type`; raises NotFound."""
    parts = place.split("/")
    if len(parts) == len(("organization", "project", "type")):
        organization, project, type_ = parts
        found = environments.find(organization, project, SLUGS.get(type_.upper(), type_))
        if found:
            return found
    raise errors.NotFound(f"no environment {place}; name it as organization/project/type")
