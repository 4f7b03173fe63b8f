"""`/openapi.json` for programs and `/docs` for people: texts that are made once, at the start."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

import falcon

from kongflow_events import schemas
from kongflow_events.web import openapi, page
from kongflow_events.web.operations import JSON, Route, operation

HTML: Final = "text/html"
CSS: Final = "text/css"
# Nothing from anywhere but the page's own stylesheet; no script at all.
_POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class _Text:
    """One text with its tag; whoever has it already is told so."""

    media = JSON
    headers: Sequence[tuple[str, str]] = ()

    def hold(self, text: bytes) -> None:
        """From now on, this is the text."""
        self._text = text
        self._tag = falcon.ETag(hashlib.sha256(text).hexdigest()[:32])

    def _serve(self, request: falcon.Request, response: falcon.Response) -> None:
        response.etag = self._tag
        response.set_headers([("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff"), *self.headers])
        known = request.if_none_match or ()
        if "*" in known or self._tag in known:
            response.status = 304
            return
        response.data = self._text
        response.content_type = f"{self.media}; charset=utf-8"


class OpenApi(_Text):
    """The document."""

    headers = (("Access-Control-Allow-Origin", "*"),)

    @operation("getOpenApi", answer=dict[str, Any], refusals=(304,))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Read this document.

        It is OpenAPI 3.1. Pages of any origin may read it.
        """
        self._serve(request, response)

    on_head = on_get


class Docs(_Text):
    """The page."""

    media = HTML
    headers = (("Content-Security-Policy", _POLICY), ("Referrer-Policy", "no-referrer"))

    @operation("getDocs", answer=schemas.Html, media=HTML, refusals=(304,))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Read this document as a page.

        Nothing in it comes from elsewhere, and it runs no script.
        """
        self._serve(request, response)

    on_head = on_get


class Style(_Text):
    """The page's stylesheet."""

    media = CSS

    @operation("getDocsStyle", answer=schemas.Css, media=CSS, refusals=(304,))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Read the page's stylesheet."""
        self._serve(request, response)

    on_head = on_get


def routes(table: Sequence[Route]) -> list[Route]:
    """The document of `table`, the page and its stylesheet, which describe themselves too."""
    document, docs, style = OpenApi(), Docs(), Style()
    own: list[Route] = [("/openapi.json", document), ("/docs", docs), ("/docs/style.css", style)]
    described = openapi.document([*table, *own])
    document.hold(schemas.encode(described))
    docs.hold(page.render(described).encode())
    style.hold(resources.files(__package__).joinpath("templates/docs.css").read_bytes())
    return own
