"""A bulk operation as a person at a terminal follows it: asked first, then a progress bar until it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

from kongflow_events.cli import output
from kongflow_events.cli.client import call

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
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        output.fail("nothing was done; say --yes to do it without being asked", output.USAGE)


def follow(what: str, started: dict[str, Any], line: Callable[[dict[str, Any]], str], *, wait_for_it: bool) -> None:
    """Show how far an operation at `/api/v1/{what}/{id}` is until it ends; ends with 1 unless it was done.

    An interrupt ends the watching, not the operation.
    """
    if not wait_for_it:
        click.echo(line(started))
        return
    try:
        ended = _watch(what, started)
    except KeyboardInterrupt:
        click.echo(f"\nit goes on in the background as {what}/{started['id']}", err=True)
        raise SystemExit(130) from None
    click.echo(line(ended))
    if ended["state"] != "DONE":
        raise SystemExit(output.FAILED)


def _watch(what: str, operation: dict[str, Any]) -> dict[str, Any]:
    length = max(operation["total"], 1)
    with click.progressbar(length=length, label=what, show_pos=True, file=sys.stderr) as bar:
        while True:
            bar.update(min(operation["seen"], length) - bar.pos)
            if operation["state"] != "RUNNING":
                return operation
            time.sleep(_POLL_SECONDS)
            operation = call("GET", f"/api/v1/{what}/{operation['id']}")
