"""`replay`: past events delivered again."""

from __future__ import annotations

from typing import Any

import click

from kongflow_events.cli import output, watch
from kongflow_events.cli.client import call, json_option, known, segment


@click.group()
def replay() -> None:
    """Deliver past events again."""


@replay.command("start")
@click.option("--since", default=None, metavar="TIME", help="Only events stored then or later.")
@click.option("--until", default=None, metavar="TIME", help="Only events stored before this time.")
@click.option("--name", default=None, help="Only events of exactly this name.")
@click.option("--source", default=None, help="Only events from this source.")
@click.option("--account", default=None, help="Only this external account's events.")
@click.option("--filter", "payload_filter", default=None, metavar="JSON", help="What the payload must be like.")
@click.option("--context-filter", default=None, metavar="JSON", help="What the context must be like.")
@click.option("--dispatcher", "dispatchers", multiple=True, metavar="ID", help="Only to this one; may be given again.")
@watch.rate
@click.option("--dry-run", is_flag=True, help="Only count them.")
@watch.yes
@watch.wait
@output.as_json
def start_replay(rate: int, dry_run: bool, yes: bool, wait: bool, as_json: bool, **given: Any) -> None:
    """Deliver past events again: each once to every dispatcher that wants it now, or to the named ones that do.

    Every replay is one more time: what started a run before starts another.

    Example: kongflow-events replay start --since 2026-06-17 --until 2026-06-18 --name order.paid
    """
    body = {
        "rate": rate,
        "since": given["since"],
        "until": given["until"],
        "name": given["name"],
        "source": given["source"],
        "account": given["account"],
        "filter": json_option(given["payload_filter"], "--filter"),
        "contextFilter": json_option(given["context_filter"], "--context-filter"),
        "dispatchers": list(given["dispatchers"]) or None,
    }
    body = known(body)
    preview = call("POST", "/api/v1/replays/preview", body)
    if dry_run or not preview["total"]:
        if as_json:
            output.show_json(preview)
        else:
            click.echo(_previewed(preview))
        return
    to_whom = f"to {len(given['dispatchers'])} dispatchers" if given["dispatchers"] else "to all that want them now"
    watch.confirm(f"Replay {_previewed(preview)}, {to_whom}?", yes)
    started = call("POST", "/api/v1/replays", body)
    watch.follow("replays", started, "invocations", wait_for_it=wait, as_json=as_json)


@replay.command("list")
@output.as_json
def list_replays(as_json: bool) -> None:
    """List replays, newest first.

    Example: kongflow-events replay list
    """
    page = call("GET", "/api/v1/replays")
    if as_json:
        output.show_list(page)
        return
    rows = [
        [one["id"], one["state"], f"{one['seen']}/{one['total']}", str(one["done"]), one["createdAt"]]
        for one in page["data"]
    ]
    output.show_table(["ID", "STATE", "EVENTS", "INVOCATIONS", "BEGAN"], rows)


@replay.command("cancel")
@click.argument("replay_id", metavar="REPLAY")
@output.as_json
def cancel_replay(replay_id: str, as_json: bool) -> None:
    """End a replay that is running; what it did stays.

    Example: kongflow-events replay cancel 7
    """
    watch.show(call("POST", f"/api/v1/replays/{segment(replay_id)}/cancel"), "invocations", as_json=as_json)


def _previewed(preview: dict[str, Any]) -> str:
    if preview["sampled"] == preview["total"]:
        return f"{preview['total']} events: {preview['invocations']} invocations"
    return f"{preview['total']} events, the first {preview['sampled']} of them: {preview['invocations']} invocations"
