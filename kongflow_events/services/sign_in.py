"""Sign in to the console, by password or by a link that works once, and out again.

A session is a random token in a cookie; the database has its hash. How often somebody may try is counted there too, so
that it holds over all processes.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import uuid
from typing import Final, NamedTuple

from kongflow_events import errors, limits, passwords
from kongflow_events.store import audit, db, operators

SESSION_SECONDS: Final = 12 * 3600
LINK_SECONDS: Final = 3600
_TOKEN_BYTES: Final = 32
# One name may be tried ten times at once and then every half minute, one address twenty times and then every ten seconds.
_OF_A_NAME: Final = limits.Limit("sign-ins with this name", "sign-in", 1 / 30, 10)
_OF_AN_ADDRESS: Final = limits.Limit("sign-ins from this address", "sign-in", 1 / 10, 20)
_BUCKETS: Final = uuid.UUID("6f2c1a4e-7d0b-5c55-9d7e-2a4c0f7b9e11")
_REFUSAL: Final = "The name or the password is wrong"


class Session(NamedTuple):
    """A session that has begun: its token, this once in clear, and whose it is."""

    token: str
    operator: operators.SignedIn


def sign_in(name: str, password: str, address: str) -> Session:
    """Begin a session with a name and a password.

    Raises Unauthorized in the same words and after the same time for an unknown name, a wrong password and a disabled
    operator, and TooManyRequests before the password is looked at.
    """
    limits.take(_OF_AN_ADDRESS, _bucket("address", _network(address)))
    limits.take(_OF_A_NAME, _bucket("name", name))
    with db.unit():
        found = operators.secret(name)
        good = passwords.fits(password, found.password if found else None)
        if found is None or not good:
            audit.note(audit.Actor(None, name[:200], address), "sign-in.refused", "console")
            raise errors.Unauthorized(_REFUSAL)
        return _begin(found.operator, address, "sign-in")


def sign_in_by_link(token: str, address: str) -> Session:
    """Begin a session with a link; raises Unauthorized when it was used, is over, or never was."""
    limits.take(_OF_AN_ADDRESS, _bucket("address", _network(address)))
    with db.unit(), db.atomic():
        found = operators.use_link(_hash(token))
        if found is None:
            raise errors.Unauthorized("This link was used already, or is too old; dev prints a new one when it starts")
        return _begin(found, address, "sign-in.link")


def make_link(name: str, role: operators.Role = "operator") -> str:
    """The token of a link that signs this operator in once, within the hour; the operator is made when there is none."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with db.atomic():
        operators.add(name, role, None)
        operators.add_link(name, _hash(token), LINK_SECONDS)
    return token


def who(token: str | None) -> operators.SignedIn | None:
    """Who is signed in with this token, if anybody."""
    return operators.signed_in(_hash(token)) if token else None


def sign_out(token: str, actor: audit.Actor) -> None:
    """End the session of this token."""
    with db.atomic():
        operators.end_session(_hash(token))
        audit.note(actor, "sign-out", "console")


def form_token(token: str) -> str:
    """What a form of this session has to bring along: only pages of the session know it (OWASP's signed double submit)."""
    return hmac.new(token.encode(), b"form", "sha256").hexdigest()


def _begin(operator: operators.SignedIn, address: str, action: str) -> Session:
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with db.atomic():
        operators.begin_session(operator.id, _hash(token), SESSION_SECONDS)
        audit.note(audit.Actor(operator.id, operator.name, address), action, "console")
    return Session(token, operator)


def _bucket(kind: str, value: str) -> uuid.UUID:
    return uuid.uuid5(_BUCKETS, f"{kind} {value}")


def _network(address: str) -> str:
    """Where an address belongs to: whoever has one of IPv6 has the 2^64 beside it too."""
    try:
        at = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    # Those of IPv4 stand in one such network, too.
    return address if at.ipv4_mapped else str(ipaddress.IPv6Network((at, 64), strict=False))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
