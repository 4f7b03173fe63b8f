"""Commands that speak to a running service over HTTP; they load nothing of the server."""

from __future__ import annotations

from typing import Any

import click

from kongflow_events.cli import output
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
        click.echo(f"{sent['id']}  {sent['name']}  {_state(sent)}")


@click.group()
def events() -> None:
    """Look at events."""


@events.command("list")
@click.option("--name", default=None, help="Only events of this name.")
@click.option("--source", default=None, help="Only events from this source.")
@click.option("--account", default=None, help="Only this external account's events.")
@click.option("--state", type=click.Choice(["pending", "delivered", "unmatched", "cancelled", "dead"]), default=None)
@click.option("--since", default=None, metavar="TIME", help="Only events stored at or after this time.")
@click.option("--until", default=None, metavar="TIME", help="Only events stored before this time.")
@click.option("--limit", type=int, default=None, help="How many. [default: 50]")
@click.option("--cursor", default=None, help="Go on where a list ended.")
@output.as_json
def list_events(as_json: bool, **query: Any) -> None:
    """List events, newest first.

    Example: kongflow-events events list --name order.paid --state unmatched
    """
    page = call("GET", "/api/v1/events", **query)
    if as_json:
        output.show_json(page)
        return
    rows = [[event["id"], event["name"], _state(event), event["deliverAt"]] for event in page["data"]]
    output.show_table(["ID", "NAME", "STATE", "DELIVER AT"], rows)
    _more(page)


@events.command("show")
@click.argument("event_id")
@output.as_json
def show_event(event_id: str, as_json: bool) -> None:
    """Show an event and the runs it started.

    Example: kongflow-events events show order-1
    """
    event = call("GET", f"/api/v2/events/{segment(event_id)}")
    if as_json:
        output.show_json(event)
        return
    output.show_fields([("id", event["id"]), ("name", event["name"]), ("created", event["createdAt"])])
    click.echo()
    if event["runs"]:
        output.show_table(["RUN", "STATUS"], [[run["id"], run["status"]] for run in event["runs"]])
    else:
        click.echo("no runs")


@click.group()
def dispatchers() -> None:
    """Look at dispatchers, and add them."""


@dispatchers.command("list")
@click.option("--event", default=None, help="Only dispatchers that listen to this name.")
@click.option("--limit", type=int, default=None, help="How many. [default: 50]")
@click.option("--cursor", default=None, help="Go on where a list ended.")
@output.as_json
def list_dispatchers(as_json: bool, **query: Any) -> None:
    """List dispatchers, newest first.

    Example: kongflow-events dispatchers list --event order.paid
    """
    page = call("GET", "/api/v1/event-dispatchers", **query)
    if as_json:
        output.show_json(page)
        return
    rows = [
        [one["id"], ", ".join(one["event"]), one["source"], _target(one), "enabled" if one["enabled"] else "disabled"]
        for one in page["data"]
    ]
    output.show_table(["ID", "EVENT", "SOURCE", "SETS OFF", "STATE"], rows)
    _more(page)


@dispatchers.command("add")
@click.option("--event", "names", multiple=True, required=True, help="A name it listens to; may be given again.")
@click.option("--source", default=None, help="The source it listens to. [default: trigger.dev]")
@click.option("--filter", "payload_filter", default=None, metavar="JSON", help="What the payload must be like.")
@click.option("--context-filter", default=None, metavar="JSON", help="What the context must be like.")
@click.option("--job-version", default=None, metavar="ID", help="Start a run of this job version.")
@click.option("--dynamic-trigger", default=None, metavar="ID", help="Start a run of each of its jobs.")
@click.option("--url", default=None, help="POST the first matching event to this URL.")
@output.as_json
def add_dispatcher(names: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Add a dispatcher.

    Example: kongflow-events dispatchers add --event order.paid --filter '{"amount":[{"$gt":10}]}' --url http://127.0.0.1:9000/
    """
    body = {
        "event": list(names),
        "source": given["source"],
        "payloadFilter": json_option(given["payload_filter"], "--filter"),
        "contextFilter": json_option(given["context_filter"], "--context-filter"),
        "dispatchable": _dispatchable(given),
    }
    made = call("POST", "/api/v1/event-dispatchers", known(body))
    for warning in made["warnings"]:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)
    if as_json:
        output.show_json(made)
    else:
        click.echo(f"{made['id']}  {', '.join(made['event'])} → {_target(made)}")


def _dispatchable(given: dict[str, Any]) -> dict[str, str]:
    kinds = {
        "job_version": ("JOB_VERSION", "id"),
        "dynamic_trigger": ("DYNAMIC_TRIGGER", "id"),
        "url": ("EPHEMERAL", "url"),
    }
    chosen = [(type_, key, given[option]) for option, (type_, key) in kinds.items() if given[option]]
    if len(chosen) != 1:
        raise click.UsageError("give one of --job-version, --dynamic-trigger and --url")
    type_, key, value = chosen[0]
    return {"type": type_, key: value}


def _state(event: dict[str, Any]) -> str:
    return "cancelled" if event["cancelledAt"] else "delivered" if event["deliveredAt"] else "not delivered"


def _target(dispatcher: dict[str, Any]) -> str:
    dispatchable = dispatcher["dispatchable"]
    return f"{dispatchable['type']} {dispatchable.get('url') or dispatchable.get('id')}"


def _more(page: dict[str, Any]) -> None:
    if page["nextCursor"]:
        click.echo(f"\nmore with --cursor {page['nextCursor']}", err=True)
