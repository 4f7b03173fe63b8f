"""Lists that look at a bounded stretch of rows, wanted or not, so that they cost the same however few are wanted.

Their statements give each wanted row, newest first, with how many rows were `looked` at and the id of the `last` of them;
when none is wanted, one row that has nothing else.
"""

from __future__ import annotations

import uuid
from typing import TypeVar

import msgspec

from kongflow_events import words
from kongflow_events.store import db

Item = TypeVar("Item", bound=msgspec.Struct)


def only(column: str, value: str) -> str:
    """`column = value`, said so that its newest rows are read from their own end of an index on it and the id.

    The statement has to order by the column, too. The planner takes values for spread evenly, and an equal column for no part
    of an order: of one that came last long ago it would walk the ids of all the others since then.
    """
    return f"{column} BETWEEN {value} AND {value}"


def page(found: list[db.Row], kind: type[Item], looked: int, limit: int) -> words.Page[Item]:
    """Up to `limit` of the rows found; where the stretch of `looked` rows ends the list goes on, though none may be left."""
    number, last = found[0]["looked"], found[0]["last"]
    wanted = [
        {name: value for name, value in row.items() if name not in {"looked", "last"}} for row in found if row["id"]
    ]
    items = [kind(**row) for row in wanted[:limit]]
    following: uuid.UUID | None = last if number == looked else None
    return words.Page(items, wanted[limit - 1]["id"] if len(wanted) > limit else following)
