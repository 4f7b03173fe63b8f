"""What every system is given to do: paid orders of ten tenants, and twenty rules of which two match any order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

TENANTS = 10
# The payload filter of each rule.
RULES = [{"tenant": [f"t{number % TENANTS}"], "amount": [{"$gt": 10}]} for number in range(20)]
# Rules that match one order, each of which starts one run.
FAN_OUT = 2
EVENT = "order.paid"
_NOTE = "Leave it with the neighbour on the second floor, who is at home in the evening."


def order(number: int, event_id: str | None = None) -> dict[str, Any]:
    """An event of about 300 bytes; its id is the sender's, or the server's to make."""
    payload = {
        "order": number,
        "tenant": f"t{number % TENANTS}",
        "amount": 11 + number % 400,
        "currency": "EUR",
        "customer": {"id": f"c-{number % 997}", "email": f"customer{number % 997}@example.com"},
        "note": _NOTE,
    }
    return {"name": EVENT, "payload": payload, **({"id": event_id} if event_id else {})}


def singles(orders: Iterable[dict[str, Any]]) -> list[bytes]:
    """The bodies that send each order by itself."""
    return [_encode({"event": order}) for order in orders]


def bulks(orders: list[dict[str, Any]], size: int) -> list[bytes]:
    """The bodies that send the orders `size` at a time."""
    return [_encode({"events": orders[start : start + size]}) for start in range(0, len(orders), size)]


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
