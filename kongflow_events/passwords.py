"""Passwords of operators, as argon2id hashes."""

from __future__ import annotations

from typing import Final

import argon2

from kongflow_events import errors

SHORTEST: Final = 12
# More than anybody types, and little enough to hash at once.
LONGEST: Final = 512
# OWASP's first choice of memory and passes: a sixteenth of the library's memory, since a web process may hash in all of its
# threads at once.
_HASHER: Final = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# What the password of somebody who has none is held against: that takes as long, and never fits.
_NOBODYS: Final = _HASHER.hash("the password of nobody")


def hashed(password: str) -> str:
    """The hash to store; raises Invalid for a password that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise errors.Invalid(
            errors.Issue(
                "custom", "password", f"A password has {SHORTEST} to {LONGEST} characters, this one {len(password)}"
            )
        )
    return _HASHER.hash(password)


def fits(password: str, stored: str | None) -> bool:
    """Whether this is the password; with nothing stored it is not, which takes as long to say."""
    try:
        _HASHER.verify(_NOBODYS if stored is None else stored, password[: LONGEST + 1])
    except argon2.exceptions.VerificationError:
        return False
    return stored is not None
