"""Traces reach a real collector, and every process adds to an order's trace without being told."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from api.traces import set_up_traces
from geo.errors import InvalidValue


def process(role: str, body: str, **environ: str) -> None:
    """Another process, which runs `body` after setting traces up."""
    text = (
        "from api.traces import of_round, on_order, placing, set_up_traces\n"
        f"set_up_traces({role!r})\n{body}\n"
    )
    env = {**os.environ, **environ}
    subprocess.run([sys.executable, "-c", text], env=env, check=True, timeout=60)


def test_from_the_call_to_the_offer(collector: Any) -> None:
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address}
    process("http", "with placing('ord_1', route='/v1/orders'): pass", **where)
    process(
        "dispatcher",
        "with of_round('demo', 5, orders=1), on_order('offer', 'ord_1', rider='r1'): pass",
        **where,
    )
    spans = {span.name: (role, span) for role, span in collector.spans}
    assert {name: role for name, (role, _) in spans.items()} == {
        "place": "hexrun-http",
        "round": "hexrun-dispatcher",
        "offer": "hexrun-dispatcher",
    }
    place, round_span, offer = (spans[name][1] for name in ("place", "round", "offer"))
    assert place.parent_span_id == b""
    assert offer.trace_id == place.trace_id != round_span.trace_id
    assert offer.parent_span_id == place.span_id
    assert [link.span_id for link in offer.links] == [round_span.span_id]


def test_a_caller_s_own_trace_and_a_round_are_links(collector: Any) -> None:
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address}
    header = f"00-{7:032x}-{9:016x}-01"
    process(
        "http",
        f"with placing('ord_1', {header!r}): pass\n"
        "with placing('ord_2', 'nonsense'): pass\n"
        "with of_round('demo', 5): pass\n"
        "with on_order('offer', 'ord_1', since_ms=7, in_round=('demo', 5)): pass\n",
        **where,
    )
    first, second, round_span, offer = (span for _, span in collector.spans)
    assert [int.from_bytes(link.trace_id) for link in first.links] == [7]
    assert int.from_bytes(first.trace_id) != 7, "its id follows from the order's alone"
    assert not second.links
    assert [link.span_id for link in offer.links] == [round_span.span_id]
    assert offer.start_time_unix_nano == 7_000_000


def test_all_processes_take_the_same_orders_into_the_sample(collector: Any) -> None:
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "HEXRUN_TRACE_SHARE": "0.3"}
    process("http", "for n in range(200):\n with placing(f'ord_{n}'): pass", **where)
    process("gateway", "for n in range(200):\n with on_order('offer', f'ord_{n}'): pass", **where)
    orders: dict[str, set[str]] = {"place": set(), "offer": set()}
    for _, span in collector.spans:
        (order,) = (a.value.string_value for a in span.attributes if a.key == "order")
        orders[span.name].add(order)
    assert orders["place"] == orders["offer"]
    assert 30 <= len(orders["place"]) <= 90


def test_without_a_collector_nothing_is_asked_of_anyone() -> None:
    process("http", "with placing('ord_1') as span: assert not span.is_recording()")


@pytest.mark.parametrize("share", ["2", "-0.1", "much"])
def test_a_share_that_cannot_be(share: str) -> None:
    with pytest.raises(InvalidValue, match="HEXRUN_TRACE_SHARE"):
        set_up_traces("http", {"HEXRUN_TRACE_SHARE": share})
