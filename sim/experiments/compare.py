"""Runs both arms on the same seeds until the precision is reached, and says what came out.

Both arms of a seed meet the same orders, riders and moods (common random numbers), so what differs
is what was decided. How many seeds there are is settled once, see `paired`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo.errors import InvalidValue
from sim.experiments.paired import LEVEL, Intervals, intervals, seeds_needed
from sim.experiments.table import SeedTable, table_of
from sim.tally import Kpis

F8 = NDArray[np.float64]

Run = Callable[[Sequence[int]], Sequence[tuple[Kpis, Kpis] | None]]
"""Runs both arms on each seed; None for a seed that was not finished because somebody stopped."""

SEEDS_MIN_LEAST = 8
"""With fewer, the guard against what is rare (see `paired`) widens too many intervals."""
_ROUNDING = 1e-9
_NO_SHARE = "A's mean is 0, and a share of 0 is no width: give --precision as a number"
STOPPED = "interrupted before all seeds were done"
B_IS = "B is "
METHOD = "paired differences on common random numbers, two-stage (Stein 1945)"

_UNITS = (
    ("_min", {"min": 1.0, "s": 1 / 60, "ms": 1 / 60_000, "h": 60.0}),
    ("_h", {"h": 1.0, "min": 1 / 60, "s": 1 / 3600}),
    ("_ms", {"ms": 1.0, "s": 1_000.0}),
)
_BETTER = {
    "on_time_share": 1,
    "orders_delivered": 1,
    "orders_per_online_h": 1,
    "orders_per_busy_h": 1,
    "income_per_online_h_yuan": 1,
    "orders_cancelled_customer": -1,
    "orders_cancelled_merchant": -1,
    "orders_cancelled_system": -1,
    "orders_expired": -1,
    "orders_returned": -1,
    "orders_failed": -1,
    "orders_live": -1,
    "orders_reassigned": -1,
    "offers_declined": -1,
    "offers_timed_out": -1,
    "km_per_order": -1,
    "empty_km_share": -1,
    "income_gini": -1,
    "refused_plans": -1,
}
"""Which way is better: up, down, or (for what is not here and no duration) neither."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How far an interval may reach to either side: in the figure's own unit, or by A's mean."""

    amount: float
    is_share: bool

    def half_width(self, a_mean: float) -> float:
        return self.amount * abs(a_mean) if self.is_share else self.amount


@dataclass(frozen=True, slots=True)
class Need:
    """The half-width asked of a figure, in its own unit, and how many seeds it takes: infinitely
    many where no number will do, and then `hopeless` says why."""

    half_width: float
    seeds: float
    hopeless: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What is asked: each of `kpis` as precise as `precision`, with `seeds_min` seeds of the first
    stage and `seeds_max` at most, from `seed` on."""

    kpis: tuple[str, ...]
    precision: str
    seeds_min: int = 8
    seeds_max: int = 200
    seed: int = 1
    level: float = LEVEL

    def __post_init__(self) -> None:
        if self.seeds_min < SEEDS_MIN_LEAST:
            raise InvalidValue("seeds_min", self.seeds_min, f"{SEEDS_MIN_LEAST} or more")
        if self.seeds_max < self.seeds_min:
            raise InvalidValue("seeds_max", self.seeds_max, f"{self.seeds_min} (seeds_min) or more")
        if not self.kpis:
            raise InvalidValue("kpi", self.kpis, "at least one")
        for kpi in self.kpis:
            precision_of(self.precision, kpi)

    def seeds_for(self, table: SeedTable) -> int:
        """How many seeds in all, by the table's first stage: the most that any of `kpis` takes.

        A figure that no number of seeds makes precise asks for none beyond the first stage.
        """
        needs = [self.need(table, kpi).seeds for kpi in self.kpis]
        finite = [seeds for seeds in needs if seeds < math.inf]
        return int(min(self.seeds_max, max(finite, default=self.seeds_min)))

    def need(self, table: SeedTable, kpi: str) -> Need:
        """What the table's first stage says that the precision of one figure takes."""
        i, m = table.column(kpi), self.seeds_min
        differences, a = table.differences[:m, i], table.a[:m, i]
        known = ~np.isnan(differences)
        if known.sum() < 2:
            return Need(math.nan, math.inf, f"nothing to measure in the first {len(known)} seeds")
        half_width = precision_of(self.precision, kpi).half_width(float(a[known].mean()))
        seeds = seeds_needed(differences[known], half_width, self.level)
        if seeds == math.inf:
            return Need(half_width, seeds, _NO_SHARE)
        return Need(half_width, seeds)

    def unreached(self, table: SeedTable) -> dict[str, str]:
        """Why, by figure asked for, its interval is wider than asked; empty where none is."""
        found = ((kpi, self._why(table, kpi)) for kpi in self.kpis)
        return {kpi: why for kpi, why in found if why}

    def _why(self, table: SeedTable, kpi: str) -> str:
        need, n = self.need(table, kpi), len(table.seeds)
        if need.hopeless:
            return need.hopeless
        if need.seeds > n:
            return f"takes more than {n} seeds"
        i = table.column(kpi)
        differences = table.differences[~np.isnan(table.differences[:, i]), i]
        first = int((~np.isnan(table.differences[: self.seeds_min, i])).sum())
        half = float(intervals(differences[:, np.newaxis], first, self.level).half[0])
        if half <= need.half_width * (1 + _ROUNDING):
            return ""
        if len(differences) < n:
            return f"there is nothing to measure in {n - len(differences)} of {n} seeds"
        return f"the first {first} seeds missed most of what varies: take more with --seeds-min"


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What came out. `interrupted` says that not all seeds were run that were to be."""

    design: Design
    table: SeedTable
    interrupted: bool

    @property
    def unreached(self) -> dict[str, str]:
        """Why, by figure asked for, its interval is not known to be as narrow as asked."""
        if self.interrupted:
            return dict.fromkeys(self.design.kpis, STOPPED)
        return self.design.unreached(self.table)


def compare(run: Run, design: Design) -> Comparison | None:
    """The first stage, and as many seeds more as the precision takes; None if not one is done."""
    seeds = list(range(design.seed, design.seed + design.seeds_min))
    done = list(zip(seeds, run(seeds), strict=True))
    if all(pair is not None for _, pair in done):
        first = table_of(seeds, [pair for _, pair in done if pair is not None])
        more = list(range(design.seed + design.seeds_min, design.seed + design.seeds_for(first)))
        if more:
            done += zip(more, run(more), strict=True)
    kept = [(seed, pair) for seed, pair in done if pair is not None]
    if not kept:
        return None
    table = table_of([seed for seed, _ in kept], [pair for _, pair in kept])
    return Comparison(design, table, interrupted=len(kept) < len(done))


def report(found: Comparison) -> list[dict[str, Any]]:
    """A row a figure, those asked for first: what both arms come to, B less A with its interval,
    by how much common random numbers cut the variance, and a verdict in words."""
    table, design = found.table, found.design
    first = list(design.kpis)
    rest = [name for name in table.names if name not in first]
    return [_line(table, design, name) for name in first + rest]


def _line(table: SeedTable, design: Design, name: str) -> dict[str, Any]:
    i = table.column(name)
    known = ~np.isnan(table.differences[:, i])
    first = int(known[: design.seeds_min].sum())
    a, b = table.a[known, i], table.b[known, i]
    line: dict[str, Any] = {"kpi": name, "seeds": len(a)}
    if first < 2:
        return line | {
            "a": float(a.mean()) if len(a) else None,
            "b": float(b.mean()) if len(a) else None,
            "difference": float((b - a).mean()) if len(a) else None,
            "low": None,
            "high": None,
            "variance_cut": None,
            "verdict": "too few seeds",
        }
    interval = intervals((b - a)[:, np.newaxis], first, design.level)
    mean, half = float(interval.mean[0]), float(interval.half[0])
    return line | {
        "a": float(a.mean()),
        "b": float(b.mean()),
        "difference": mean,
        "low": mean - half,
        "high": mean + half,
        "variance_cut": variance_cut(a, b),
        "verdict": verdict(name, interval),
    }


def variance_cut(a: F8, b: F8) -> float | None:
    """How many times the seeds that independent runs of the arms would take for the same width:
    the variances of both over that of the difference. None where the difference does not vary."""
    of_difference = float((b - a).var(ddof=1))
    if of_difference == 0.0:
        return None
    return float(a.var(ddof=1) + b.var(ddof=1)) / of_difference


def verdict(name: str, interval: Intervals) -> str:
    """In words: B is better or worse where that is clear, else higher or lower."""
    if not interval.excludes_zero[0]:
        return "no difference shown"
    up = 1 if interval.mean[0] > 0 else -1
    way = _BETTER.get(name, -1 if name.endswith("_min") else 0)
    if way:
        return B_IS + ("better" if up == way else "worse")
    return B_IS + ("higher" if up > 0 else "lower")


def precision_of(text: str, kpi: str) -> Precision:
    """`0.5%` of A's mean, `6s`, `0.1min` or the like for a duration, or a number in the figure's
    own unit. Raises InvalidValue."""
    units = next((units for end, units in _UNITS if kpi.endswith(end)), {})
    expected = "a share of A such as 0.5%, or a number in its own unit"
    if units:
        expected = "a share of A such as 0.5%, or a duration in " + ", ".join(units)
    number = text.rstrip("%abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip()
    try:
        amount = float(number)
    except ValueError:
        raise InvalidValue("precision", text, expected) from None
    if not (0 < amount < math.inf):
        raise InvalidValue("precision", text, "more than 0")
    if unit == "%":
        return Precision(amount / 100, is_share=True)
    if not unit:
        return Precision(amount, is_share=False)
    if unit not in units:
        raise InvalidValue("precision", text, f"for {kpi} {expected}")
    return Precision(amount * units[unit], is_share=False)
