"""How a place inside a JSON value is written, in every message of the house: `event.name`, `events[1].name`."""

from __future__ import annotations

import json
from typing import Any, Final

_NAMES: Final = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}


def join(path: str, key: str) -> str:
    """The path of `key` inside the object at `path`; a key that is no plain word is quoted, so that the path is clear."""
    if not key.replace("_", "a").replace("$", "a").isalnum():
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def type_name(value: Any) -> str:
    """What JavaScript's validators call the type of a JSON value."""
    return "null" if value is None else _NAMES[type(value)]
