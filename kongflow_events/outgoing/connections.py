"""Kept connections to checked addresses, and one exchange over them: request out, a capped answer back.

Trust is the system's; `SSL_CERT_FILE` and `SSL_CERT_DIR` (OpenSSL's own variables) name other authorities.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from kongflow_events.addresses import Target
from kongflow_events.outgoing import deadlines

# Bytes of an answer that are read.
ANSWER_BYTES: Final = 8192
# Targets whose connections are kept, and how many for each: together less than the 1,024 files a process may often open.
_TARGETS: Final = 100
_KEPT: Final = 8
_FIRST_FINAL_STATUS: Final = 200


class Request(NamedTuple):
    """What is sent, byte for byte."""

    headers: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    """What came back; `content` as it came, still encoded, at most ANSWER_BYTES."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class _Plain(HTTPConnection):
    """A connection that its call's deadline can end from the moment that it is dialled."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        deadlines.hold(sock)
        return sock

    def request(self, *arguments: Any, **options: Any) -> None:
        if self.sock is not None:
            deadlines.hold(self.sock)
        super().request(*arguments, **options)


class _Encrypted(_Plain, HTTPSConnection):
    """The same, with TLS."""


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Encrypted


@cache
def pools() -> urllib3.PoolManager:
    """This process's kept connections."""
    # One context for all: making one reads every certificate of the system (20 ms).
    manager = urllib3.PoolManager(_TARGETS, maxsize=_KEPT, block=False, ssl_context=ssl.create_default_context())
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}
    return manager


def exchange(target: Target, address: str, request: Request, connect: float, read: float) -> Response:
    """POST to `target` at `address`, waiting `connect` seconds for the connection and `read` for each part of the rest.

    Raises urllib3's HTTPError. A certificate is checked against the target's name. No redirect is followed, no proxy
    asked, no cookie kept, nothing decompressed.
    """
    # The name is part of a pool's key also without TLS: two targets behind one address do not share a connection.
    pool = pools().connection_from_host(address, target.port, target.scheme, {"server_hostname": target.host})
    response = pool.urlopen(
        "POST",
        target.path,
        body=request.body,
        headers=request.headers,
        timeout=urllib3.Timeout(connect=connect, read=read),
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )
    if response.status < _FIRST_FINAL_STATUS:
        # The final answer is still to come on this connection, and must not meet the next call.
        response.close()
        return Response(response.status, response.headers, b"")
    content = response.read(ANSWER_BYTES)
    if response.read(1):
        # More is coming that nobody will read.
        response.close()
    response.release_conn()
    return Response(response.status, response.headers, content)
