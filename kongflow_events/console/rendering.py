"""Drawing: templates that escape whatever they are given, and the headers that every page has."""

from __future__ import annotations

from typing import Any, Final

import falcon
import jinja2

from kongflow_events.console import shown, static, visits
from kongflow_events.console.visits import View, Visit

# Everything comes from here, and nothing that stands in a page is run: a payload that got into one as it is could do nothing.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    # A browser that hides where a form comes from would hide it from the door too.
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # What a page says is for whoever is signed in, and holds now.
    ("Cache-Control", "no-store"),
)
THEMES: Final = ("auto", "light", "dark")
THEME_COOKIE: Final = "kongflow_theme"

_templates: Final = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(static=static.file_url, url=visits.url, themes=THEMES)
_templates.filters.update(shown.FILTERS)


def send(request: falcon.Request, response: falcon.Response, view: View, visit: Visit | None) -> None:
    """Answer with a page; `visit` is None for one that shows nothing of the service."""
    asked = request.get_cookie_values(THEME_COOKIE) or []
    theme = asked[0] if asked and asked[0] in THEMES else THEMES[0]
    common: dict[str, Any] = {"visit": visit, "theme": theme}
    response.text = _templates.get_template(view.template).render(common | dict(view.values))
    response.content_type = "text/html; charset=utf-8"
    response.status = view.status
    response.set_headers(_HEADERS)


def redirect(response: falcon.Response, to: str) -> None:
    """Send the browser to another page, which it is to get."""
    response.status = 303
    response.set_header("Location", to)
    response.set_headers(_HEADERS)
