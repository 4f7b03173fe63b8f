"""Signs of life."""

from __future__ import annotations

from kongflow_events.store import db

_BEAT = """
INSERT INTO process_heartbeats (kind, instance) VALUES (%s, %s)
ON CONFLICT (kind, instance) DO UPDATE SET beat_at = now()
"""


def beat(kind: str, instance: str) -> None:
    """This process lives; what has not said so for a day is forgotten."""
    db.run(_BEAT, (kind, instance))
    db.run("DELETE FROM process_heartbeats WHERE beat_at < now() - interval '1 day'")


def age(kind: str) -> float | None:
    """Seconds since a process of this kind last said that it lives; None when none ever did."""
    found = db.rows(
        "SELECT extract(epoch FROM now() - max(beat_at))::float AS age FROM process_heartbeats WHERE kind = %s", (kind,)
    )
    seconds: float | None = found[0]["age"]
    return seconds
