"""The command itself, and the processes it starts."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import click

from kongflow_events import settings
from kongflow_events.cli import admin, api, dead, invocations, output
from kongflow_events.cli.completion import completion
from kongflow_events.cli.deploy import deploy
from kongflow_events.cli.dispatchers import dispatchers
from kongflow_events.cli.doctor import doctor
from kongflow_events.cli.explain import explain
from kongflow_events.cli.exporting import export
from kongflow_events.cli.importing import import_
from kongflow_events.cli.listen import listen
from kongflow_events.cli.operators import operators
from kongflow_events.cli.replay import replay
from kongflow_events.cli.stats import stats
from kongflow_events.cli.tail import tail
from kongflow_events.cli.webhooks import webhooks


class _Command(click.Group):
    """Ends with the code that says why: a setting is wrong, which is one line and no traceback, or there was a Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except settings.BadSettings as error:
            output.fail(str(error), output.USAGE)
        except (KeyboardInterrupt, click.Abort):
            # Below the `^C` that a terminal shows, or the question that was not answered.
            click.echo(err=True)
            raise SystemExit(output.INTERRUPTED) from None


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--color/--no-color", default=None, help="Colour, or none; by default as the terminal and NO_COLOR say.")
@click.version_option(metadata.version("kongflow-events"), prog_name="kongflow-events")
@click.pass_context
def main(ctx: click.Context, color: bool | None) -> None:
    """Takes events, stores them, and makes the right things happen, once, whatever breaks."""
    ctx.color = output.want_colour(color)


@main.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path(".kongflow"), show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8030, show_default=True, envvar="PORT", show_envvar=True)
def dev(data: Path, port: int) -> None:
    """Run the whole service on this machine, with a PostgreSQL of its own and no RabbitMQ.

    Data is kept in --data between starts; the keys are printed and written to dev.env in it.
    """
    from kongflow_events import dev as supervisor
    from kongflow_events import embedded

    try:
        supervisor.run(data, port)
    except (embedded.EmbeddedPostgresError, OSError) as error:
        output.fail(str(error))


@main.command()
@output.as_json
def migrate(as_json: bool) -> None:
    """Bring the database at DATABASE_URL to this version's schema; safe to run twice, and by two at once."""
    from kongflow_events.store import db, schema

    try:
        steps = schema.migrate(settings.current().database_url)
    except db.AWAY as error:
        output.fail_away(error)
    if as_json:
        output.show_json({"applied": steps})
    else:
        click.echo(f"applied {', '.join(steps)}" if steps else "nothing to do")


@main.command()
def scheduler() -> None:
    """Run the relay, and what else has to happen at its time, on RABBITMQ_URL until SIGTERM."""
    from kongflow_events import scheduler as process

    process.main(settings.current())


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port, if not PORT's.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that serve it.")
def web(host: str, port: int | None, workers: int) -> None:
    """Serve the API and the console until SIGTERM.

    Example: kongflow-events web --port 8030
    """
    from kongflow_events.cli import servers

    servers.web(host, port, workers)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("server", type=click.Choice(["dramatiq"]), expose_value=False)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def run(options: tuple[str, ...]) -> None:
    """Run the workers' server with the options it knows, as the Procfile does; its log has the form of ours.

    Example: kongflow-events run dramatiq kongflow_events.actors:boot --queues deliver invoke
    """
    from kongflow_events.cli import servers

    servers.dramatiq(list(options))


@main.command()
def openapi() -> None:
    """Print the API as an OpenAPI 3.1 document. Needs neither a database nor a running service.

    Example: kongflow-events openapi > openapi.json
    """
    from kongflow_events.web import app
    from kongflow_events.web import openapi as web

    output.show_json(web.document(app.routes(settings.load({}))))


main.add_command(admin.env)
main.add_command(admin.keys_group)
main.add_command(operators)
main.add_command(api.send)
main.add_command(api.events)
main.add_command(tail)
main.add_command(stats)
main.add_command(import_)
main.add_command(export)
main.add_command(dispatchers)
main.add_command(explain)
main.add_command(invocations.group)
main.add_command(dead.dead)
main.add_command(replay)
webhooks.add_command(admin.reseal)
main.add_command(webhooks)
main.add_command(listen)
main.add_command(doctor)
main.add_command(deploy)
main.add_command(completion)
