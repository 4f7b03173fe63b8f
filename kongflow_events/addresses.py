"""Which addresses a URL target may have: pure rules, no look-ups."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from kongflow_events import errors

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Ways back to private hosts, or no hosts at all, that `is_global` of some Python versions lets through.
_DENIED: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "224.0.0.0/4",  # multicast
            "192.0.0.0/24",  # protocol assignments
            "192.88.99.0/24",  # 6to4 relays
            "ff00::/8",  # multicast
            "64:ff9b::/96",  # NAT64: an IPv4 address inside
            "64:ff9b:1::/48",  # local NAT64
            "2002::/16",  # 6to4: an IPv4 address inside
            "2001::/32",  # Teredo: an IPv4 address inside
            "::/96",  # IPv4-compatible
            "fec0::/10",  # site-local
            "5f00::/16",  # segment routing
        ),
    )
)
_SCHEMES: Final = ("http", "https")


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could be at `address`, and nobody inside."""
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return is_public(mapped)
    return address.is_global and not any(address in network for network in _DENIED)


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether a target may be at `address`: it is public, or in one of the `allowed` networks."""
    mapped = getattr(address, "ipv4_mapped", None)
    inner = mapped if mapped is not None else address
    return is_public(inner) or any(inner in network for network in allowed)


def split(url: str) -> SplitResult:
    """The parts of a target's URL; raises Invalid for one that no target can have."""
    # Before parsing: urlsplit drops some of these, and would then speak of another URL than the one that was given.
    if any(mark <= " " or mark in "\\\x7f" for mark in url):
        raise _wrong("must not contain white space, control characters or backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong(f"is no URL: {error}") from None
    if parts.scheme not in _SCHEMES or not parts.hostname or "%" in parts.hostname:
        raise _wrong("must be an absolute http or https URL")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _wrong("must not carry a user, a password or a fragment")
    if port == 0:
        raise _wrong("must not name port 0")
    return parts


def _wrong(why: str) -> errors.Invalid:
    return errors.Invalid(errors.Issue("invalid_string", "url", f"The URL {why}"))
