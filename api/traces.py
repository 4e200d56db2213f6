"""Traces from the call that places an order to the offer a rider gets; may import OpenTelemetry.

An order's trace has an id that follows from the order's, and so has its first span. Every process
can therefore add to it without being told anything, and all take the same orders into the sample.
There is a span for each order and each round, never one for a fix:

    place              the transaction that places it; the caller's own span is a link (http)
      offer            from its placing to its being offered; the round is a link (dispatcher)
      offer_told       the offer is handed to the rider's socket (gateway)
      accept, arrive, ...  what the rider does, with its outcome (gateway)
    round              a trace of its own, whose id follows from city and instant (dispatcher)

`OTEL_EXPORTER_OTLP_ENDPOINT` names the collector (OTLP over HTTP); without it nothing is traced.
`HEXRUN_TRACE_SHARE` is the share of orders that are, 1 by default.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from geo.errors import InvalidValue, StartupError

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
SHARE_VARIABLE = "HEXRUN_TRACE_SHARE"

_tracer = trace.get_tracer("hexrun")
_is_on = False
# Trace and span id of the next root span; None for random ones.
_chosen: ContextVar[tuple[int, int] | None] = ContextVar("chosen", default=None)


def set_up_traces(role: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send this process's spans to the collector that the environment names, if it names one.

    Raises:
        InvalidValue: the share is not a number from 0 to 1.
        StartupError: a collector is named and the extra `otel` is not installed.
    """
    share = _share(environ)
    if not environ.get(ENDPOINT_VARIABLE):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
    except ImportError as error:
        raise StartupError(f"{ENDPOINT_VARIABLE} is set: install hexrun[otel] ({error})") from None

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            chosen = _chosen.get()
            return super().generate_trace_id() if chosen is None else chosen[0]

        def generate_span_id(self) -> int:
            chosen = _chosen.get()
            return super().generate_span_id() if chosen is None else chosen[1]

    resource = Resource.create({"service.name": f"hexrun-{role}"})
    provider = TracerProvider(
        sampler=TraceIdRatioBased(share), resource=resource, id_generator=Ids()
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    global _is_on
    _is_on = True


def tracing() -> bool:
    """Whether spans go anywhere: what is only for them need not be made otherwise."""
    return _is_on


@contextmanager
def placing(order_id: str, caller: str | None = None, **facts: AttributeValue) -> Iterator[Span]:
    """The first span of an order's trace, around the transaction that places it.

    `caller` is the `traceparent` header of the request; nonsense in it is no error.
    """
    if not _is_on:
        yield INVALID_SPAN
        return
    links = [link] if (link := _link_to(caller)) is not None else None
    attributes = {"order": order_id, **facts}
    span = _root(f"order/{order_id}", "place", SpanKind.SERVER, attributes, links)
    with trace.use_span(span, end_on_exit=True):
        yield span


@contextmanager
def on_order(
    name: str,
    order_id: str,
    *,
    since_ms: int | None = None,
    in_round: tuple[str, int] | None = None,
    **facts: AttributeValue,
) -> Iterator[Span]:
    """A span of the order's trace, begun at `since_ms`.

    Linked to the round of this city and instant, or to the one around it, if there is any.
    """
    if not _is_on:
        yield INVALID_SPAN
        return
    around = trace.get_current_span().get_span_context()
    if in_round is not None:
        around = _context(_round_name(*in_round))
    span = _tracer.start_span(
        name,
        _below(order_id),
        attributes={"order": order_id, **facts},
        links=[trace.Link(around)] if around.is_valid else None,
        start_time=None if since_ms is None else since_ms * 1_000_000,
    )
    with trace.use_span(span, end_on_exit=True):
        yield span


@contextmanager
def of_round(city: str, at_ms: int, **facts: AttributeValue) -> Iterator[Span]:
    """A trace of its own for one round."""
    if not _is_on:
        yield INVALID_SPAN
        return
    attributes = {"city": city, "at_ms": at_ms, **facts}
    span = _root(_round_name(city, at_ms), "round", SpanKind.INTERNAL, attributes)
    with trace.use_span(span, end_on_exit=True):
        yield span


def _root(
    of: str,
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, AttributeValue],
    links: list[trace.Link] | None = None,
) -> Span:
    """The first span of the trace of `of`."""
    chosen = _chosen.set(_ids(of))
    try:
        return _tracer.start_span(name, Context(), kind, attributes=attributes, links=links)
    finally:
        _chosen.reset(chosen)


def _link_to(caller: str | None) -> trace.Link | None:
    if caller is None:
        return None
    found = TraceContextTextMapPropagator().extract({"traceparent": caller}, Context())
    context = trace.get_current_span(found).get_span_context()
    return trace.Link(context) if context.is_valid else None


def _below(order_id: str) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(_context(f"order/{order_id}")), Context())


def _context(of: str) -> SpanContext:
    """The first span of the trace of `of`, wherever it is made."""
    trace_id, span_id = _ids(of)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))


def _round_name(city: str, at_ms: int) -> str:
    return f"round/{city}/{at_ms}"


def _ids(of: str) -> tuple[int, int]:
    digest = hashlib.sha256(of.encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def _share(environ: Mapping[str, str]) -> float:
    given = environ.get(SHARE_VARIABLE) or "1"
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise InvalidValue(SHARE_VARIABLE, given, "a share from 0 to 1")
    return share
