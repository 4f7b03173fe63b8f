"""Where a URL target may be: pure rules about URLs and addresses, no look-ups."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from kongflow_events import errors

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# All of IPv6 that is given out to hosts (RFC 4291 §2.4); outside are NAT64, IPv4-compatible, site-local, multicast, SRv6…
_GIVEN_OUT: Final = ipaddress.IPv6Network("2000::/3")
# Ways back to private hosts, or to no hosts at all, that `is_global` of some Python version lets through.
_DENIED: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "224.0.0.0/4",  # multicast
            "192.0.0.0/24",  # protocol assignments
            "192.88.99.0/24",  # 6to4 relays
            "2001::/23",  # protocol assignments: Teredo with an IPv4 address inside, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address inside
            "3fff::/20",  # documentation
        ),
    )
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# A name or an address; no "%": the scope of an IPv6 address belongs to this machine, not to a target.
_HOST: Final = re.compile(r"[a-z0-9._:-]{1,253}")
# The old and the new IDNA lead these to two different names (UTS 46 §7): ß, final sigma, the two zero-width joiners.
_AMBIGUOUS: Final = frozenset("ßς\u200c\u200d")


class Target(NamedTuple):
    """Where a URL leads: `host` in ASCII, `authority` as the Host header has it, `path` with its query."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could be at `address`, and nobody inside."""
    inner = _unwrapped(address)
    if inner.version == 6 and inner not in _GIVEN_OUT:  # noqa: PLR2004 - IP's own version number
        return False
    return inner.is_global and not any(inner in network for network in _DENIED)


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether a target may be at `address`: it is public, or in one of the `allowed` networks."""
    inner = _unwrapped(address)
    return is_public(inner) or any(inner in network for network in allowed)


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped one stands for: the system dials that."""
    return getattr(address, "ipv4_mapped", None) or address


def split(url: str, path: str = "url") -> Target:
    """Where a target's URL leads; raises Invalid, with an issue at `path`, for one that no target can have."""
    try:
        parts = _parsed(url)
        return _target(parts, _ascii(parts))
    except ValueError as error:
        raise errors.Invalid(errors.Issue("invalid_string", path, f"The URL {error}")) from None


def _parsed(url: str) -> SplitResult:
    # Before parsing: urlsplit drops some of these, and would then speak of another URL than the one that was given.
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("must not contain white space, control characters or backslashes")
    if "#" in url:
        raise ValueError("must not carry a fragment")
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user or a password")
    if parts.port == 0:
        raise ValueError("must not name port 0")
    return parts


def _ascii(parts: SplitResult) -> str:
    """The host as it goes over the wire, in lower case: an IPv6 address without brackets, or a name after RFC 3490."""
    host = parts.hostname or ""
    if _AMBIGUOUS.intersection(host):
        raise ValueError("must have its host in ASCII (xn--…): it means different names to different programs")
    try:
        name = str(ipaddress.IPv6Address(host)) if "[" in parts.netloc else host.encode("idna").decode().lower()
    except ValueError:
        name = ""
    if not _HOST.fullmatch(name):
        raise ValueError("must have a host that can be a name or an address")
    return name


def _target(parts: SplitResult, host: str) -> Target:
    shown = f"[{host}]" if ":" in host else host
    authority = shown if parts.port is None else f"{shown}:{parts.port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, parts.port or _DEFAULT_PORTS[parts.scheme], authority, path)
