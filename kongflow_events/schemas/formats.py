"""Other forms in which events come and go, for the document of the API: CloudEvents 1.0 in their JSON format."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from kongflow_events.schemas import cloudevents
from kongflow_events.schemas.cloudattributes import Attributes
from kongflow_events.schemas.references import REF, ref

_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "order-1",
    "source": "/shop",
    "type": "order.paid",
    "time": "2026-06-17T09:30:00Z",
    "datacontenttype": "application/json",
    "data": {"amount": 42, "currency": "EUR"},
}


class Format(NamedTuple):
    """What a body of one media type looks like, and one of them."""

    schema: dict[str, Any]
    example: Any


def _component() -> dict[str, Any]:
    """The attributes as they are validated, the two forms of data, and extensions."""
    _, named = msgspec.json.schema_components([Attributes], ref_template=REF)
    attributes = named["Attributes"]
    properties = {
        **attributes["properties"],
        "data": {"description": "What there is to say: the event's payload, byte for byte."},
        "data_base64": {
            "description": "Data that is no text, in base64.",
            "type": "string",
            "contentEncoding": "base64",
        },
    }
    return {
        **attributes,
        "title": "CloudEvent",
        "description": "An event as CloudEvents 1.0 has it. Extensions go to the context.",
        "examples": [_EXAMPLE],
        "properties": properties,
        "additionalProperties": {"type": ["string", "boolean", "integer"]},
        "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
        "not": {"required": ["data", "data_base64"]},
    }


COMPONENTS: Final = {"CloudEvent": _component()}
EVENT: Final = {cloudevents.STRUCTURED: Format(ref("CloudEvent"), _EXAMPLE)}
BATCH: Final = {
    cloudevents.BATCHED: Format(
        {"type": "array", "items": ref("CloudEvent")}, [_EXAMPLE, {**_EXAMPLE, "id": "order-2"}]
    )
}
