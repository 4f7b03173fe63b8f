"""Which environment: the first page, and the list to choose from."""

from __future__ import annotations

from typing import Any, Final

import falcon

from kongflow_events.console import door, rendering
from kongflow_events.console.visits import ROOT, View, Visit, url
from kongflow_events.store import places, readers

# More than anybody reads; the rest is found by its name.
_SHOWN: Final = 100


class Host:
    """The host's name alone: nobody but somebody with a browser asks for that."""

    def on_get(self, _: falcon.Request, response: falcon.Response) -> None:
        """Go to the console."""
        rendering.redirect(response, ROOT)


class First:
    """Where everybody begins."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Go to the only environment's overview, or to the list of them."""
        with door.telling(request, response), readers.reading():
            door.enter(request, {})
            found = places.like("", 2)
            only = found[0].environment.id if len(found) == 1 else None
            rendering.redirect(response, url("env", only, "overview") if only else url("environments"))


class Environments:
    """All environments."""

    @door.page
    def on_get(self, visit: Visit) -> View:
        """List those with a text in their name."""
        text = visit.query.get("like", "")
        found = places.like(text, _SHOWN + 1)
        values = {"places": found[:_SHOWN], "more": len(found) > _SHOWN, "like": text}
        return View("environments.html", values)

    on_head: Any = on_get
