"""Keys of the environment, and what signs the calls of its webhooks. A secret is shown once, in the answer that makes it."""

from __future__ import annotations

from typing import Any, Final

from kongflow_events.console import asking, door
from kongflow_events.console.dispatchers import OVERLAPS
from kongflow_events.console.visits import Done, View, Visit
from kongflow_events.services import keys
from kongflow_events.store import console_dispatchers

_PAGE: Final = 25
_DAY: Final = 86_400
LIVES: Final[dict[str, int | None]] = {
    "never": None,
    "in 30 days": 30 * _DAY,
    "in 90 days": 90 * _DAY,
    "in a year": 365 * _DAY,
}
KINDS: Final = (keys.PRIVATE, keys.PUBLIC)


class Keys:
    """All of the environment."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """List keys and webhooks' secrets, without any secret."""
        before = asking.row_id(visit, "before")
        webhooks = console_dispatchers.webhooks(visit.environment.id, before, _PAGE)
        values = {
            "keys": [(one, keys.state(one)) for one in keys.list_keys(visit.environment)],
            "lives": list(LIVES),
            "kinds": KINDS,
            "webhooks": webhooks.items,
            "overlaps": list(OVERLAPS),
            **asking.ways(visit, "keys", {}, before, webhooks.next),
        }
        return View("keys.html", values)

    on_head: Any = on_get


class CreateKey:
    """A new one."""

    @door.change("key.create")
    def on_post(self, visit: Visit) -> Done:
        """Make it, and show it this once."""
        kind = keys.PUBLIC if visit.form.get("kind") == keys.PUBLIC else keys.PRIVATE
        expires = visit.form.get("expires", "")
        made = keys.create_key(visit.environment, kind, seconds=LIVES.get(expires))
        values = {
            "title": f"The new {kind} key",
            "secret": made.key,
            "public": False,
            "until": None,
            "back": visit.at("keys"),
        }
        return Done(
            f"key {made.prefix}",
            "The key is made",
            view=View("shown-once.html", values),
            details={"kind": kind, "expires": expires if expires in LIVES else "never"},
        )


class RevokeKey:
    """The end of one."""

    @door.change("key.revoke")
    def on_post(self, visit: Visit, key_id: str) -> Done:
        """Revoke it; it works nowhere after five seconds."""
        keys.revoke_key(visit.environment, key_id)
        return Done(f"key {key_id}", "The key is revoked; it works nowhere after five seconds", visit.at("keys"))
