"""Semantic versions (semver.org, 2.0.0): what is one, and which comes before which."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

SemVer = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
        r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
        r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$(?!\n)",
    ),
]


def semver_key(version: str) -> tuple[Any, ...]:
    """Sorts semantic versions by precedence (semver.org §11): a pre-release comes before its release."""
    core, _, prerelease = version.partition("+")[0].partition("-")
    numbers = tuple(int(number) for number in core.split("."))
    if not prerelease:
        return (*numbers, 1)
    return (*numbers, 0, *((0, int(part), "") if part.isdigit() else (1, 0, part) for part in prerelease.split(".")))
