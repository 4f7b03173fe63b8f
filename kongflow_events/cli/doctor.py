"""`doctor`: everything that the service stands on, what is wrong with it, and what cures it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from kongflow_events import errors, settings, words
from kongflow_events.cli import output, variables

if TYPE_CHECKING:
    from kongflow_events.services.examine import Finding

_MARKS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}
_START: Final = {"deliver": "worker", "invoke": "worker", "post": "poster"}


@click.command()
@click.option("--broker/--no-broker", default=None, help="Look at RabbitMQ too, or not. [default: not beside `dev`]")
@output.as_json
def doctor(broker: bool | None, as_json: bool) -> None:
    """Look at the database, its schema, the broker, clocks and orphaned work, and name the cure for what is wrong.

    Uses the settings of the processes, DATABASE_URL, RABBITMQ_URL, KONGFLOW_SECRET_KEY, or those that `dev` left. Ends with 1
    when there is a problem, 4 when the database or the broker is away, 5 when there are only warnings.

    Example: kongflow-events doctor
    """
    variables.settle()
    current = settings.current()
    found = [*_database(current), *_hints(current, broker)]
    if as_json:
        output.show_json([one._asdict() for one in found])
    else:
        _show(found)
    sys.exit(_code(found))


def _database(current: settings.Settings) -> Iterator[Finding]:
    from kongflow_events.services import examine
    from kongflow_events.store import db

    db.connect(current.database_url, pool_size=2)
    try:
        with db.unit():
            yield from examine.examine_database(current)
    except db.AWAY as error:
        found = examine.away(error)
        yield found._replace(cure="start kongflow-events dev") if variables.is_of_dev(current.database_url) else found
    finally:
        db.close()


def _hints(current: settings.Settings, broker: bool | None) -> Iterator[Finding]:
    """The broker as it was asked for; when nothing was said, as there is one or not."""
    from kongflow_events.services.examine import Finding

    if broker is None and variables.is_of_dev(current.database_url):
        yield Finding("broker", "ok", "none: dev has its queues in memory")
    elif broker is not False:
        yield from _broker(current)


def _broker(current: settings.Settings) -> Iterator[Finding]:
    from kongflow_events.broker import RabbitmqHints
    from kongflow_events.services.examine import Finding

    hints = RabbitmqHints(current.rabbitmq_url)
    try:
        for kind in words.KINDS:
            yield _queue(kind, hints.depth(kind), hints.consumers(kind), current.high_water)
    except errors.Retryable as error:
        cure = "start RabbitMQ, or put right RABBITMQ_URL; events are taken meanwhile, and delivered at its return"
        yield Finding("broker", "problem", f"away: {error.reason}", cure)
    finally:
        hints.close()


def _queue(kind: str, depth: int, consumers: int, high_water: int) -> Finding:
    from kongflow_events.services.examine import Finding

    said = f"{depth} messages, {consumers} consumers"
    if not consumers:
        return Finding(f"queue {kind}", "problem", said, f"start a {_START[kind]}: nobody works on this queue")
    if depth >= high_water:
        cure = f"more comes than is worked on: start more {_START[kind]} processes, or wait"
        return Finding(f"queue {kind}", "warning", said, cure)
    return Finding(f"queue {kind}", "ok", said)


def _show(found: list[Finding]) -> None:
    width = max(len(one.check) for one in found)
    for one in found:
        mark, colour = _MARKS[one.level]
        click.echo(f"{click.style(mark, fg=colour)} {one.check.ljust(width)}  {one.said}")
        if one.cure:
            click.echo(f"  {'':{width}}  {click.style('→', fg=colour)} {one.cure}")


def _code(found: list[Any]) -> int:
    levels = {one.level for one in found}
    if any(one.said.startswith("away") for one in found):
        return output.UNREACHABLE
    return output.FAILED if "problem" in levels else output.WARNED if "warning" in levels else 0
