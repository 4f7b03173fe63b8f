"""Traces: the `traceparent` of W3C's Trace Context on its way through the service, and spans where somebody records them.

What a sender's request carries goes on to the calls that its event leads to, whether or not anything is recorded here.
Spans need the extra `otel` and a setting; without it OpenTelemetry is not imported, and a span is the parent it was given.
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from multiprocessing import util
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from kongflow_events import settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

# Trace Context, level 1 §3.2: a later version may say more behind these four, and none is called ff.
_FORM: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01
# What each step is to OpenTelemetry.
_KINDS: Final = {
    "ingest": "PRODUCER",
    "relay": "PRODUCER",
    "deliver": "CONSUMER",
    "invoke": "CONSUMER",
    "post": "CLIENT",
}

_incoming: ContextVar[str | None] = ContextVar("traceparent", default=None)
_tracer: Tracer | None = None


class Spanning(Protocol):
    """A step of an event's way while it lasts; what it gives is the `traceparent` of all that comes of it."""

    def __enter__(self) -> str | None:
        """It begins."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """It ends, well or with an error."""


def parse(header: str | None) -> str | None:
    """A `traceparent` as it goes on from here; None for one that is malformed, which counts as none."""
    found = _FORM.fullmatch(header.strip()) if header else None
    if found is None or (found[1] == "00" and found[5]):
        return None
    return f"00-{found[2]}-{found[3]}-{int(found[4], 16) & _SAMPLED:02x}"


def receive(header: str | None) -> None:
    """What this thread does from now on is for a request that carries this `traceparent`, or none."""
    _incoming.set(parse(header) if header else None)


def received() -> str | None:
    """The `traceparent` of the request that this thread works for."""
    return _incoming.get()


def begin(current: settings.Settings, process: str) -> None:
    """Record spans of this `process` (web, worker …) from now on, if the setting says so.

    Raises BadSettings when the extra is not there.
    """
    if current.traces == "off":
        return
    try:
        from opentelemetry.sdk.trace import export
    except ImportError:
        raise settings.BadSettings("KONGFLOW_TRACES: pip install 'kongflow-events[otel]' first") from None
    if current.traces == "console":
        record(export.SimpleSpanProcessor(export.ConsoleSpanExporter()), process)
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    record(export.BatchSpanProcessor(OTLPSpanExporter()), process)


def record(processor: SpanProcessor, process: str) -> None:
    """Hand every span to `processor` from now on, until the process ends."""
    global _tracer  # noqa: PLW0603 - a process records or does not
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider

    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins.
    resource = Resource.create({"service.name": f"kongflow-events-{process}"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    _tracer = provider.get_tracer("kongflow_events")
    # Children of servers end past the exits that the library hooks into.
    util.Finalize(None, provider.shutdown, exitpriority=10)


def stop() -> None:
    """Record nothing any more."""
    global _tracer  # noqa: PLW0603 - as above
    _tracer = None


def recording() -> bool:
    """Whether spans are recorded: what is only for them need not be asked for otherwise."""
    return _tracer is not None


def span(name: str, parent: str | None, **attributes: Any) -> Spanning:
    """A step of the way that `parent` belongs to, or the first one of a new way when that is None."""
    if _tracer is None:
        return _Passing(parent)
    return _Recorded(_start(_tracer, name, parent, attributes))


def past(name: str, parent: str | None, began: int, **attributes: Any) -> None:
    """A step that many events took together, for one of them: it began at `began` (ns since 1970), and ends now."""
    if _tracer is not None and parent is not None:
        _start(_tracer, name, parent, attributes, began).end(time.time_ns())


class _Passing:
    """A step that nobody records: its parent is passed on."""

    __slots__ = ("_parent",)

    def __init__(self, parent: str | None) -> None:
        self._parent = parent

    def __enter__(self) -> str | None:
        return self._parent

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class _Recorded:
    """A step that is recorded."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> str | None:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & _SAMPLED:02x}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            from opentelemetry.trace import StatusCode

            # Its words may be a payload's.
            self._span.set_status(StatusCode.ERROR, type(error).__name__)
        self._span.end()


def _start(tracer: Tracer, name: str, parent: str | None, attributes: dict[str, Any], began: int | None = None) -> Span:
    from opentelemetry import trace
    from opentelemetry.context import Context

    context = Context()
    if parent is not None:
        _, trace_id, span_id, flags = parent.split("-")
        remote = trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(remote), context)
    named = {f"kongflow.{key}": str(value) for key, value in attributes.items()}
    return tracer.start_span(name, context, trace.SpanKind[_KINDS[name]], named, start_time=began)
