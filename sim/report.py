"""A run's result, for people (a table) and for programs (one JSON line); imports rich and json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor, log10
from typing import Any

from rich.table import Table

from sim.tally import Kpis, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run. `orders_per_s` is orders a second of real time; `other_s` is what neither `decide`
    nor the referee took, the drawing of the city included. `violations` is empty for a sound
    engine, `faults` counts those that happened, by kind. `interrupted` says that the run was ended
    at `end_ms`, before its end; `tally` and `round_ms` are what the figures were made of."""

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
    faults: Mapping[str, int]
    interrupted: bool
    end_ms: int
    tally: Tally
    round_ms: tuple[float, ...]


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
    ("_us_per_event", "{:,.1f} us"),
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
        "other_us_per_event": other_us_per_event(result),
        "rounds": result.rounds,
        "events": result.events,
        "event_log_sha256": result.event_log_sha256,
        "peak_rss_mib": result.peak_rss_mib,
        "violations": list(result.violations),
        **fault_figures([result]),
        **(cut_off(result.end_ms) if result.interrupted else {}),
    }


def fault_figures(results: Sequence[RunResult]) -> dict[str, int]:
    """How many faults of each kind happened in all these runs; nothing where none can."""
    total: Counter[str] = Counter()
    for one in results:
        total.update(one.faults)
    return {f"faults_{kind}": count for kind, count in total.items()}


def other_us_per_event(result: RunResult) -> float | None:
    """Real time outside `decide` by events, the referee's included; None without an event."""
    outside_s = result.referee_s + result.other_s
    return outside_s * 1e6 / result.events if result.events else None


def cut_off(end_ms: int) -> dict[str, Any]:
    """The mark of figures that go up to `end_ms` only, because somebody ended the run there."""
    until = datetime.fromtimestamp(end_ms / 1000, UTC)
    return {"interrupted": True, "until": until.isoformat(timespec="seconds")}


def table(title: str, shown: Mapping[str, Any]) -> Table:
    """The figures, one a row."""
    out = Table(title=title, title_justify="left")
    out.add_column("figure")
    out.add_column("value", justify="right")
    for name, value in shown.items():
        out.add_row(*value_in_words(name, value))
    return out


def rows(title: str, shown: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """Several things with the same figures, one a row; of their figures those called `names`."""
    out = Table(title=title, title_justify="left")
    for i, name in enumerate(names):
        out.add_column(value_in_words(name, shown[0][name])[0], justify="right" if i else "left")
    for one in shown:
        out.add_row(*(value_in_words(name, one[name])[1] for name in names))
    return out


def to_json_line(shown: Mapping[str, Any]) -> str:
    """The figures in one line of JSON, keys in their order, without a line end."""
    return json.dumps(shown, ensure_ascii=False, allow_nan=False)


def value_in_words(name: str, value: object) -> tuple[str, str]:
    """The name in words and the value with its unit; a dash where there is nothing to measure."""
    words = name.replace("_", " ")
    if value is None:
        return words, "-"
    if isinstance(value, list | tuple):
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


def difference_in_words(name: str, mean: float | None, low: float | None) -> str:
    """A difference and how far its interval reaches to either side, in units fine enough."""
    if mean is None:
        return "-"
    scale, unit = 1.0, ""
    if name.endswith("_min"):
        scale, unit = 60.0, " s"
    elif name.endswith(("_share", "utilisation")):
        scale, unit = 100.0, " points"
    if low is None:
        return f"{mean * scale:+,.3g}{unit}"
    half = (mean - low) * scale
    if not half:
        return f"{mean * scale:+,.3g} ± 0{unit}"
    decimals = max(0, 1 - floor(log10(half)))
    return f"{mean * scale:+,.{decimals}f} ± {half:,.{decimals}f}{unit}"
