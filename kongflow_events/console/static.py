"""Files that pages load: read once, under names that change with their bytes, so that a browser may keep them for ever."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any, Final, NamedTuple

import falcon

from kongflow_events.console.visits import url

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# By the name that templates know them by.
_FILES: Final = {
    "console.css": "console.css",
    "console.js": "console.js",
    "icon.svg": "icon.svg",
    "htmx.js": "vendor/htmx-2.0.11.min.js",
}
# Of a SHA-256: enough to tell versions apart.
_SHOWN: Final = 16


class _File(NamedTuple):
    name: str
    data: bytes
    type: str


def _read(name: str, path: str) -> _File:
    data = resources.files(__package__).joinpath("static", path).read_bytes()
    stem, _, kind = name.rpartition(".")
    return _File(f"{stem}-{hashlib.sha256(data).hexdigest()[:_SHOWN]}.{kind}", data, _TYPES[kind])


_files: Final = {name: _read(name, path) for name, path in _FILES.items()}
_served: Final = {file.name: file for file in _files.values()}


def file_url(name: str) -> str:
    """Where the file is to be had that templates know as `name`."""
    return url("static", _files[name].name)


class Static:
    """The files; nobody has to be signed in for them."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Send one; a name of another version is not there."""
        file = _served.get(name)
        if file is None:
            raise falcon.HTTPNotFound
        response.data, response.content_type = file.data, file.type
        response.set_header("Cache-Control", "public, max-age=31536000, immutable")
        response.set_header("X-Content-Type-Options", "nosniff")

    on_head: Any = on_get
