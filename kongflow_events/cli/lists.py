"""Options that commands about lists share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

Command = Callable[..., None]
Option = Callable[[Command], Command]


def together(options: Sequence[Any]) -> Option:
    """Several options as one decorator, in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


events = together(
    [
        click.option("--name", default=None, help="Only events of this name."),
        click.option("--source", default=None, help="Only events from this source."),
        click.option("--account", default=None, help="Only this external account's events."),
        click.option(
            "--state", type=click.Choice(["pending", "delivered", "unmatched", "cancelled", "dead"]), default=None
        ),
        click.option("--since", default=None, metavar="TIME", help="Only events stored at or after this time."),
        click.option("--until", default=None, metavar="TIME", help="Only events stored before this time."),
    ]
)
paging = together(
    [
        click.option("--limit", type=int, default=None, help="How many. [default: 50]"),
        click.option("--cursor", default=None, help="Go on where a list ended."),
    ]
)
