"""`dead`: dead letters listed, shown, redriven, dismissed."""

from __future__ import annotations

from typing import Any, Final

import click

from kongflow_events.cli import invocations, lists, output, watch
from kongflow_events.cli.client import call, known, segment

_CLASSES: Final = ("refused", "unreachable", "timeout", "blocked", "failed", "missing", "lost")
# The API lists dead deliveries as events, by when these were stored.
_LISTED: Final = " In a list of deliveries: whose event was stored."

_filters = lists.together(
    [
        click.option("--deliveries", is_flag=True, help="Events whose delivery is dead, in place of invocations."),
        click.option("--dispatcher", default=None, metavar="ID", help="Only this dispatcher's."),
        click.option("--name", default=None, help="Only those of events of this name."),
        click.option("--error-class", type=click.Choice(_CLASSES), default=None, help="Only those that died of this."),
        click.option("--since", default=None, metavar="TIME", help=f"Only those that died then or later.{_LISTED}"),
        click.option("--until", default=None, metavar="TIME", help=f"Only those that died before this time.{_LISTED}"),
    ]
)


@click.group()
def dead() -> None:
    """Look at dead letters, and give them new attempts."""


@dead.command("list")
@_filters
@lists.paging
@output.as_json
def list_dead(deliveries: bool, as_json: bool, **query: Any) -> None:
    """List dead letters, newest first.

    Example: kongflow-events dead list --name order.paid --error-class refused
    """
    if deliveries:
        page = call("GET", "/api/v1/events", state="dead", **_of_events(query))
    else:
        query["errorClass"] = query.pop("error_class")
        page = call("GET", "/api/v1/invocations", status="DEAD", **query)
    if as_json:
        output.show_list(page)
        return
    if deliveries:
        output.show_table(
            ["EVENT", "NAME", "DUE AT"], [[one["id"], one["name"], one["deliverAt"]] for one in page["data"]]
        )
    else:
        output.show_table(["ID", "EVENT", "NAME", "CLASS", "ATTEMPTS", "DIED"], [_row(one) for one in page["data"]])
    output.show_more(page)


@dead.command("show")
@click.argument("invocation_id", metavar="INVOCATION")
@output.as_json
def show_dead(invocation_id: str, as_json: bool) -> None:
    """Show an invocation and its attempts.

    Example: kongflow-events dead show 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    invocations.show(invocation_id, as_json=as_json)


@dead.command("redrive")
@click.argument("ids", nargs=-1, metavar="[INVOCATION]...")
@click.option("--all", "every", is_flag=True, help="All that the options below ask for.")
@_filters
@watch.rate
@click.option("--dry-run", is_flag=True, help="Only count them.")
@watch.yes
@watch.wait
@output.as_json
def redrive(ids: tuple[str, ...], every: bool, rate: int, yes: bool, wait: bool, as_json: bool, **given: Any) -> None:
    """Give dead letters new attempts: the named ones, or all that are asked for with --all.

    With --deliveries the ids are those of events.

    Example: kongflow-events dead redrive --all --error-class unreachable --since 2026-06-18
    """
    if bool(ids) is every:
        raise click.UsageError("name dead letters, or say --all")
    if ids:
        _one_by_one(ids, "redrive", "redriven", deliveries=given["deliveries"], as_json=as_json)
        return
    body = {
        "of": "deliveries" if given["deliveries"] else "invocations",
        "rate": rate,
        "dispatcher": given["dispatcher"],
        "name": given["name"],
        "errorClass": given["error_class"],
        "since": given["since"],
        "until": given["until"],
    }
    body = known(body)
    total = call("POST", "/api/v1/redrives/preview", body)["total"]
    if given["dry_run"] or not total:
        _show_total(total, "dead letters", as_json=as_json)
        return
    watch.confirm(f"Redrive {total} dead letters?", yes)
    started = call("POST", "/api/v1/redrives", body)
    watch.follow("redrives", started, "redriven", wait_for_it=wait, as_json=as_json)


@dead.command("dismiss")
@click.argument("ids", nargs=-1, required=True, metavar="INVOCATION...")
@click.option("--deliveries", is_flag=True, help="The ids are those of events whose delivery is dead.")
@output.as_json
def dismiss(ids: tuple[str, ...], deliveries: bool, as_json: bool) -> None:
    """End dead letters for good.

    Example: kongflow-events dead dismiss 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    _one_by_one(ids, "dismiss", "dismissed", deliveries=deliveries, as_json=as_json)


@dead.command("cancel")
@click.argument("redrive_id", metavar="REDRIVE")
@output.as_json
def cancel_redrive(redrive_id: str, as_json: bool) -> None:
    """End a redrive that is running; what it did stays.

    Example: kongflow-events dead cancel 7
    """
    watch.show(call("POST", f"/api/v1/redrives/{segment(redrive_id)}/cancel"), "redriven", as_json=as_json)


def _one_by_one(ids: tuple[str, ...], verb: str, done: str, *, deliveries: bool, as_json: bool) -> None:
    place = "events" if deliveries else "invocations"
    answers = []
    for one in ids:
        answers.append(call("POST", f"/api/v1/{place}/{segment(one)}/{verb}"))
        if not as_json:
            click.echo(f"{one}  {done}")
    if as_json:
        output.show_json(answers)


def _of_events(query: dict[str, Any]) -> dict[str, Any]:
    """The options that a list of events knows; the others ask for what a delivery does not have."""
    for name in ("dispatcher", "error_class"):
        if query.pop(name) is not None:
            raise click.UsageError(f"a delivery has no --{name.replace('_', '-')}")
    return query


def _row(one: dict[str, Any]) -> list[str]:
    return [
        one["id"],
        one["eventId"],
        one["eventName"],
        one["errorClass"] or "-",
        str(one["attempts"]),
        one["completedAt"] or "-",
    ]


def _show_total(total: int, what: str, *, as_json: bool) -> None:
    if as_json:
        output.show_json({"total": total})
    else:
        click.echo(f"{total} {what}")
