"""`/console/sign-in` and its kin: in by password or by link, out again, and the one preference there is."""

from __future__ import annotations

from typing import Any

import falcon

from kongflow_events import errors
from kongflow_events.console import door, rendering
from kongflow_events.console.visits import ROOT, View, url
from kongflow_events.services import sign_in
from kongflow_events.store import db


class SignIn:
    """By name and password."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the form."""
        rendering.send(request, response, _form(request.get_param("next") or ""), None)

    on_head: Any = on_get

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Begin a session; what was wrong is told above the form, in the same words whatever it was."""
        with door.telling(request, response):
            form = door.form_of(request)
            name, to = form.get("name", ""), form.get("next", "")
            try:
                session = sign_in.sign_in(name, form.get("password", ""), door.address_of(request))
            except (errors.Unauthorized, errors.TooManyRequests) as error:
                rendering.send(request, response, _form(to, name, error), None)
                return
            _begin(request, response, session, _own(to))


class Link:
    """By a link that works once."""

    def on_get(self, request: falcon.Request, response: falcon.Response, token: str) -> None:
        """Begin a session."""
        with door.telling(request, response):
            _begin(request, response, sign_in.sign_in_by_link(token, door.address_of(request)), ROOT)


class SignOut:
    """Out."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """End the session. Viewers may, so it is no change; a form of another site may not."""
        with door.telling(request, response):
            visit = door.enter_with_form(request)
            with db.unit():
                sign_in.sign_out(str(door.token_of(request)), visit.actor)
            response.unset_cookie(door.SESSION_COOKIE, path=ROOT)
            rendering.redirect(response, url("sign-in"))


class Theme:
    """Light, dark, or as the system has it."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Keep the choice in a cookie."""
        with door.telling(request, response):
            form = door.form_of(request)
            chosen = form.get("theme", "")
            if chosen in rendering.THEMES:
                door.set_cookie(request, response, rendering.THEME_COOKIE, chosen, seconds=365 * 86_400)
            rendering.redirect(response, _own(form.get("next", "")))


def _begin(request: falcon.Request, response: falcon.Response, session: sign_in.Session, to: str) -> None:
    door.set_cookie(request, response, door.SESSION_COOKIE, session.token, seconds=sign_in.SESSION_SECONDS)
    rendering.redirect(response, to)


def _form(to: str, name: str = "", error: errors.Refused | None = None) -> View:
    values = {"name": name, "error": error, "next": _own(to)}
    return View("sign-in.html", values, error.status if error else 200)


def _own(path: str) -> str:
    """A page of the console to go to, never one elsewhere; the first one when `path` is none."""
    fine = path == ROOT or path.startswith((f"{ROOT}/", f"{ROOT}?"))
    return path if fine and path.isascii() and path.isprintable() and "\\" not in path else ROOT
