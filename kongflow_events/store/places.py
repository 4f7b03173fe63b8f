"""Where environments are: each with the slugs of its organization and project, as people name them."""

from __future__ import annotations

import uuid

import msgspec

from kongflow_events import words
from kongflow_events.store import db

_PLACES = """
SELECT environments.id, environments.organization_id, environments.project_id, environments.slug,
       organizations.runs_enabled, organizations.slug AS organization, projects.slug AS project, environments.type
  FROM runtime_environments AS environments
  JOIN projects ON projects.id = environments.project_id AND projects.deleted_at IS NULL
  JOIN organizations ON organizations.id = environments.organization_id AND organizations.deleted_at IS NULL
"""


class Place(msgspec.Struct, frozen=True):
    """An environment and what people call it; `type` is PRODUCTION and its like."""

    environment: words.Environment
    organization: str
    project: str
    type: str


def get(environment_id: uuid.UUID) -> Place | None:
    """The place of this environment."""
    found = db.rows(f"{_PLACES} WHERE environments.id = %s", (environment_id,))
    return _place(found[0]) if found else None


def like(text: str, limit: int) -> list[Place]:
    """The first `limit` places, by name, with this text in one of the slugs."""
    found = db.rows(
        f"""{_PLACES} WHERE strpos(lower(concat_ws('/', organizations.slug, projects.slug, environments.type)), lower(%s)) > 0
            ORDER BY organizations.slug, projects.slug, environments.type, environments.id LIMIT %s""",
        (text, limit),
    )
    return [_place(row) for row in found]


def _place(row: db.Row) -> Place:
    environment = words.Environment(
        row["id"], row["organization_id"], row["project_id"], row["slug"], row["runs_enabled"]
    )
    return Place(environment, row["organization"], row["project"], row["type"])
