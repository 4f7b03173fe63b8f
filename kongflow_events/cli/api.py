"""Commands that speak to a running service over HTTP; they load nothing of the server."""

from __future__ import annotations

from typing import Any

import click

from kongflow_events.cli import invocations, lists, output
from kongflow_events.cli.client import call, json_option, known, segment


@click.command()
@click.argument("name")
@click.option("--payload", default=None, metavar="JSON", help="Any JSON value; - reads it from standard input.")
@click.option("--context", default=None, metavar="JSON", help="JSON that filters can see beside the payload.")
@click.option("--id", "event_id", default=None, help="Your id for the event; sending it again is no second event.")
@click.option("--source", default=None, help="Where it comes from. [default: trigger.dev]")
@click.option("--deliver-after", type=int, default=None, metavar="SECONDS", help="Deliver later.")
@click.option("--deliver-at", default=None, metavar="TIME", help="Deliver at a time, as 2030-01-01T00:00:00Z.")
@click.option("--account", default=None, help="The external account it belongs to.")
@output.as_json
def send(name: str, as_json: bool, **given: Any) -> None:
    """Send an event.

    Example: kongflow-events send order.paid --payload '{"amount": 42}' --id order-1
    """
    event = {
        "name": name,
        "id": given["event_id"],
        "source": given["source"],
        "payload": json_option(given["payload"], "--payload"),
        "context": json_option(given["context"], "--context"),
    }
    options = {
        "deliverAfter": given["deliver_after"],
        "deliverAt": given["deliver_at"],
        "accountId": given["account"],
    }
    sent = call("POST", "/api/v1/events", {"event": known(event), "options": known(options)})
    if as_json:
        output.show_json(sent)
    else:
        click.echo(f"{output.plain(sent['id'])}  {output.plain(sent['name'])}  {_state(sent)}")
    if sent["deliveredAt"] or sent["cancelledAt"]:
        # It is answered as it was, whatever this one says.
        click.echo("an event of this id was there already: nothing was stored", err=True)


@click.group()
def events() -> None:
    """Look at events."""


@events.command("list")
@lists.events
@lists.paging
@output.as_json
def list_events(as_json: bool, **query: Any) -> None:
    """List events, newest first.

    Example: kongflow-events events list --name order.paid --state unmatched
    """
    page = call("GET", "/api/v1/events", **query)
    if as_json:
        output.show_list(page)
        return
    rows = [[event["id"], event["name"], event["state"], event["deliverAt"]] for event in page["data"]]
    output.show_table(["ID", "NAME", "STATE", "DELIVER AT"], rows)
    output.show_more(page)


@events.command("show")
@click.argument("event_id")
@output.as_json
def show_event(event_id: str, as_json: bool) -> None:
    """Show an event, what became of it at each dispatcher, and the runs it started.

    Example: kongflow-events events show order-1
    """
    event = call("GET", f"/api/v2/events/{segment(event_id)}")
    # What an event may set off at once has a bound; a page of the ledger shows the newest of it.
    event["invocations"] = call("GET", "/api/v1/invocations", event=event_id, limit=100)["data"]
    if as_json:
        output.show_json(event)
        return
    output.show_fields([("id", event["id"]), ("name", event["name"]), ("created", event["createdAt"])])
    _section(["INVOCATION", "SETS OFF", "STATUS", "ATTEMPTS", "REASON"], [*map(_invocation, event["invocations"])])
    _section(["RUN", "STATUS"], [[run["id"], run["status"]] for run in event["runs"]])


@events.command("cancel")
@click.argument("event_id")
@output.as_json
def cancel_event(event_id: str, as_json: bool) -> None:
    """Cancel an event: if it was not yet delivered, it never is.

    Example: kongflow-events events cancel order-1
    """
    cancelled = call("POST", f"/api/v1/events/{segment(event_id)}/cancel")
    if as_json:
        output.show_json(cancelled)
    else:
        click.echo(f"{output.plain(cancelled['id'])}  {_state(cancelled)}")


def _section(head: list[str], rows: list[list[str]]) -> None:
    click.echo()
    if rows:
        output.show_table(head, rows)
    else:
        click.echo(f"no {head[0].lower()}s")


def _invocation(one: dict[str, Any]) -> list[str]:
    return [
        one["id"],
        invocations.target(one),
        one["status"],
        str(one["attempts"]),
        one["reason"] or one["lastError"] or "-",
    ]


def _state(event: dict[str, Any]) -> str:
    return "cancelled" if event["cancelledAt"] else "delivered" if event["deliveredAt"] else "accepted"
