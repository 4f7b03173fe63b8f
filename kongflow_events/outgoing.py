"""The door to the outside: the only place that opens a socket to a URL target.

Every address a name resolves to is checked, at every attempt, and the checked address is dialled. No redirects, no
proxies, no cookies, no decompression; one deadline over all, kept by closing the socket; a capped answer.
"""

from __future__ import annotations

import contextlib
import email.utils
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from kongflow_events import addresses, errors

# Bytes of an answer that are read and kept.
_ANSWER_BYTES: Final = 8192
# Seconds that a target may put its next attempt off by `Retry-After`.
_LONGEST_WAIT: Final = 3600.0
# Targets whose connections are kept open.
_TARGETS: Final = 200

Resolve = Callable[[str, int], list[str]]


class CallFailed(errors.Retryable):
    """No answer came; `outcome` is the word for it in the attempt log."""

    outcome = "unreachable"

    def __init__(self, reason: str, duration_ms: int = 0) -> None:
        super().__init__(reason)
        self.duration_ms = duration_ms


class TimedOut(CallFailed):
    """The deadline passed before the answer was complete."""

    outcome = "timeout"


class Blocked(CallFailed):
    """The target's name leads to an address that is not public."""

    outcome = "blocked"


class Answer(NamedTuple):
    """What a target answered: its status, the seconds it asks to wait, and the first bytes as clean text."""

    status: int
    retry_after: float | None
    excerpt: str
    duration_ms: int


def resolve(host: str, port: int) -> list[str]:
    """Every address of `host`, as the system resolves it."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def check_url(url: str, allowed: Sequence[addresses.Network]) -> None:
    """Raises Invalid for a URL that can never be a target: malformed, or at an address that is not public now.

    A name that does not resolve is accepted; it may later, and every call checks again.
    """
    parts = addresses.split(url)
    with contextlib.suppress(OSError, UnicodeError):
        if _blocked(resolve(str(parts.hostname), _port(parts)), allowed):
            raise errors.Invalid(errors.Issue("invalid_string", "url", "The URL must lead to a public address"))


def post(
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timeout: float,
    allowed: Sequence[addresses.Network],
    resolver: Resolve = resolve,
) -> Answer:
    """POST `body` to `url` and return whatever it answers, a redirect included.

    Raises CallFailed (or TimedOut, Blocked) when no answer came within `timeout` seconds from here, and Invalid for a
    URL that is none.
    """
    started = time.monotonic()
    parts = addresses.split(url)
    with _named(started, timeout):
        address = _checked_address(parts, allowed, resolver, timeout)
        pool = _pool(parts, address)
        with _deadline(started + timeout) as passed:
            status, answered, content = _exchange(pool, parts, headers, body, timeout)
            if passed():
                raise TookTooLong
    excerpt = clean(content.decode(errors="replace"), _ANSWER_BYTES)
    return Answer(status, retry_after(answered.get("retry-after")), excerpt, _milliseconds(started))


def clean(text: str, limit: int) -> str:
    """`text` without what PostgreSQL refuses (NUL, lone surrogates), cut to `limit` bytes of UTF-8."""
    encoded = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace")
    return encoded[:limit].decode(errors="ignore")


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110 §10.2.3), at most an hour; None when it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value[:12]), _LONGEST_WAIT)
    try:
        until = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    wait = until - (time.time() if now is None else now)
    return min(wait, _LONGEST_WAIT) if wait > 0 else None


# How a call goes ------------------------------------------------------------------------------------------------------


@contextmanager
def _named(started: float, timeout: float) -> Iterator[None]:
    """Give whatever a call fails with its word in the attempt log."""
    try:
        yield
    except CallFailed as error:
        error.duration_ms = _milliseconds(started)
        raise
    except (urllib3.exceptions.HTTPError, OSError, TookTooLong) as error:
        spent = _milliseconds(started)
        slow = isinstance(error, (urllib3.exceptions.TimeoutError, TookTooLong))
        if slow or spent >= timeout * 1000:
            raise TimedOut(f"no complete answer within {timeout:g} s", spent) from error
        raise CallFailed(f"{type(error).__name__}: {error}", spent) from error


def _exchange(
    pool: urllib3.HTTPConnectionPool, parts: SplitResult, headers: Mapping[str, str], body: bytes, timeout: float
) -> tuple[int, Mapping[str, str], bytes]:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    response = pool.urlopen(
        "POST",
        target,
        body=body,
        headers={"Host": parts.netloc, "Accept-Encoding": "identity", "User-Agent": "kongflow-events", **headers},
        timeout=urllib3.Timeout(connect=timeout, read=timeout),
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )
    content = response.read(_ANSWER_BYTES)
    if response.read(1):
        # More is coming, and nobody will read it: this connection is of no further use.
        response.close()
    response.release_conn()
    return response.status, response.headers, content


def _checked_address(
    parts: SplitResult, allowed: Sequence[addresses.Network], resolver: Resolve, timeout: float
) -> str:
    host = str(parts.hostname)
    try:
        found = _resolving.submit(resolver, host, _port(parts)).result(timeout)
    except (OSError, UnicodeError) as error:
        raise CallFailed(f"the name {host} does not resolve: {error}") from error
    if not found:
        raise CallFailed(f"the name {host} has no address")
    if blocked := _blocked(found, allowed):
        raise Blocked(f"{host} leads to {blocked}, which is not public")
    return found[0]


def _blocked(found: Sequence[str], allowed: Sequence[addresses.Network]) -> str | None:
    """The first address that may not be called; one is enough to refuse them all."""
    for address in found:
        if not addresses.is_allowed(ipaddress.ip_address(address.partition("%")[0]), allowed):
            return address
    return None


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _milliseconds(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


# A resolver that hangs cannot be interrupted, only left behind.
_resolving = ThreadPoolExecutor(8, thread_name_prefix="resolve")

# The deadline ---------------------------------------------------------------------------------------------------------

# Socket timeouts start anew with every byte, so a drip of bytes would hold a worker for as long as it likes. Closing
# the socket from outside ends any wait; for that, a connection says whose call it is carrying.
_call = threading.local()


class _Plain(HTTPConnection):
    """A connection that its call's deadline can close."""

    def request(self, *arguments: Any, **options: Any) -> None:
        _call.connection = self
        super().request(*arguments, **options)


class _Encrypted(HTTPSConnection):
    """The same, with TLS."""

    def request(self, *arguments: Any, **options: Any) -> None:
        _call.connection = self
        super().request(*arguments, **options)


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Encrypted


@contextmanager
def _deadline(at: float) -> Iterator[Callable[[], bool]]:
    """Shut the call's socket down when the monotonic clock reaches `at`; what is yielded says whether it has."""
    _call.connection = None
    # The timer's thread has no such thread-local of its own: it needs this thread's.
    mine = _call.__dict__
    passed = threading.Event()

    def end() -> None:
        passed.set()
        connection = mine["connection"]
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, at - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield passed.is_set
    finally:
        timer.cancel()


def _pool(parts: SplitResult, address: str) -> urllib3.HTTPConnectionPool:
    """The kept connections to one checked address; a name's certificate is checked against the name."""
    options = {"server_hostname": parts.hostname, "assert_hostname": parts.hostname} if parts.scheme == "https" else {}
    return _pools.connection_from_host(address, _port(parts), parts.scheme, pool_kwargs=options)


_pools = urllib3.PoolManager(num_pools=_TARGETS, maxsize=4, block=False)
_pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}
