"""The door to the outside: the only place that opens a socket to a URL target.

Every address a name resolves to is checked, at every attempt, and a checked address is dialled. No redirects, no
proxies, no cookies, no decompression; one deadline over all, kept by closing the socket; a capped answer.
"""

from __future__ import annotations

import email.utils
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC
from typing import Final, NamedTuple

from urllib3 import exceptions

from kongflow_events import addresses, errors
from kongflow_events.outgoing import connections
from kongflow_events.outgoing.deadlines import Deadline

# Seconds that a target may put its next attempt off by `Retry-After`.
_LONGEST_WAIT: Final = 3600.0
# Seconds that a look-up may take while somebody waits for a target to be accepted.
_LOOK_UP_AT_CREATION: Final = 2.0
# Bytes of a failure's reason.
_REASON_BYTES: Final = 500
# RFC 9110 §5.1 and §5.5.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# What only the door may say: these frame the request, or ask for another kind of answer.
_OURS: Final = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept-encoding",
    }
)

Resolve = Callable[[str, int], list[str]]


class CallFailed(errors.Retryable):
    """No complete answer came; `outcome` is the word for it in the attempt log, `duration_ms` how long it took."""

    outcome = "failed"

    def __init__(self, reason: str) -> None:
        super().__init__(clean(reason, _REASON_BYTES))
        self.duration_ms = 0


class Unreachable(CallFailed):
    """The name does not resolve, nobody answers there, the certificate is wrong, or the connection broke."""

    outcome = "unreachable"


class TimedOut(CallFailed):
    """The deadline passed before the answer was complete."""

    outcome = "timeout"


class Blocked(CallFailed):
    """The target's name leads to an address that is not allowed; its owner may mend that, so it is tried again."""

    outcome = "blocked"


class Answer(NamedTuple):
    """What a target answered: its status, the seconds it asks to wait, and the first bytes as clean text."""

    status: int
    retry_after: float | None
    excerpt: str
    duration_ms: int


def resolve(host: str, port: int) -> list[str]:
    """Every address of `host`, as the system resolves it, in the order to try them; raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def check_url(
    url: str, allowed: Sequence[addresses.Network], *, path: str = "url", resolver: Resolve = resolve
) -> None:
    """Raises Invalid, with an issue at `path`, for a URL that can never be a target: malformed, or at a forbidden address.

    A name that does not resolve within two seconds is accepted; it may later, and every call checks again.
    """
    target = addresses.split(url, path)
    try:
        found = _look_up(target, resolver, _LOOK_UP_AT_CREATION)
    except CallFailed:
        return
    if _blocked(found, allowed):
        raise errors.Invalid(errors.Issue("invalid_string", path, "The URL must lead to a public address"))


def post(
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timeout: float,
    allowed: Sequence[addresses.Network],
    resolver: Resolve = resolve,
) -> Answer:
    """POST `body` to `url` and return whatever it answers, a redirect included, within `timeout` seconds from here.

    Raises Unreachable, TimedOut or Blocked when no complete answer came, and Final for a URL or headers that cannot be
    sent. An answer longer than its excerpt counts as complete; an interim one (1xx) is taken for the answer.
    """
    target = _sendable(url)
    request = connections.Request(_headers(target, headers), body)
    deadline = Deadline(timeout)
    with _named(deadline), deadline:
        found = _checked(target, allowed, resolver, deadline)
        response = _first_that_connects(target, found, request, deadline)
        if deadline.passed:
            # An answer that ends with its connection looks complete also when it was we who ended it.
            raise TimeoutError
    excerpt = clean(response.content.decode(errors="replace"), connections.ANSWER_BYTES)
    return Answer(response.status, retry_after(response.headers.get("retry-after")), excerpt, deadline.spent_ms())


def clean(text: str, limit: int) -> str:
    """`text` without what PostgreSQL refuses (NUL, lone surrogates), cut to `limit` bytes of UTF-8."""
    encoded = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace")
    return encoded[:limit].decode(errors="ignore")


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110 §10.2.3), at most an hour; None when it says nothing."""
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        # Longer numbers are past the cap anyway.
        return min(float(text[:12]), _LONGEST_WAIT)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # The older forms of an HTTP date name no zone, and mean UTC.
    moment = until if until.tzinfo else until.replace(tzinfo=UTC)
    wait = moment.timestamp() - (time.time() if now is None else now)
    return min(wait, _LONGEST_WAIT) if wait > 0 else None


# What is sent ---------------------------------------------------------------------------------------------------------


def _sendable(url: str) -> addresses.Target:
    try:
        return addresses.split(url)
    except errors.Invalid as error:
        raise errors.Final(error.issues[0].message) from error


def _headers(target: addresses.Target, given: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request: those given, but for the ones that only the door may set."""
    for name, value in given.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise errors.Final(f"the header {name!r} cannot be sent")
    theirs = {name: value for name, value in given.items() if name.lower() not in _OURS}
    agent = {} if any(name.lower() == "user-agent" for name in theirs) else {"User-Agent": "kongflow-events"}
    return {"Host": target.authority, "Accept-Encoding": "identity", **agent, **theirs}


# Where it goes --------------------------------------------------------------------------------------------------------


def _look_up(target: addresses.Target, resolver: Resolve, within: float) -> list[str]:
    """Every address of the target, at least one.

    The system's resolver cannot be interrupted and may take half a minute (28 s measured with three silent name
    servers), so each look-up has a thread of its own (0.1 ms), which is left behind when it is late. A pool would let
    the slow names of one target use up the threads of all, and would hold up the end of the process.
    """
    answer: Future[list[str]] = Future()

    def ask() -> None:
        try:
            answer.set_result(resolver(target.host, target.port))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again by the one who waits
            answer.set_exception(error)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        found = answer.result(within)
    except TimeoutError as error:
        raise TimedOut(f"the name {target.host} did not resolve in time") from error
    except OSError as error:
        raise Unreachable(f"the name {target.host} does not resolve: {_words(error)}") from error
    if not found:
        raise Unreachable(f"the name {target.host} has no address")
    return found


def _checked(
    target: addresses.Target, allowed: Sequence[addresses.Network], resolver: Resolve, deadline: Deadline
) -> list[str]:
    found = _look_up(target, resolver, deadline.left())
    if blocked := _blocked(found, allowed):
        raise Blocked(f"{target.host} leads to {blocked}, which is not public")
    return found


def _blocked(found: Sequence[str], allowed: Sequence[addresses.Network]) -> str | None:
    """The first address that may not be called; one is enough to refuse them all."""
    for address in found:
        if not addresses.is_allowed(ipaddress.ip_address(address.partition("%")[0]), allowed):
            return address
    return None


# How it goes ----------------------------------------------------------------------------------------------------------


def _first_that_connects(
    target: addresses.Target, found: Sequence[str], request: connections.Request, deadline: Deadline
) -> connections.Response:
    """The exchange with the first address that takes the connection: a name's IPv6 may be dead and its IPv4 alive."""
    for position, address in enumerate(found):
        left = deadline.left()
        untried = len(found) - position
        try:
            return connections.exchange(target, address, request, connect=left / untried, read=left)
        except exceptions.ConnectTimeoutError:
            # Refused or silent, at any rate nothing was sent.
            if untried == 1:
                raise
    raise AssertionError("there is always an address")


@contextmanager
def _named(deadline: Deadline) -> Iterator[None]:
    """Give whatever a call fails with its word in the attempt log, and its duration."""
    try:
        yield
    except CallFailed as known:
        known.duration_ms = deadline.spent_ms()
        raise
    except (exceptions.HTTPError, OSError) as error:
        failure = _failure(error, deadline)
        failure.duration_ms = deadline.spent_ms()
        raise failure from error


def _failure(error: Exception, deadline: Deadline) -> CallFailed:
    cause = _innermost(error)
    # urllib3 counts a refused connection among its timeouts, and a timeout while sending among its broken connections.
    if isinstance(cause, (TimeoutError, exceptions.ReadTimeoutError)) or deadline.passed:
        return TimedOut(f"no complete answer within {deadline.seconds:g} s")
    return Unreachable(f"the call failed: {_words(cause)}")


def _innermost(error: BaseException) -> BaseException:
    """What was wrong at first: urllib3 wraps it in descriptions of its own objects."""
    inner = next((one for one in reversed(error.args) if isinstance(one, BaseException)), error.__cause__)
    return error if inner is None else _innermost(inner)


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
