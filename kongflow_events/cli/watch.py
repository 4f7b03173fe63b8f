"""A bulk operation as a person at a terminal follows it: asked first, then a progress bar until it ends."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import click

from kongflow_events.cli import output
from kongflow_events.cli.client import insist, read

_POLL_SECONDS: Final = 0.3

wait = click.option("--wait/--no-wait", default=True, help="Follow it until it ends, or leave it to the background.")
yes = click.option("--yes", is_flag=True, help="Do not ask first.")
rate = click.option(
    "--rate", type=click.IntRange(1, 10_000), default=200, show_default=True, help="At most so many a second."
)


def confirm(question: str, sure: bool) -> None:
    """Ask unless it is sure; without a terminal nobody could answer, so `--yes` is wanted there."""
    if sure:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        # At a terminal that is a Ctrl-C.
        if sys.stdin.isatty():
            raise
        agreed = False
    if not agreed:
        output.fail("nothing was done; say --yes to do it without being asked", output.USAGE)


def follow(what: str, started: dict[str, Any], did: str, *, wait_for_it: bool, as_json: bool) -> None:
    """Show how far an operation at `/api/v1/{what}/{id}` is until it ends; ends with 1 unless it was done.

    `did` says what its number counts. An interrupt ends the watching, not the operation; a service that is away does after
    five minutes.
    """
    # First of all: however the watching ends, what was begun can be found again.
    if wait_for_it:
        click.echo(f"begun as {what}/{started['id']}", err=True)
    try:
        shown = _watch(what, started) if wait_for_it else started
    except KeyboardInterrupt:
        click.echo(f"\nit goes on in the background as {what}/{started['id']}", err=True)
        raise SystemExit(output.INTERRUPTED) from None
    show(shown, did, as_json=as_json)
    if wait_for_it and shown["state"] != "DONE":
        raise SystemExit(output.FAILED)


def show(operation: dict[str, Any], did: str, *, as_json: bool) -> None:
    """An operation in a line: what to call it, what it is doing, what came of it."""
    if as_json:
        output.show_json(operation)
    else:
        click.echo(f"{operation['id']}  {operation['state']}  {operation['done']} {did}")


def _watch(what: str, operation: dict[str, Any]) -> dict[str, Any]:
    length = max(operation["total"], 1)
    with click.progressbar(length=length, label=what, show_pos=True, **output.on_progress()) as bar:
        while True:
            bar.update(min(operation["seen"], length) - bar.pos)
            if operation["state"] != "RUNNING":
                return operation
            time.sleep(_POLL_SECONDS)
            operation = read(insist("GET", f"/api/v1/{what}/{operation['id']}"))
