"""`dispatchers`: listed, added, shown, switched on and off, deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from kongflow_events.cli import lists, output
from kongflow_events.cli.client import call, json_option, known, segment
from kongflow_events.cli.invocations import target

RULES: Final = "/api/v1/event-dispatchers"
_which = click.argument("dispatcher_id", metavar="DISPATCHER")


@click.group()
def dispatchers() -> None:
    """Rules: these names, this source, these filters; this is what they set off."""


@dispatchers.command("list")
@click.option("--event", default=None, help="Only dispatchers that listen to this name.")
@lists.paging
@output.as_json
def list_dispatchers(as_json: bool, **query: Any) -> None:
    """List dispatchers, newest first.

    Example: kongflow-events dispatchers list --event order.paid
    """
    page = call("GET", RULES, **query)
    if as_json:
        output.show_list(page)
        return
    rows = [[one["id"], ", ".join(one["event"]), one["source"], target(one), standing(one)] for one in page["data"]]
    output.show_table(["ID", "EVENT", "SOURCE", "SETS OFF", "STATE"], rows)
    output.show_more(page)


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
    made = add(names, given, _dispatchable(given))
    if as_json:
        output.show_json(made)
    else:
        click.echo(f"{made['id']}  {', '.join(made['event'])} → {target(made)}")


@dispatchers.command("show")
@_which
@output.as_json
def show_dispatcher(dispatcher_id: str, as_json: bool) -> None:
    """Show a dispatcher: what it listens to, what it asks for, and how its target is.

    Example: kongflow-events dispatchers show 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    one = call("GET", f"{RULES}/{segment(dispatcher_id)}")
    if as_json:
        output.show_json(one)
        return
    fields = [
        ("id", one["id"]),
        ("listens to", ", ".join(one["event"])),
        ("source", one["source"]),
        ("payload filter", json.dumps(one["payloadFilter"], ensure_ascii=False)),
        ("context filter", json.dumps(one["contextFilter"], ensure_ascii=False)),
        ("sets off", target(one)),
        ("state", standing(one)),
    ]
    output.show_fields([*fields, *_health(one["target"])])


@dispatchers.command("enable")
@_which
@output.as_json
def enable(dispatcher_id: str, as_json: bool) -> None:
    """Let a dispatcher hear events again; its target begins anew, and is called at once.

    Example: kongflow-events dispatchers enable 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    _switch(dispatcher_id, on=True, as_json=as_json)


@dispatchers.command("disable")
@_which
@output.as_json
def disable(dispatcher_id: str, as_json: bool) -> None:
    """Let a dispatcher hear nothing; what it is still owed is skipped.

    Example: kongflow-events dispatchers disable 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    _switch(dispatcher_id, on=False, as_json=as_json)


@dispatchers.command("delete")
@_which
@output.as_json
def delete(dispatcher_id: str, as_json: bool) -> None:
    """Delete a dispatcher; what it matched before stays in the ledger.

    Example: kongflow-events dispatchers delete 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    remove(dispatcher_id, as_json=as_json)


def add(names: Sequence[str], given: Mapping[str, Any], dispatchable: dict[str, Any], **more: Any) -> Any:
    """Make a dispatcher of the options that all kinds of it share, and pass on what the service warns of."""
    body = {
        "event": list(names),
        "source": given["source"],
        "payloadFilter": json_option(given["payload_filter"], "--filter"),
        "contextFilter": json_option(given["context_filter"], "--context-filter"),
        "dispatchable": dispatchable,
        **more,
    }
    made = call("POST", RULES, known(body))
    for warning in made["warnings"]:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)
    return made


def remove(dispatcher_id: str, *, as_json: bool) -> None:
    """Delete a dispatcher of any kind, and say so."""
    deleted = call("DELETE", f"{RULES}/{segment(dispatcher_id)}")
    if as_json:
        output.show_json(deleted)
    else:
        click.echo(f"{deleted['id']}  deleted")


def _switch(dispatcher_id: str, *, on: bool, as_json: bool) -> None:
    changed = call("PATCH", f"{RULES}/{segment(dispatcher_id)}", {"enabled": on})
    if as_json:
        output.show_json(changed)
    else:
        click.echo(f"{changed['id']}  {output.coloured(standing(changed))}")


def standing(one: dict[str, Any]) -> str:
    """Whether a dispatcher hears events, and whether the calls of a webhook wait, in a word or two."""
    hears = "enabled" if one["enabled"] else "disabled"
    return f"{hears}, paused" if one["target"] and one["target"]["pausedAt"] else hears


def _health(found: dict[str, Any] | None) -> list[tuple[str, str]]:
    """How a target stands, for what calls a URL."""
    if found is None:
        return []
    rests = f", rests until {found['resumesAt']}" if found["resumesAt"] else ""
    why = f": {found['disabledReason']}" if found["disabledReason"] else ""
    return [("target", f"{found['state']}{rests}{why}, {found['consecutiveFailures']} failures in a row")]


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
