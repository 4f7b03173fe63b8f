"""`webhooks`: made, listed, changed, paused, tested, deleted, and given new secrets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from kongflow_events.cli import output
from kongflow_events.cli.client import call, known, segment
from kongflow_events.cli.dispatchers import RULES, add, remove, standing

_POLL_SECONDS: Final = 0.2
# What a page of dispatchers may hold.
_PAGE: Final = 100
# A target that rests after failures is called at once when its dispatcher is enabled anew.
_AT_ONCE: Final = "to try now: kongflow-events dispatchers enable"
# The limits that a webhook need not have, and what a body calls them.
_LIMITS: Final = {"timeout": "timeoutInSeconds", "rate-limit": "rateLimit", "max-concurrency": "maxConcurrency"}


@click.group()
def webhooks() -> None:
    """URLs that are called for every event, with a signature that they can trust."""


@webhooks.command("create")
@click.argument("url")
@click.option("--event", "names", multiple=True, required=True, help="A name it listens to; may be given again.")
@click.option("--source", default=None, help="The source it listens to. [default: trigger.dev]")
@click.option("--filter", "payload_filter", default=None, metavar="JSON", help="What the payload must be like.")
@click.option("--context-filter", default=None, metavar="JSON", help="What the context must be like.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of every call.")
@click.option("--format", "format_", type=click.Choice(["event", "cloudevent"]), default=None, help="What the body is.")
@click.option("--signing", type=click.Choice(["hmac", "ed25519"]), default=None, help="What signs it. [default: hmac]")
@click.option("--timeout", type=int, default=None, metavar="SECONDS", help="How long one call may take.")
@click.option("--rate-limit", type=int, default=None, help="How many calls a second at the most.")
@click.option("--max-concurrency", type=int, default=None, help="How many calls at the same time at the most.")
@click.option("--id", "dispatchable_id", default=None, help="Tells several webhooks of one URL apart.")
@output.as_json
def create(url: str, names: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Call URL for every event of these names. The secret is shown once.

    Example: kongflow-events webhooks create https://shop.example.com/hooks --event order.paid --event 'invoice.*'
    """
    dispatchable = {
        "type": "WEBHOOK",
        "url": url,
        "headers": _headers(given["headers"]) or None,
        "format": given["format_"],
        "signing": given["signing"],
        "timeoutInSeconds": given["timeout"],
        "rateLimit": given["rate_limit"],
        "maxConcurrency": given["max_concurrency"],
    }
    made = add(names, given, known(dispatchable), dispatchableId=given["dispatchable_id"])
    if as_json:
        output.show_json(made)
        return
    output.show_fields([("id", made["id"]), ("listens to", ", ".join(made["event"])), ("calls", url), _key(made)])


@webhooks.command("update")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--url", default=None, help="Where to call it from now on.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header to add or to replace.")
@click.option("--without-header", "dropped", multiple=True, metavar="NAME", help="A header to leave out from now on.")
@click.option("--format", "format_", type=click.Choice(["event", "cloudevent"]), default=None, help="What the body is.")
@click.option("--timeout", type=int, default=None, metavar="SECONDS", help="How long one call may take.")
@click.option("--rate-limit", type=int, default=None, help="How many calls a second at the most.")
@click.option("--max-concurrency", type=int, default=None, help="How many calls at the same time at the most.")
@click.option("--unset", multiple=True, type=click.Choice(list(_LIMITS)), help="A limit to take away.")
@output.as_json
def update(webhook_id: str, url: str | None, as_json: bool, **given: Any) -> None:
    """Change what a webhook calls and how; the secret stays, and so does what is not given.

    Example: kongflow-events webhooks update 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42 --url https://shop.example.com/new
    """
    headers = {**_headers(given["headers"]), **dict.fromkeys(given["dropped"])}
    change = {
        "url": url,
        "headers": headers or None,
        "format": given["format_"],
        "timeoutInSeconds": given["timeout"],
        "rateLimit": given["rate_limit"],
        "maxConcurrency": given["max_concurrency"],
    }
    body = {**known(change), **{_LIMITS[name]: None for name in given["unset"]}}
    if not body:
        raise click.UsageError("nothing to change: give --url, --header or another option")
    changed = call("PATCH", f"{RULES}/{segment(webhook_id)}", {"dispatchable": body})
    if as_json:
        output.show_json(changed)
        return
    output.show_fields([("id", changed["id"]), ("calls", changed["dispatchable"]["url"])])


@webhooks.command("list")
@output.as_json
def list_webhooks(as_json: bool) -> None:
    """List webhooks, newest first.

    Example: kongflow-events webhooks list
    """
    found = list(_all())
    if as_json:
        output.show_list(found)
        return
    rows = [
        [
            one["id"],
            ", ".join(one["event"]),
            one["dispatchable"]["url"],
            one["signing"]["kind"],
            standing(one),
        ]
        for one in found
    ]
    output.show_table(["ID", "EVENT", "CALLS", "SIGNING", "STATE"], rows)


@webhooks.command("test")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--wait", "seconds", type=float, default=30.0, show_default=True, help="Seconds to wait for an answer.")
@output.as_json
def test_webhook(webhook_id: str, seconds: float, as_json: bool) -> None:
    """Send a webhook a signed event `kongflow.webhook.test`, once, and show what it answers.

    Ends with 1 when that is not a 2xx, or nothing came.

    Example: kongflow-events webhooks test 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    if waits := _why_it_waits(webhook_id):
        # Whoever waits for a moment would wait in vain, and leave an event that nobody is called for.
        output.fail(waits)
    made = call("POST", f"{RULES}/{segment(webhook_id)}/test")
    told = _first_attempt(made, time.monotonic() + seconds)
    if told["status"] == "PENDING":
        # It was asked for once: what fails is not to be tried again for hours.
        call("POST", f"/api/v1/events/{segment(made['eventId'])}/cancel")
    if as_json:
        output.show_json(told)
    elif told["attemptList"]:
        _show_attempt(told)
    else:
        click.echo(
            output.plain(told["reason"] or _why_it_waits(webhook_id) or "not called in time: is a poster running?")
        )
    if told["status"] != "SUCCEEDED":
        raise SystemExit(output.FAILED)


@webhooks.command("pause")
@click.argument("webhook_id", metavar="WEBHOOK")
@output.as_json
def pause(webhook_id: str, as_json: bool) -> None:
    """Have a webhook's calls wait: nothing is called, nothing is lost, and no attempt is used up, until it is resumed.

    Example: kongflow-events webhooks pause 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    _set_paused(webhook_id, paused=True, as_json=as_json)


@webhooks.command("resume")
@click.argument("webhook_id", metavar="WEBHOOK")
@output.as_json
def resume(webhook_id: str, as_json: bool) -> None:
    """Call all that has waited while a webhook was paused, oldest first, within its limits.

    Example: kongflow-events webhooks resume 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    _set_paused(webhook_id, paused=False, as_json=as_json)


@webhooks.command("delete")
@click.argument("webhook_id", metavar="WEBHOOK")
@output.as_json
def delete(webhook_id: str, as_json: bool) -> None:
    """Delete a webhook and its secrets; calls that are still owed to it are skipped.

    Example: kongflow-events webhooks delete 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42
    """
    remove(webhook_id, as_json=as_json)


@webhooks.group()
def secret() -> None:
    """What a webhook's calls are signed with."""


@secret.command("rotate")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option(
    "--overlap", type=int, default=None, metavar="SECONDS", help="How long the old ones sign. [default: a day]"
)
@output.as_json
def rotate(webhook_id: str, overlap: int | None, as_json: bool) -> None:
    """Give a webhook a new secret, shown once; those before it sign beside it until the overlap is over.

    Example: kongflow-events webhooks secret rotate 019ab6d2-4c5e-7c1a-8a55-0d8f3f1b7e42 --overlap 3600
    """
    body = known({"overlapInSeconds": overlap})
    rotated = call("POST", f"{RULES}/{segment(webhook_id)}/secret/rotate", body)
    if as_json:
        output.show_json(rotated)
        return
    output.show_fields(
        [("id", rotated["dispatcherId"]), _key(rotated), ("others until", rotated["othersUntil"] or "now")]
    )


def _set_paused(webhook_id: str, *, paused: bool, as_json: bool) -> None:
    changed = call("PATCH", f"{RULES}/{segment(webhook_id)}", {"paused": paused})
    if as_json:
        output.show_json(changed)
        return
    click.echo(f"{changed['id']}  {'paused' if paused else 'resumed'}")
    if not paused and changed["target"]["resumesAt"]:
        click.echo(f"its target rests until {changed['target']['resumesAt']}: {_AT_ONCE} {changed['id']}")


def _headers(lines: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in lines]
    if not all(colon for _, colon, _ in pairs):
        raise click.BadParameter("no header: write 'Name: value'", param_hint="--header")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _key(made: dict[str, Any]) -> tuple[str, str]:
    """What the receiver needs, and what it is called."""
    public: str | None = made["signing"]["publicKey"]
    return ("public key", public) if public else ("secret", made["secret"])


def _all() -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = call("GET", RULES, limit=_PAGE, cursor=cursor)
        yield from (one for one in page["data"] if one["dispatchable"]["type"] == "WEBHOOK")
        cursor = page["nextCursor"]
        if cursor is None:
            return


def _first_attempt(invocation: dict[str, Any], until: float) -> dict[str, Any]:
    """The invocation when something is known of it, or when it is time."""
    while True:
        told: dict[str, Any] = call("GET", f"/api/v1/invocations/{invocation['id']}")
        if told["attemptList"] or told["status"] != "PENDING" or time.monotonic() > until:
            return told
        time.sleep(_POLL_SECONDS)


def _why_it_waits(webhook_id: str) -> str | None:
    target = call("GET", f"{RULES}/{segment(webhook_id)}")["target"]
    if target and target["pausedAt"]:
        return f"not called: it is paused since {target['pausedAt']}; to go on: kongflow-events webhooks resume {webhook_id}"
    if target and target["resumesAt"]:
        return f"not called: the target rests until {target['resumesAt']}; {_AT_ONCE} {webhook_id}"
    return None


def _show_attempt(told: dict[str, Any]) -> None:
    last = told["attemptList"][-1]
    status = str(last["statusCode"]) if last["statusCode"] else last["outcome"]
    output.show_fields([("answer", status), ("took", f"{last['durationMs']} ms"), ("id", told["id"])])
    for name, value in (last["requestHeaders"] or {}).items():
        click.echo(output.plain(f"> {name}: {value}"))
    click.echo("\n".join(map(output.plain, (last["answer"] or last["error"] or "").splitlines())))
