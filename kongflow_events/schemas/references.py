"""Where a named schema stands in the document of the API."""

from __future__ import annotations

from typing import Final

REF: Final = "#/components/schemas/{name}"


def ref(name: str) -> dict[str, str]:
    """A schema that is another one, by its name."""
    return {"$ref": REF.format(name=name)}
