"""A run's result, for people (a table) and for programs (one JSON line); imports rich and json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from sim.tally import Kpis


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run. `orders_per_s` is orders a second of real time; `other_s` is what neither `decide`
    nor the referee took, the drawing of the city included. `violations` is empty for a sound
    engine."""

    scenario: str
    seed: int
    kpis: Kpis
    orders_per_s: float
    decide_s: float
    referee_s: float
    other_s: float
    rounds: int
    events: int
    event_log_sha256: str
    peak_rss_mib: float
    violations: tuple[str, ...]


SMALL = 100.0  # hours and kilometres below have a decimal

# What stands behind a figure, by the end of its name; the first that fits.
_UNITS = (
    ("_per_online_h", "{:,.2f}"),
    ("_per_busy_h", "{:,.2f}"),
    ("_per_order", "{:,.2f}"),
    ("_yuan", "{:,.1f} yuan"),
    ("_share", "{:.1%}"),
    ("utilisation", "{:.1%}"),
    ("_gini", "{:.2f}"),
    ("_min", "{:,.1f} min"),
    ("_ms_p50", "{:,.1f} ms"),
    ("_ms_p95", "{:,.1f} ms"),
    ("per_s", "{:,.0f}"),
    ("_h", "{:,.0f} h"),
    ("_s", "{:,.2f} s"),
    ("_mib", "{:,.0f} MiB"),
    ("km", "{:,.0f}"),
)


def figures(result: RunResult) -> dict[str, Any]:
    """Everything that a run gives, by name, its KPIs among the others."""
    return {
        "scenario": result.scenario,
        "seed": result.seed,
        **result.kpis,
        "orders_per_s": result.orders_per_s,
        "decide_s": result.decide_s,
        "referee_s": result.referee_s,
        "other_s": result.other_s,
        "rounds": result.rounds,
        "events": result.events,
        "event_log_sha256": result.event_log_sha256,
        "peak_rss_mib": result.peak_rss_mib,
        "violations": list(result.violations),
    }


def table(title: str, shown: Mapping[str, Any]) -> Table:
    """The figures, one a row."""
    out = Table(title=title, title_justify="left")
    out.add_column("figure")
    out.add_column("value", justify="right")
    for name, value in shown.items():
        out.add_row(*_row(name, value))
    return out


def to_json_line(shown: Mapping[str, Any]) -> str:
    """The figures in one line of JSON, keys in their order, without a line end."""
    return json.dumps(shown, ensure_ascii=False, allow_nan=False)


def _row(name: str, value: object) -> tuple[str, str]:
    """The name in words and the value with its unit; a dash where there is nothing to measure."""
    words = name.replace("_", " ")
    if value is None:
        return words, "-"
    if isinstance(value, list):
        return words, "; ".join(map(str, value)) or "none"
    if isinstance(value, bool | str):
        return words, str(value)
    if isinstance(value, int):
        return words, str(value) if name == "seed" else f"{value:,}"
    assert isinstance(value, float)
    form = next((form for end, form in _UNITS if name.endswith(end)), "{:,.2f}")
    if name.endswith(("_h", "km")) and abs(value) < SMALL:
        form = form.replace(".0f", ".1f")
    unit = form.partition(" ")[2].lower()  # not said twice
    return " ".join(w for w in words.split() if w != unit), form.format(value)
