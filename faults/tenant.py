"""Who the events of one scenario belong to: an environment of its own, with three rules inside and two outside."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any, NamedTuple

from faults.evidence import Rule
from faults.world import World
from kongflow_events import words
from kongflow_events.services import environments, keys
from kongflow_events.store import db
from tests import factory

_ALL = frozenset(range(4))


class Tenant(NamedTuple):
    """An environment, a key to it, and the rules in it."""

    environment: words.Environment
    key: str
    rules: list[Rule]


def make(name: str, hooks: list[str]) -> Tenant:
    """A tenant with three rules inside and one for each of `hooks`.

    They start jobs for all events, for half of them, and by a trigger for a quarter; the last quarter is posted.
    """
    with db.unit():
        environment = environments.create_environment(name, name, "DEVELOPMENT")
        key = keys.create_key(environment).key
    ship, bill, pack, post = (factory.job(environment, f"{name}-{slug}") for slug in ("ship", "bill", "pack", "post"))
    trigger = factory.trigger(environment, pack.job_id, post.job_id)
    rules = [
        _rule(environment, "ship", _ALL, factory.to_job(ship), jobs={ship.job_id}),
        _rule(environment, "bill", {0, 1}, factory.to_job(bill), jobs={bill.job_id}),
        _rule(
            environment,
            "fan",
            {2},
            {"type": words.DYNAMIC_TRIGGER, "id": str(trigger)},
            jobs={pack.job_id, post.job_id},
        ),
    ]
    rules += [hook(environment, f"hook-{number}", url) for number, url in enumerate(hooks)]
    return Tenant(environment, key, rules)


def hook(environment: words.Environment, label: str, url: str, quarters: frozenset[int] = frozenset({3})) -> Rule:
    """A rule that posts every event of these quarters to a URL."""
    return _rule(environment, label, quarters, factory.to_url(url), url=url)


def webhook(
    world: World, owner: Tenant, label: str, url: str, quarters: frozenset[int], settings: dict[str, Any]
) -> Rule:
    """A webhook for every event of these quarters, written through the API; its secret is the one that the sink knows."""
    body = {
        "event": factory.JOB_EVENT,
        "payloadFilter": {"quarter": sorted(quarters)},
        "dispatchable": {"type": words.WEBHOOK, "url": url, "secret": world.webhook_secret, **settings},
    }
    made = world.write("/api/v1/event-dispatchers", owner.key, body)
    return Rule(label, uuid.UUID(made["id"]), quarters, url=url, signed=True)


def _rule(
    environment: words.Environment,
    label: str,
    quarters: set[int] | frozenset[int],
    dispatchable: dict[str, str],
    *,
    jobs: Collection[uuid.UUID] = (),
    url: str | None = None,
) -> Rule:
    asks = None if quarters == _ALL else {"quarter": sorted(quarters)}
    made = factory.dispatcher(environment, to=dispatchable, payload_filter=asks)
    return Rule(label, made, frozenset(quarters), frozenset(jobs), url)
