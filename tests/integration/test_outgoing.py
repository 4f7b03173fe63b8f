"""Calls over real sockets on loopback: what is dialled, what is sent, and how every kind of receiver is survived."""

from __future__ import annotations

import gzip
import ipaddress
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from kongflow_events import outgoing
from kongflow_events.outgoing import connections

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
CERTIFICATE = Path(__file__).parent.parent / "data" / "receiver.test.pem"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# Seconds that a test gives a call which is to be cut, and bytes that a drip is long: a minute's worth, then it is over.
SHORT = 0.3
DRIPS = 1200


class Wire:
    """A server that speaks bytes: `speak` gets each connection after each request that came in over it."""

    def __init__(self, speak: Callable[[Wire, socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[int, bytes]] = []
        self.connections = 0
        self.over = threading.Event()
        # Set when a send found the connection broken.
        self.cut = threading.Event()
        self._speak = speak
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for one in self._open:
            one.close()
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def served(self) -> None:
        """Wait until every connection that came has been served to its end."""
        for thread in self._threads[1:]:
            thread.join(10)

    def drip(self, connection: socket.socket, byte: bytes) -> None:
        """Send a byte every twentieth of a second."""
        for _ in range(DRIPS):
            if self.over.wait(0.05):
                return
            connection.sendall(byte)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection, self.connections)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        # Whoever hangs is let go when the test is over.
        connection.settimeout(0.05)
        self._open.append(connection)
        try:
            if self._context:
                connection.settimeout(10)
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            while request := self._read(connection):
                self.requests.append((number, request))
                connection.settimeout(60)
                self._speak(self, connection)
        except OSError:
            self.cut.set()
        finally:
            connection.close()

    def _read(self, connection: socket.socket) -> bytes:
        """One request, to the last byte of its body; empty when the connection is at its end."""
        connection.settimeout(0.05)
        got = b""
        while not self.over.is_set():
            try:
                some = connection.recv(65536)
            except TimeoutError:
                continue
            got += some
            head, mark, body = got.partition(b"\r\n\r\n")
            length = next((int(one[15:]) for one in head.split(b"\r\n") if one.startswith(b"Content-Length:")), 0)
            if not some or (mark and len(body) >= length):
                return got if some else b""
        return b""


def saying(*answers: bytes, last: bool = False) -> Callable[[Wire, socket.socket], None]:
    """Answers in turn, the final one for ever; `last` ends the connection after each."""
    left = list(answers)

    def speak(wire: Wire, connection: socket.socket) -> None:
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])
        if last:
            connection.shutdown(socket.SHUT_RDWR)

    return speak


def dripping(before: bytes, byte: bytes = b"x", after: bytes = b"") -> Callable[[Wire, socket.socket], None]:
    """Answers so slowly that only a deadline over all of it helps; the answer would be good in the end."""

    def speak(wire: Wire, connection: socket.socket) -> None:
        connection.sendall(before)
        wire.drip(connection, byte)
        connection.sendall(after)
        connection.shutdown(socket.SHUT_RDWR)

    return speak


def hanging(wire: Wire, connection: socket.socket) -> None:
    wire.over.wait()


def call(url: str, **options: Any) -> outgoing.Answer:
    return outgoing.post(url, **{"headers": {}, "body": b"{}", "timeout": 30, "allowed": LOOPBACK, **options})


def to(*found: str) -> outgoing.Resolve:
    """A resolver to which every name has these addresses."""
    return lambda host, port: list(found)


class TestWhatIsDialled:
    def test_the_checked_address_is_dialled_and_the_name_not_asked_for_again(self) -> None:
        asked: list[str] = []

        def resolver(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"]

        with Wire(saying(OK)) as wire:
            answer = call(f"http://receiver.test:{wire.port}/", resolver=resolver)

        assert (answer.status, answer.excerpt, asked) == (200, "ok", ["receiver.test"])
        assert f"\r\nHost: receiver.test:{wire.port}\r\n".encode() in b"\r\n" + wire.requests[0][1]

    def test_a_name_that_turns_inside_between_two_calls_is_blocked_though_a_connection_is_kept(self) -> None:
        allowed = [ipaddress.ip_network("127.0.0.1")]
        answers = iter([["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2"]])
        with Wire(saying(OK)) as wire:
            url = f"http://rebound.test:{wire.port}/"
            call(url, allowed=allowed, resolver=lambda *_: next(answers))
            for _ in range(2):
                with pytest.raises(outgoing.Blocked, match=r"rebound\.test leads to 127\.0\.0\.2") as caught:
                    call(url, allowed=allowed, resolver=lambda *_: next(answers))

        assert len(wire.requests) == 1
        assert caught.value.outcome == "blocked"

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "localhost", "①②⑦.1"])
    def test_an_inside_address_is_not_dialled_however_it_is_spelt(self, host: str) -> None:
        with Wire(saying(OK)) as wire, pytest.raises(outgoing.Blocked):
            call(f"http://{host}:{wire.port}/", allowed=[])

        assert wire.connections == 0

    def test_an_address_that_takes_no_connection_gives_way_to_the_next(self) -> None:
        with Wire(saying(OK)) as wire:
            answer = call(f"http://receiver.test:{wire.port}/", resolver=to("127.0.0.2", "127.0.0.1"))

        assert answer.status == 200

    def test_a_redirect_is_an_answer_and_is_not_followed(self) -> None:
        with Wire(saying(OK)) as inside:
            moved = f"HTTP/1.1 307 Moved\r\nLocation: {inside.url}\r\nContent-Length: 0\r\n\r\n".encode()
            with Wire(saying(moved)) as wire:
                assert call(wire.url).status == 307

        assert (len(wire.requests), inside.connections) == (1, 0)

    def test_no_proxy_of_the_environment_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Wire(saying(OK)) as proxy, Wire(saying(OK)) as wire:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            call(wire.url)

        assert (len(wire.requests), proxy.connections) == (1, 0)

    @pytest.mark.parametrize("found", [[], OSError("no such name")])
    def test_a_name_without_addresses_is_unreachable(self, found: Any) -> None:
        def resolver(host: str, port: int) -> list[str]:
            if isinstance(found, OSError):
                raise found
            return list(found)

        with pytest.raises(outgoing.Unreachable, match=r"nowhere\.test") as caught:
            call("http://nowhere.test/", resolver=resolver)

        assert caught.value.outcome == "unreachable"


class TestWhatIsSent:
    def test_the_request_is_the_given_one_and_the_doors_own_headers_cannot_be_replaced(self) -> None:
        given = {"X-A": "b", "host": "evil.test", "Content-Length": "1", "Transfer-Encoding": "chunked"}
        with Wire(saying(OK)) as wire:
            call(f"{wire.url}//x?a=b&c", body=b'{"n": 1.10}', headers={**given, "accept-encoding": "gzip"})

        head, _, body = wire.requests[0][1].partition(b"\r\n\r\n")
        line, *headers = head.decode().split("\r\n")
        assert (line, body) == ("POST /hook//x?a=b&c HTTP/1.1", b'{"n": 1.10}')
        assert sorted(headers) == [
            "Accept-Encoding: identity",
            "Content-Length: 11",
            f"Host: 127.0.0.1:{wire.port}",
            "User-Agent: kongflow-events",
            "X-A: b",
        ]

    def test_no_cookie_is_kept(self) -> None:
        with Wire(saying(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")) as wire:
            call(wire.url)
            call(wire.url)

        assert b"cookie" not in wire.requests[1][1].lower()

    def test_a_path_that_looks_like_another_host_is_a_path(self) -> None:
        with Wire(saying(OK)) as wire:
            call(f"http://127.0.0.1:{wire.port}//evil.test/x")

        assert wire.requests[0][1].startswith(b"POST //evil.test/x HTTP/1.1\r\n")


class TestConnections:
    def test_a_connection_is_used_again(self) -> None:
        with Wire(saying(OK)) as wire:
            for _ in range(5):
                call(wire.url)

        assert [number for number, _ in wire.requests] == [1] * 5

    def test_a_connection_that_the_receiver_has_closed_is_made_anew(self) -> None:
        statuses = []
        with Wire(saying(OK, last=True)) as wire:
            for _ in range(3):
                statuses.append(call(wire.url).status)
                # Its end of the connection is closed when its thread is over; before, the call could not know.
                wire.served()

        assert (statuses, wire.connections) == ([200] * 3, 3)

    def test_two_names_at_one_address_share_no_connection(self) -> None:
        with Wire(saying(OK)) as wire:
            for name in ("a.test", "b.test", "a.test"):
                call(f"http://{name}:{wire.port}/", resolver=to("127.0.0.1"))

        assert [number for number, _ in wire.requests] == [1, 2, 1]

    def test_an_interim_answer_does_not_leave_the_final_one_to_the_next_call(self) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        with Wire(saying(early + b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n", OK)) as wire:
            assert [call(wire.url).status for _ in range(2)] == [103, 200]

        assert wire.connections == 2

    def test_no_descriptor_is_left_behind(self) -> None:
        before = len(os.listdir("/dev/fd"))
        for speak in (
            saying(b"nonsense\r\n\r\n"),
            saying(OK, last=True),
            dripping(b"HTTP/1.1 200 OK\r\n\r\n"),
            hanging,
        ):
            with Wire(speak) as wire:
                for _ in range(5):
                    try:
                        call(wire.url, timeout=0.1)
                    except outgoing.CallFailed:
                        continue
        connections.pools().clear()

        assert len(os.listdir("/dev/fd")) <= before


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 201, 204, 301, 304, 308, 400, 410, 429, 500, 503, 599])
    def test_every_answer_is_an_answer(self, status: int) -> None:
        length = b"" if status in {204, 304} else b"Content-Length: 2\r\n"
        text = b"" if status in {204, 304} else b"ok"
        with Wire(saying(f"HTTP/1.1 {status} So\r\nRetry-After: 7\r\n".encode() + length + b"\r\n" + text)) as wire:
            answer = call(wire.url)

        assert (answer.status, answer.retry_after, answer.excerpt) == (status, 7, text.decode())

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nabcde",
            b"HTTP/1.0 200\r\n\r\nabcde",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
        ],
    )
    def test_every_framing_is_understood(self, answer: bytes) -> None:
        with Wire(saying(answer, last=True)) as wire:
            assert call(wire.url).excerpt == "abcde"

    def test_a_long_answer_is_cut_and_its_connection_dropped(self) -> None:
        sent = 0

        def endless(wire: Wire, connection: socket.socket) -> None:
            nonlocal sent
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
            while sent < 2**30:
                connection.sendall(b"x" * 2**16)
                sent += 2**16

        with Wire(endless) as wire:
            answer = call(wire.url)
            assert wire.cut.wait(30)

        assert (answer.status, answer.excerpt) == (200, "x" * 8192)
        assert sent < 2**30

    def test_a_compressed_answer_is_not_unpacked(self) -> None:
        bomb = gzip.compress(b"a" * 2**24)
        with Wire(saying(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + bomb, last=True)) as wire:
            answer = call(wire.url)

        assert answer.excerpt == outgoing.clean(bomb[:8192].decode(errors="replace"), 8192)

    def test_an_excerpt_is_clean_and_within_its_bytes(self) -> None:
        odd = b"\0\xff\xed\xa0\x80\xe2\x82" * 1170
        with Wire(saying(b"HTTP/1.1 500 Broken\r\n\r\n" + odd, last=True)) as wire:
            excerpt = call(wire.url).excerpt

        assert "\0" not in excerpt
        assert len(excerpt.encode()) <= 8192


class TestBrokenReceivers:
    def test_a_refused_connection_is_unreachable_and_not_a_timeout(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(outgoing.Unreachable, match="Connection refused") as caught:
            call(f"http://127.0.0.1:{port}/")

        assert caught.value.outcome == "unreachable"

    def test_a_reset_is_unreachable(self) -> None:
        def reset(wire: Wire, connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        with Wire(reset) as wire, pytest.raises(outgoing.Unreachable, match="reset by peer"):
            call(wire.url)

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"nonsense\r\n\r\n",
            b"\0\0\0\0\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nA: " + b"b" * 1_000_000 + b"\r\n\r\n",
        ],
        ids=["nothing", "nonsense", "NULs", "SSH", "too short", "bad chunk", "10,000 headers", "a header of 1 MB"],
    )
    def test_what_is_no_answer_is_unreachable_with_a_reason_that_can_be_stored(self, answer: bytes) -> None:
        with Wire(saying(answer, last=True)) as wire, pytest.raises(outgoing.Unreachable) as caught:
            call(wire.url)

        assert caught.value.reason == outgoing.clean(caught.value.reason, 500)
        assert caught.value.duration_ms < 30_000


class TestDeadline:
    @pytest.mark.parametrize(
        "speak",
        [
            hanging,
            dripping(b"", b"x"),
            dripping(b"HTTP/1.1 100 Continue\r\n\r\n", b"H", b""),
            dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x", b"\r\nContent-Length: 0\r\n\r\n"),
            dripping(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DRIPS),
            dripping(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % DRIPS),
            dripping(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
            dripping(b"HTTP/1.0 200 OK\r\n\r\n"),
            dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n"),
            dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0", b"0", b"\r\n\r\n"),
        ],
        ids=[
            *[
                "silence",
                "status",
                "after 100",
                "header",
                "body",
                "body, closing",
                "body to the end, closing",
                "HTTP/1.0",
            ],
            *["chunk", "chunk size"],
        ],
    )
    def test_no_way_of_being_slow_outlives_it(self, speak: Callable[[Wire, socket.socket], None]) -> None:
        with Wire(speak) as wire, pytest.raises(outgoing.TimedOut) as caught:
            call(wire.url, timeout=SHORT)

        # The other side would have gone on for a minute.
        assert SHORT * 1000 <= caught.value.duration_ms < 30_000
        assert caught.value.outcome == "timeout"

    def test_it_ends_a_slow_answer_on_a_kept_connection(self) -> None:
        drip = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DRIPS)

        def speak(wire: Wire, connection: socket.socket) -> None:
            (drip if len(wire.requests) == 2 else saying(OK))(wire, connection)

        with Wire(speak) as wire:
            call(wire.url)
            with pytest.raises(outgoing.TimedOut):
                call(wire.url, timeout=SHORT)
            assert wire.cut.wait(30)
            # The cut connection is not used again.
            assert call(wire.url).status == 200

        assert [number for number, _ in wire.requests] == [1, 1, 2]

    def test_it_ends_a_slow_tls_handshake(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            over = threading.Event()

            def drip() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    # The header of a record of 4 kB, which then comes a byte at a time.
                    connection.sendall(b"\x16\x03\x03\x10\x00")
                    while not over.wait(0.05):
                        try:
                            connection.sendall(b"\x02")
                        except OSError:
                            return

            thread = threading.Thread(target=drip)
            thread.start()
            with pytest.raises(outgoing.TimedOut):
                call(f"https://127.0.0.1:{listener.getsockname()[1]}/", timeout=SHORT)
            over.set()
            thread.join()

    def test_it_ends_a_connection_that_nobody_takes(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            full = []
            for _ in range(3):
                full.append(socket.socket())
                full[-1].setblocking(False)
                full[-1].connect_ex(listener.getsockname())
            with pytest.raises(outgoing.TimedOut):
                call(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=SHORT)
            for one in full:
                one.close()

    def test_it_ends_a_body_that_nobody_reads(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(outgoing.TimedOut):
            call(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=SHORT, body=b"x" * 2**25)

    def test_it_ends_a_look_up_that_hangs(self) -> None:
        released = threading.Event()

        def resolver(host: str, port: int) -> list[str]:
            released.wait(60)
            return ["127.0.0.1"]

        with pytest.raises(outgoing.TimedOut, match=r"slow\.test did not resolve in time"):
            call("http://slow.test/", timeout=SHORT, resolver=resolver)
        released.set()

    def test_a_nearer_one_does_not_wait_for_a_farther_one_nor_end_it(self) -> None:
        asked, let_go = threading.Event(), threading.Event()

        def patient(wire: Wire, connection: socket.socket) -> None:
            asked.set()
            let_go.wait(60)
            connection.sendall(OK)

        with Wire(patient) as far, Wire(hanging) as near, ThreadPoolExecutor(1) as other:
            waiting = other.submit(call, far.url, timeout=60)
            assert asked.wait(60)
            with pytest.raises(outgoing.TimedOut):
                call(near.url, timeout=SHORT)
            assert not waiting.done()
            let_go.set()

            assert waiting.result().status == 200

    def test_many_calls_at_once_each_get_their_own(self) -> None:
        with Wire(hanging) as slow, Wire(saying(OK)) as good, ThreadPoolExecutor(12) as threads:
            cut = [threads.submit(call, slow.url, timeout=SHORT) for _ in range(6)]
            fine = [threads.submit(call, good.url) for _ in range(60)]

            assert {one.result().status for one in fine} == {200}
            assert {type(one.exception()) for one in cut} == {outgoing.TimedOut}


class TestTls:
    @pytest.fixture
    def trusted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """The receiver's authority is one that the system trusts."""
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        connections.pools.cache_clear()
        yield
        connections.pools.cache_clear()

    @pytest.fixture
    def names(self) -> list[str | None]:
        """The names that callers ask for in their handshakes."""
        return []

    @pytest.fixture
    def wire(self, names: list[str | None]) -> Iterator[Wire]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        context.sni_callback = lambda _socket, name, _context: names.append(name)
        with Wire(saying(OK), context) as wire:
            yield wire

    @pytest.mark.usefixtures("trusted")
    def test_the_certificate_is_the_names_though_an_address_is_dialled(self, wire: Wire, names: list[str]) -> None:
        for _ in range(3):
            answer = call(f"https://receiver.test:{wire.port}/", resolver=to("127.0.0.1"))

        assert (answer.status, names) == (200, ["receiver.test"])
        assert f"Host: receiver.test:{wire.port}\r\n".encode() in wire.requests[0][1]
        assert [number for number, _ in wire.requests] == [1] * 3

    @pytest.mark.usefixtures("trusted")
    @pytest.mark.parametrize("host", ["other.test", "127.0.0.1"])
    def test_a_certificate_of_another_name_is_refused(self, wire: Wire, host: str) -> None:
        with pytest.raises(outgoing.Unreachable, match="certificate verify failed"):
            call(f"https://{host}:{wire.port}/", resolver=to("127.0.0.1"))

        assert wire.requests == []

    def test_a_certificate_of_an_unknown_authority_is_refused(self, wire: Wire) -> None:
        with pytest.raises(outgoing.Unreachable, match="certificate verify failed"):
            call(f"https://receiver.test:{wire.port}/", resolver=to("127.0.0.1"))

        assert wire.requests == []
