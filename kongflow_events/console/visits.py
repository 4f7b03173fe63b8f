"""The words between the door and the pages: who is here, what a page shows, what a change came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

from kongflow_events import words
from kongflow_events.store.audit import Actor
from kongflow_events.store.operators import SignedIn
from kongflow_events.store.places import Place

ROOT = "/console"


class View(NamedTuple):
    """A page to draw: its template, and what it is filled with."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


class Done(NamedTuple):
    """What a change came to: on what (`event order-1`, for the audit log) and in which words to tell.

    After it the browser goes `to` a page, or is shown a `view` that only this answer may hold, such as a secret. The page
    links to what was changed, `about`, where it does not show it itself.
    """

    subject: str
    said: str
    to: str = ""
    about: str = ""
    view: View | None = None
    details: Mapping[str, Any] | None = None


class Flash(NamedTuple):
    """What the page after a change tells about it, once; `about` is the URL of what was changed, where there is a link."""

    kind: Literal["good", "bad"]
    text: str
    about: str = ""


class Visit(NamedTuple):
    """One request of somebody who is signed in; `place` is the environment that the page is about, if it is about one.

    `form` holds what a change's form brought, and `query` what stands in the URL; of a repeated name the last value.
    """

    operator: SignedIn
    address: str
    form_token: str
    path: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    place: Place | None = None
    flash: Flash | None = None

    @property
    def environment(self) -> words.Environment:
        """The environment of a page that is about one."""
        assert self.place is not None
        return self.place.environment

    @property
    def may_change(self) -> bool:
        """Whether forms are shown."""
        return self.operator.role == "operator"

    @property
    def actor(self) -> Actor:
        """Who it is, for the audit log."""
        return Actor(self.operator.id, self.operator.name, self.address)

    def at(self, *parts: object, **query: object) -> str:
        """The URL of a page of this environment: `visit.at("events", id, state="dead")`; a query's None is left out."""
        return url("env", self.environment.id, *parts, **query)


def url(*parts: object, **query: object) -> str:
    """The URL of a page of the console, whatever is in its parts."""
    asked = urlencode({name: str(value) for name, value in query.items() if value is not None and value != ""})
    return "/".join((ROOT, *(quote(str(part), safe="") for part in parts))) + (f"?{asked}" if asked else "")
