"""`stats`: what came in over time and what became of it, in numbers or as a chart."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from kongflow_events.cli import output
from kongflow_events.cli.client import call

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SERIES: Final = (("received", "cyan"), ("delivered", "green"), ("failed", "yellow"), ("dead", "red"))
_LEVELS: Final = " ▁▂▃▄▅▆▇█"
# Lines of one chart, and columns at most; room is left for its scale.
_HEIGHT: Final = 4
_WIDEST: Final = 120
_MARGIN: Final = 12


@click.command()
@click.option(
    "--last",
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How far back: 90s, 30m, 12h or 7d; 31d at most.",
)
@click.option(
    "--slots", type=click.IntRange(1, 500), default=None, help="How many parts. [default: 12; of a chart, its width]"
)
@click.option("--plot", is_flag=True, help="Draw charts.")
@output.as_json
def stats(last: str, slots: int | None, plot: bool, as_json: bool) -> None:
    """Show how many events came in, were delivered, failed at first, and died, over time.

    Each line counts what came in then, and what has become of it by now.

    Example: kongflow-events stats --last 24h --plot
    """
    width = max(10, min(_WIDEST, shutil.get_terminal_size().columns - _MARGIN))
    # What came in the second that has just begun is shown too.
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    window = {"since": _text(until - _duration(last)), "until": _text(until)}
    found = call("GET", "/api/v1/statistics", **window, slots=slots or (width if plot else 12))
    if as_json:
        output.show_json(found)
    elif plot:
        for line in _charts(found):
            click.echo(line)
    else:
        _table(found)


def _duration(text: str) -> timedelta:
    fits = re.fullmatch(r"([1-9]\d{0,6})([smhd])", text, re.ASCII)
    if fits is None:
        raise click.BadParameter("write a number with s, m, h or d behind it, as 30m", param_hint="--last")
    return timedelta(**{_UNITS[fits[2]]: int(fits[1])})


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _table(found: dict[str, Any]) -> None:
    names = [name for name, _ in _SERIES]
    rows = [[slot["at"], *(str(slot[name]) for name in names)] for slot in found["slots"]]
    total = ["total", *(str(_sum(found, name)) for name in names)]
    output.show_table(["FROM", *map(str.upper, names)], [*rows, total])


def _charts(found: dict[str, Any]) -> Iterator[str]:
    """One chart below the other, all of the same width; the first two of them have one scale, to be compared."""
    most = max((slot["received"] for slot in found["slots"]), default=0)
    for name, colour in _SERIES:
        values = [slot[name] for slot in found["slots"]]
        top = most if name in ("received", "delivered") else max(values)
        yield f"{click.style(name, bold=True)}  {sum(values)}, at most {max(values)} in {_length(found['seconds'])}"
        for number, line in enumerate(bars(values, max(top, 1))):
            scale = str(top) if number == 0 else "0" if number == _HEIGHT - 1 else ""
            yield f"{scale:>{_MARGIN - 3}} │{click.style(line, fg=colour)}"
        yield ""
    end = datetime.fromisoformat(found["since"]) + timedelta(seconds=found["seconds"] * len(found["slots"]))
    yield f"{'':>{_MARGIN - 2}}{found['since']}  to  {_text(end)}"


def bars(values: Sequence[int], top: int) -> list[str]:
    """A column for each value, from the highest line down to the lowest; `top` fills it, and whatever is there shows."""
    eighths = [max(round(value / top * _HEIGHT * 8), 1 if value else 0) for value in values]
    return [
        "".join(_LEVELS[min(8, max(0, height - line * 8))] for height in eighths) for line in reversed(range(_HEIGHT))
    ]


def _sum(found: dict[str, Any], name: str) -> int:
    return sum(slot[name] for slot in found["slots"])


def _length(seconds: float) -> str:
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:.3g} s"  # noqa: PLR2004 - a minute's
