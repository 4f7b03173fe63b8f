"""`completion`: what a shell has to know to finish words."""

from __future__ import annotations

import click
from click import shell_completion

_NAME = "kongflow-events"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes this command's words in a shell.

    Example: source <(kongflow-events completion bash)
    """
    kind = shell_completion.get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, _NAME, "_KONGFLOW_EVENTS_COMPLETE").source())
