"""What a statement reads, by the plan that PostgreSQL followed."""

from __future__ import annotations

from typing import Any


def rows_read(node: dict[str, Any]) -> dict[str, int]:
    """Rows that each table's scans read, those filtered away included, from one node of a plan down."""
    read: dict[str, int] = {}
    if "Relation Name" in node:
        rows = (
            node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        )
        read[node["Relation Name"]] = round(rows * node["Actual Loops"])
    for below in node.get("Plans", []):
        for table, rows in rows_read(below).items():
            read[table] = read.get(table, 0) + rows
    return read
