"""`invocations`: what must happen, or happened, for each event at each dispatcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from kongflow_events.cli import lists, output
from kongflow_events.cli.client import call, segment

_STATUSES = ("PENDING", "SUCCEEDED", "DEAD", "SKIPPED", "CANCELED")
HEAD = ("ID", "EVENT", "NAME", "SETS OFF", "STATUS", "ATTEMPTS", "CREATED")


@click.group("invocations")
def group() -> None:
    """Look at invocations: one for each event and each dispatcher that it matched."""


@group.command("list")
@click.option("--status", type=click.Choice(_STATUSES, case_sensitive=False), default=None)
@click.option("--event", default=None, metavar="ID", help="Only those of this event, by your id.")
@click.option("--name", default=None, help="Only those of events of this name.")
@click.option("--dispatcher", default=None, metavar="ID", help="Only this dispatcher's.")
@click.option("--since", default=None, metavar="TIME", help="Only those that ended, or else began, then or later.")
@click.option("--until", default=None, metavar="TIME", help="Only those that ended, or else began, before this time.")
@lists.paging
@output.as_json
def list_invocations(as_json: bool, **query: Any) -> None:
    """List invocations, newest first.

    Example: kongflow-events invocations list --event order-1
    """
    page = call("GET", "/api/v1/invocations", **query)
    if as_json:
        output.show_list(page)
        return
    output.show_table(HEAD, [*map(row, page["data"])])
    output.show_more(page)


@group.command("show")
@click.argument("invocation_id", metavar="INVOCATION")
@output.as_json
def show_invocation(invocation_id: str, as_json: bool) -> None:
    """Show an invocation and its attempts.

    Example: kongflow-events invocations show 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    show(invocation_id, as_json=as_json)


def show(invocation_id: str, *, as_json: bool) -> None:
    """Fetch an invocation, and show it with its attempts."""
    told = call("GET", f"/api/v1/invocations/{segment(invocation_id)}")
    if as_json:
        output.show_json(told)
        return
    output.show_fields(
        [
            ("id", told["id"]),
            ("event", f"{told['eventId']} ({told['eventName']})"),
            ("dispatcher", told["dispatcherId"]),
            ("sets off", target(told)),
            ("status", told["status"]),
            ("reason", told["reason"] or "-"),
            ("redrives", str(told["redrives"])),
            ("next attempt", told["nextAttemptAt"] or "-"),
        ]
    )
    click.echo()
    if told["attemptList"]:
        head = ["ROUND", "ATTEMPT", "STARTED", "MS", "OUTCOME", "ERROR"]
        output.show_table(head, [*map(_attempt, told["attemptList"])])
    else:
        click.echo("no attempts")


def row(one: dict[str, Any]) -> Sequence[str]:
    """An invocation as a line under HEAD."""
    return [
        one["id"],
        one["eventId"],
        one["eventName"],
        target(one),
        one["status"],
        str(one["attempts"]),
        one["createdAt"],
    ]


def target(one: dict[str, Any]) -> str:
    """What an invocation or a dispatcher sets off, in a word or two."""
    dispatchable = one["dispatchable"]
    return f"{dispatchable['type']} {dispatchable.get('url') or dispatchable.get('id')}"


def _attempt(one: dict[str, Any]) -> list[str]:
    return [
        str(one["round"]),
        str(one["number"]),
        one["startedAt"],
        str(one["durationMs"]),
        one["outcome"],
        one["error"] or "-",
    ]
