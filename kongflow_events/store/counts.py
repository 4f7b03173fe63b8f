"""How many rows there are: counted while that is quick, else as the planner takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kongflow_events.store import db

_SECONDS: Final = 1.5


def matching(rows: str, parameters: Mapping[str, Any], seconds: float = _SECONDS) -> int:
    """How many rows `rows`, which is `FROM … WHERE …`, has.

    When it takes longer than `seconds` to count them it is the planner's estimate, which is good enough to begin something
    by, and no reason not to: that there are too many to be counted is when somebody needs it most. It has two digits that
    are not 0, so that nobody takes it for a count.
    """
    with db.atomic():
        try:
            with db.savepoint():
                db.run(f"SET LOCAL statement_timeout = {int(1000 * seconds)}")
                number: int = db.rows(f"SELECT count(*) AS number {rows}", parameters)[0]["number"]
                db.run("SET LOCAL statement_timeout TO DEFAULT")
                return number
        except db.AWAY as error:
            if not db.is_too_slow(error):
                raise
        estimate: int = db.rows(f"EXPLAIN (FORMAT JSON) SELECT {rows}", parameters)[0]["QUERY PLAN"][0]["Plan"][
            "Plan Rows"
        ]
        # Too many to count is not none.
        return max(1, int(float(f"{estimate:.1e}")))
