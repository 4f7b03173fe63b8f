"""Draws the result of `make bench` for the README, readable on light and on dark pages.

.venv/bin/python -m benchmarks.picture .cache/bench/…-compare.json docs/performance.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks import report

_NAMES = {"ours": "KongFlow Events", "limit": "PostgreSQL: one-row INSERT of the event alone"}
# The picture's sizes in its own units: a row's height, a bar's, and the width of the longest bar.
_ROW, _BAR, _LONGEST = 58, 20, 560
_TOP, _WIDTH = 64, 720
_STYLE = """
text { font: 15px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 17px } .small { fill: #59636e; font-size: 13px } .value { font-weight: 600 }
.ours { fill: #0969da } .peer { fill: #8c959f } .limit { fill: none; stroke: #8c959f; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .ours { fill: #4493f8 } .peer { fill: #656c76 } .limit { stroke: #656c76 }
}
"""


def main(result: Path, picture: Path) -> None:
    """Draw one file's medians into the other."""
    picture.write_text(draw(json.loads(result.read_text(encoding="utf-8"))), encoding="utf-8")


def draw(found: dict[str, Any]) -> str:
    """The picture as SVG: a bar for each system's events a second from send to the last run, and one for the limit."""
    middle = report.medians(found)
    speeds = {
        name: figures["flood"]["events/s"] if "flood" in figures else figures["rows/s"]
        for name, figures in middle.items()
    }
    where = f"two runs an event; everything on the same {found['machine']['cpus']} CPUs, load generator included"
    height = _TOP + _ROW * len(speeds)
    said = "; ".join(f"{_NAMES.get(name, name)}: {speed:,.0f}" for name, speed in speeds.items())
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>Events a second. {escape(said)}</title>",
            f"<style>{_STYLE}</style>",
            '<text class="title" x="0" y="20">Events a second, from the first send to the last run</text>',
            f'<text class="small" x="0" y="42">{where}</text>',
            *(_bar(row, name, speed, max(speeds.values())) for row, (name, speed) in enumerate(speeds.items())),
            "</svg>",
            "",
        ]
    )


def _bar(row: int, name: str, speed: float, most: float) -> str:
    top = _TOP + _ROW * row
    width = max(1.0, round(_LONGEST * speed / most, 1))
    kind = name if name in _NAMES else "peer"
    return (
        f'<text x="0" y="{top + 14}">{escape(_NAMES.get(name, name))}</text>'
        f'<rect class="{kind}" x="0.5" y="{top + 22.5}" width="{width}" height="{_BAR}" rx="3"/>'
        f'<text class="value" x="{width + 10}" y="{top + 38}">{speed:,.0f}</text>'
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
