"""The page of metrics: what the processes of this machine have counted, and what the database says.

Every process shows the same page, so one place of a machine is to be read: `/metrics` of its web process, or the port
that a setting names. Of several processes with the same port one has it, and when that one ends another takes it.
Prometheus' library is loaded where it is needed, for the reason that `gathering` gives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

import structlog

from kongflow_events import gathering, settings
from kongflow_events.services import measure

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

log = structlog.get_logger(__name__)

# Seconds between two tries to have the port.
_AGAIN: Final = 5.0


def page(accepted: str) -> tuple[bytes, str]:
    """The page in the form that an `Accept` header prefers, and its content type."""
    from prometheus_client import exposition

    encode, content_type = exposition.choose_encoder(accepted)
    return encode(_registry()), content_type


def serve(current: settings.Settings) -> None:
    """Show the page at the host and port that the settings name, from a thread of its own; nowhere when there is none."""
    if current.metrics_port:
        threading.Thread(target=_serve, args=(current,), daemon=True, name="metrics").start()


def _serve(current: settings.Settings) -> None:
    import prometheus_client

    while True:
        try:
            _, thread = prometheus_client.start_http_server(current.metrics_port, current.metrics_host, _registry())
        except OSError as error:
            # Mostly another process of this machine, which shows the same page.
            log.debug("the port of the metrics is not free", port=current.metrics_port, reason=error.strerror)
            time.sleep(_AGAIN)
        else:
            log.info("metrics are shown", host=current.metrics_host, port=current.metrics_port)
            thread.join()


@cache
def _registry() -> CollectorRegistry:
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    registry.register(_Machine())
    registry.register(_Database())
    return registry


class _Machine:
    """What processes have counted."""

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        import prometheus_client
        from prometheus_client import multiprocess

        where = gathering.folder()
        if where is None:
            yield from prometheus_client.REGISTRY.collect()
            return
        with gathering.reading():
            yield from multiprocess.MultiProcessCollector(None, str(where)).collect()


class _Database:
    """What the database says."""

    def __init__(self) -> None:
        self._measuring = measure.Measuring()

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        from prometheus_client import core

        families: dict[str, core.GaugeMetricFamily] = {}
        for series, labels, value in self._measuring.readings():
            if series.name not in families:
                families[series.name] = core.GaugeMetricFamily(series.name, series.text, labels=tuple(series.labels))
            families[series.name].add_metric(labels, value)
        yield from families.values()
