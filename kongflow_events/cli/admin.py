"""Commands that work on the database itself: environments, keys, secrets. They load the server's parts when they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click

from kongflow_events import errors
from kongflow_events.cli import output, variables

_TYPES = ["DEVELOPMENT", "STAGING", "PRODUCTION", "PREVIEW"]
_where = click.argument("environment", metavar="ORGANIZATION/PROJECT/TYPE")


@click.group()
def env() -> None:
    """Make environments."""


@env.command("create")
@click.option("--organization", required=True, help="The organization's slug; made when it is new.")
@click.option("--project", required=True, help="The project's slug; made when it is new.")
@click.option(
    "--type", "type_", type=click.Choice(_TYPES, case_sensitive=False), default="DEVELOPMENT", show_default=True
)
@output.as_json
def create(organization: str, project: str, type_: str, as_json: bool) -> None:
    """Make an environment, and show its two keys: this once, never again.

    Example: kongflow-events env create --organization acme --project shop --type PRODUCTION
    """
    from kongflow_events.services import environments, keys

    with database() as db, db.atomic():
        made = environments.create_environment(organization, project, type_)
        private, public = keys.create_key(made, keys.PRIVATE).key, keys.create_key(made, keys.PUBLIC).key
    if as_json:
        output.show_json({"environmentId": str(made.id), "key": private, "publicKey": public})
        return
    click.echo(f"Made {organization}/{project}/{type_}. Its keys are shown this once:\n")
    click.echo(f"  export KONGFLOW_KEY={private}\n  export KONGFLOW_PUBLIC_KEY={public}")


@click.group("keys")
def keys_group() -> None:
    """Add, list and revoke an environment's keys."""


@keys_group.command("add")
@_where
@click.option("--public", is_flag=True, help="A key that can only read, for pages in a browser.")
@click.option(
    "--expires-in", "days", type=click.IntRange(1, 36_500), default=None, metavar="DAYS", help="It ends by itself."
)
@output.as_json
def add(environment: str, public: bool, days: int | None, as_json: bool) -> None:
    """Add a key, and show it: this once, never again.

    Example: kongflow-events keys add acme/shop/production --expires-in 90
    """
    from kongflow_events.services import environments, keys

    kind = keys.PUBLIC if public else keys.PRIVATE
    seconds = None if days is None else int(timedelta(days=days).total_seconds())
    with database():
        made = keys.create_key(environments.find_environment(environment), kind, seconds=seconds)
    if as_json:
        output.show_json({"id": str(made.id), "kind": made.kind, "prefix": made.prefix, "key": made.key})
    else:
        click.echo(made.key)


@keys_group.command("list")
@_where
@output.as_json
def list_keys(environment: str, as_json: bool) -> None:
    """List the keys, newest first; the keys themselves are not stored.

    Example: kongflow-events keys list acme/shop/production
    """
    from kongflow_events.services import environments, keys

    with database():
        found = keys.list_keys(environments.find_environment(environment))
    rows = [
        [
            str(key.id),
            key.kind,
            key.prefix,
            keys.state(key),
            _time(key.created_at),
            _time(key.expires_at),
            _time(key.last_used_at),
        ]
        for key in found
    ]
    head = ["ID", "KIND", "PREFIX", "STATE", "CREATED", "EXPIRES", "LAST USED"]
    if as_json:
        names = [name.lower().replace(" ", "_") for name in head]
        output.show_list([dict(zip(names, row, strict=True)) for row in rows])
    else:
        output.show_table(head, rows)


@keys_group.command("revoke")
@_where
@click.argument("key", metavar="ID|PREFIX")
@output.as_json
def revoke(environment: str, key: str, as_json: bool) -> None:
    """Revoke a key; five seconds later it works nowhere.

    Example: kongflow-events keys revoke acme/shop/production tr_prod_Ab12
    """
    from kongflow_events.services import environments, keys

    with database():
        keys.revoke_key(environments.find_environment(environment), key)
    if as_json:
        output.show_json({"key": key, "state": "revoked"})
    else:
        click.echo("revoked")


@click.command()
@output.as_json
def reseal(as_json: bool) -> None:
    """Encrypt every webhook's secret with the first key of KONGFLOW_SECRET_KEY, so that the others can go.

    Ends with 1 when no key opens some of them.

    Example: KONGFLOW_SECRET_KEY=new,old kongflow-events webhooks reseal
    """
    from kongflow_events.services import reseal as service

    with database():
        resealed = service.reseal_secrets()
    if as_json:
        output.show_json(resealed._asdict())
    else:
        click.echo(f"{resealed.done} resealed")
    if resealed.unopenable:
        output.fail(f"no key in KONGFLOW_SECRET_KEY opens {resealed.unopenable} others")


@contextmanager
def database() -> Iterator[Any]:
    """A unit of work on DATABASE_URL, or on the database that `dev` left; its troubles end the command in one line."""
    from kongflow_events import settings
    from kongflow_events.store import db

    variables.settle()
    db.connect(settings.current().database_url, pool_size=2)
    try:
        with db.unit():
            yield db
    except errors.NotFound as error:
        output.fail(error.message, output.NOTHING)
    except errors.Refused as error:
        output.fail(output.mistakes(error.issues) or error.message)
    except db.AWAY as error:
        output.fail_away(error)
    finally:
        db.close()


def _time(at: Any) -> str:
    return "never" if at is None else at.isoformat(sep=" ", timespec="seconds")
