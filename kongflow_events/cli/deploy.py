"""`deploy`: what runs the processes on servers, as files to look at, to change, and to put in place."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final

import click

from kongflow_events.cli import output

_FOLDER: Final = "deployment"
_WEB: Final = ("127.0.0.1:8031", "127.0.0.1:8032")
_ADDRESS: Final = re.compile(r"([\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", re.ASCII)
# What nginx reads as one word, and a browser may ask for: no port, no pattern but all names below one.
_SERVER_NAME: Final = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*", re.ASCII)
_UNITS: Final = (
    "kongflow.target",
    "kongflow-migrate.service",
    "kongflow-web@.service",
    "kongflow-worker@.service",
    "kongflow-poster@.service",
    "kongflow-scheduler.service",
)


def _web(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--web", multiple=True, default=_WEB, show_default=True, metavar="HOST:PORT", help="A web process; several."
    )(command)


@click.group()
def deploy() -> None:
    """Print what runs the processes on servers; docs/deploy.md says how to use it."""


@deploy.command("systemd")
@click.option("--prefix", default="/opt/kongflow", show_default=True, help="The virtual environment.")
@_web
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), default=None, help="Write files into a folder.")
def systemd(prefix: str, web: Sequence[str], to: Path | None) -> None:
    """Print systemd units: one for each type of process, and a target that starts them all.

    Example: kongflow-events deploy systemd --to /etc/systemd/system
    """
    host, ports = _listening(web)
    for name in _UNITS:
        _put(name, _rendered(f"systemd/{name}", prefix=prefix, host=host, ports=ports), to)


@deploy.command("nginx")
@click.option("--listen", default="80", show_default=True, metavar="[HOST:]PORT", help="Where nginx listens.")
@click.option(
    "--server-name", default="_", metavar="NAME", help="The host name that it answers for, beside other sites."
)
@click.option("--console-from", multiple=True, metavar="CIDR", help="A network that may open the console; several.")
@_web
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), default=None, help="Write it into a folder.")
def nginx(listen: str, server_name: str, console_from: Sequence[str], web: Sequence[str], to: Path | None) -> None:
    """Print a configuration for nginx that buffers requests, so that a slow sender costs the service nothing.

    Without --console-from the console opens on this machine only.

    Example: kongflow-events deploy nginx --server-name events.example.com --console-from 10.20.0.0/16
    """
    if not _SERVER_NAME.fullmatch(server_name):
        raise click.BadParameter("give a name, as events.example.com or *.example.com", param_hint="--server-name")
    networks = [_network(text) for text in console_from]
    text = _rendered("nginx.conf", listen=listen, server_name=server_name, networks=networks, web=web)
    _put("kongflow.conf", text, to)


@deploy.command("compose")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), default=None, help="Write it into a folder.")
def compose(to: Path | None) -> None:
    """Print a compose file with PostgreSQL, RabbitMQ and every process.

    Example: kongflow-events deploy compose > compose.yaml
    """
    _put("compose.yaml", _rendered("compose.yaml"), to)


@deploy.command("docker")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), default=None, help="Write it into a folder.")
def docker(to: Path | None) -> None:
    """Print the Dockerfile of the image that the compose file names.

    Example: kongflow-events deploy docker > Dockerfile
    """
    _put("Dockerfile", _rendered("Dockerfile"), to)


def _listening(web: Sequence[str]) -> tuple[str, list[str]]:
    """The host that all web processes listen on, as the server takes it, and the port of each; a usage error for others."""
    found = [_ADDRESS.fullmatch(address) for address in web]
    parts = [one.groups() for one in found if one]
    if len(parts) < len(found):
        raise click.BadParameter("give HOST:PORT", param_hint="--web")
    hosts = {host.strip("[]") for host, _ in parts}
    if len(hosts) > 1:
        raise click.BadParameter("web processes are instances of one unit: give one host for all", param_hint="--web")
    return hosts.pop(), [port for _, port in parts]


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network, or one address, as nginx takes it; a usage error for others."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise click.BadParameter(f"give a network, as 10.20.0.0/16: {error}", param_hint="--console-from") from None
    if "%" in text:
        raise click.BadParameter(f"nginx knows no zones: {text!r}", param_hint="--console-from")
    return network


def _rendered(name: str, **values: Any) -> str:
    # Not when the command starts: it costs more than the rest of it.
    import jinja2

    text = resources.files("kongflow_events").joinpath(_FOLDER, name).read_text(encoding="utf-8")
    # What is made here is read by nginx, systemd and compose, none of which is HTML.
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=jinja2.select_autoescape(default_for_string=False),
    )
    template = environment.from_string(text)
    return template.render(version=metadata.version("kongflow-events"), **values)


def _put(name: str, text: str, to: Path | None) -> None:
    if to is None:
        click.echo(f"# {name}\n{text}" if name in _UNITS else text, nl=False)
        return
    try:
        to.mkdir(parents=True, exist_ok=True)
        (to / name).write_text(text, encoding="utf-8")
    except OSError as error:
        output.fail(f"{to / name} cannot be written: {error.strerror}")
    click.echo(str(to / name))
