"""`listen`: a webhook that is this command, for as long as it runs."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

import click
import urllib3

from kongflow_events import signing
from kongflow_events.cli import output
from kongflow_events.cli.client import call, json_option, known
from kongflow_events.cli.dispatchers import RULES
from kongflow_events.interrupts import until_interrupted

# Less than what the service waits for an answer.
_FORWARD_SECONDS: Final = 15.0
_PASSED_ON: Final[tuple[str, ...]] = ("content-type", signing.ID, signing.TIMESTAMP, signing.SIGNATURE)
_JSON: Final = "application/json"


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes
    retry_after: str | None = None


_TAKEN: Final = _Answer(200, _JSON, b"{}")


@click.command()
@click.option("--events", "names", required=True, metavar="NAMES", help="Names or patterns, with commas between them.")
@click.option("--forward-to", default=None, metavar="URL", help="Send each event on to here, and answer as it does.")
@click.option("--source", default=None, help="The source to listen to. [default: trigger.dev]")
@click.option("--filter", "payload_filter", default=None, metavar="JSON", help="What the payload must be like.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="The loopback port to wait at. [default: a free one]"
)
@click.option(
    "--url", default=None, help="Where the service reaches that port: a tunnel's URL, when it runs elsewhere."
)
@click.option(
    "--secret",
    default=None,
    metavar="whsec_…",
    help="What signs the calls, as whoever is behind --forward-to knows it.",
)
def listen(names: str, forward_to: str | None, port: int, url: str | None, **given: str | None) -> None:
    """Show events as they come, and what is answered to them, until Ctrl-C.

    Makes a webhook of its own, shows its secret, checks each signature, and deletes it at the end.

    Example: kongflow-events listen --events order.paid,invoice.* --forward-to http://127.0.0.1:3000/hooks
    """
    server = _Server(port, forward_to)
    here = url or f"http://127.0.0.1:{server.server_port}/"
    body = {
        "event": [name.strip() for name in names.split(",") if name.strip()],
        "source": given["source"],
        "payloadFilter": json_option(given["payload_filter"], "--filter"),
        "dispatchable": known({"type": "WEBHOOK", "url": here, "secret": given["secret"]}),
        "dispatchableId": f"listen {secrets.token_hex(8)}",
    }
    with server, until_interrupted() as stopping, _webhook(known(body)) as made:
        server.secret = made["secret"]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        click.echo(
            f"listening to {', '.join(made['event'])} at {made['dispatchable']['url']}; Ctrl-C ends it", err=True
        )
        click.echo(f"secret  {server.secret}", err=True)
        stopping.wait()
        server.shutdown()


@contextmanager
def _webhook(body: dict[str, Any]) -> Iterator[Any]:
    """A webhook, deleted at the end whatever happens."""
    made = call("POST", RULES, body)
    try:
        yield made
    finally:
        call("DELETE", f"{RULES}/{made['id']}")


class _Server(ThreadingHTTPServer):
    """Takes the service's calls on loopback."""

    secret: str

    def __init__(self, port: int, forward_to: str | None) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            output.fail(f"port {port} cannot be listened at: {error.strerror}")
        self.forward_to = forward_to
        self.pool = urllib3.PoolManager(retries=False, maxsize=8)


class _Handler(BaseHTTPRequestHandler):
    """One call."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Check it, send it on, say what came of it, and answer so."""
        started = time.monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self._answer_to(headers, body)
        click.echo(_line(body, answer, time.monotonic() - started))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.retry_after is not None:
            self.send_header("Retry-After", answer.retry_after)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Say nothing: each call has its line."""

    def _answer_to(self, headers: dict[str, str], body: bytes) -> _Answer:
        if not signing.verifies(self.server.secret, headers, body):
            return _Answer(401, _JSON, b'{"error": "the signature does not fit"}')
        if self.server.forward_to is None:
            return _TAKEN
        return _forwarded(self.server.pool, self.server.forward_to, headers, body)


def _forwarded(pool: urllib3.PoolManager, url: str, headers: dict[str, str], body: bytes) -> _Answer:
    passed: dict[str, str] = {name: headers[name] for name in _PASSED_ON if name in headers}
    try:
        answer = pool.request("POST", url, body=body, headers=passed, timeout=_FORWARD_SECONDS, redirect=False)
    except urllib3.exceptions.HTTPError as error:
        return _Answer(502, _JSON, json.dumps({"error": str(error)}).encode())
    said = answer.headers
    return _Answer(answer.status, said.get("Content-Type", _JSON), answer.data, said.get("Retry-After"))


def _line(body: bytes, answer: _Answer, seconds: float) -> str:
    try:
        event = json.loads(body)
        what = f"{event['name']}  {event['id']}"
    except (ValueError, KeyError, TypeError):
        what = "no event"
    good = 200 <= answer.status < 300  # noqa: PLR2004 - HTTP's own numbers
    status = click.style(str(answer.status), fg="green" if good else "red")
    said = "" if good else f"  {answer.body[:200].decode(errors='replace')}"
    return f"{time.strftime('%H:%M:%S')}  {output.plain(what)}  {status}  {seconds * 1000:.0f} ms{output.plain(said)}"
