"""`explain`: why an event reaches a dispatcher or does not, as a tree of the filter's conditions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from kongflow_events.cli import output
from kongflow_events.cli.client import call, json_option, known, segment

# A value on one line of a terminal.
_WIDEST: Final = 60


@click.command()
@click.argument("dispatcher_id", metavar="DISPATCHER")
@click.option("--event-id", default=None, help="A stored event, by your id.")
@click.option("--event", "name", default=None, metavar="NAME", help="An event that is not sent, by its name.")
@click.option("--payload", default=None, metavar="JSON", help="Its payload; - reads it from standard input.")
@click.option("--context", default=None, metavar="JSON", help="Its context.")
@click.option("--source", default=None, help="Where it comes from. [default: trigger.dev]")
@click.option("--account", default=None, help="The external account it belongs to.")
@output.as_json
def explain(dispatcher_id: str, as_json: bool, **given: Any) -> None:
    """Say why an event reaches a dispatcher, or does not, condition by condition; ends with 3 when it does or did not.

    Example: kongflow-events explain DISPATCHER --event order.paid --payload '{"amount": 42}'
    """
    told = call("POST", f"/api/v1/event-dispatchers/{segment(dispatcher_id)}/explain", _asked(given))
    if as_json:
        output.show_json(told)
    else:
        for line in _lines(told):
            click.echo(line)
    if not told["matches"] or _kept_away(told):
        raise SystemExit(output.NOTHING)


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    if (given["event_id"] is None) is (given["name"] is None):
        raise click.UsageError("give one of --event-id and --event")
    if given["event_id"] is not None:
        return {"eventId": given["event_id"]}
    event = {
        "name": given["name"],
        "source": given["source"],
        "payload": json_option(given["payload"], "--payload"),
        "context": json_option(given["context"], "--context"),
    }
    options = known({"accountId": given["account"]})
    return {"event": known(event), "options": options}


def _lines(told: dict[str, Any]) -> Iterator[str]:
    yield _headline(told)
    for reason in told["reasons"]:
        yield output.plain(f"  {reason['code']}: {reason['message']}")
    if told["invocation"]:
        state = told["invocation"]
        yield output.plain(f"  invocation {state['id']}: {state['status']}{_why(state)}")
    for name, title in (("payloadFilter", "payload filter"), ("contextFilter", "context filter")):
        if told[name]:
            yield ""
            yield click.style(title, bold=True)
            yield from _tree(told[name], "  ")


def _headline(told: dict[str, Any]) -> str:
    if not told["matches"]:
        return click.style("it does not match", fg="red")
    if _kept_away(told):
        return click.style("it matches, but the event did not reach it", fg="yellow")
    return click.style("it matches", fg="green")


def _kept_away(told: dict[str, Any]) -> bool:
    """Whether a stored event that the dispatcher wants has not reached it, and is not on its way."""
    return any(reason["code"] != "pending" for reason in told["reasons"])


def _why(state: dict[str, Any]) -> str:
    said = state["reason"] or state["lastError"]
    return f" ({said})" if said else ""


def _tree(check: dict[str, Any], indent: str) -> Iterator[str]:
    mark = click.style("✓", fg="green") if check["holds"] else click.style("✗", fg="red")
    if "checks" not in check:
        asked = output.plain(f"{check['at']} {check['test']} {_short(check['expected'])}")
        yield f"{indent}{mark} {asked}, found {_found(check)}"
        return
    note = f" ({check['note']})" if "note" in check else ""
    yield f"{indent}{mark} {output.plain(check['at'])}: {check['test']}{note}"
    for below in check["checks"]:
        yield from _tree(below, indent + "  ")


def _found(check: dict[str, Any]) -> str:
    return output.plain(_short(check["value"])) if "value" in check else click.style("nothing", dim=True)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}…"
