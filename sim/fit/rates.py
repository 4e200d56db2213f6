"""The rates of each cell by weekday and quarter hour, from counts; uses numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.cells import to_text
from sim.fit.counts import Counts
from sim.fit.shrinkage import relative_rates, smoothed_day
from sim.scenario import ANY, WEEKDAYS, Rate

_PER_H = 4
"""Quarter hours an hour."""


F8 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFit:
    """How thin bins were filled: the kernel's width in quarter hours, and the shapes of the rates
    that weekdays have of their own, and cells by the hour, by the quarter hour, and by the quarter
    hour of a weekday (large: they have none)."""

    kernel_quarters: float
    weekday_shape: float
    cell_hour_shape: float
    cell_quarter_shape: float
    cell_weekday_shape: float


def fit_rates(counts: Counts, job_type: str = "") -> tuple[list[Rate], RateFit]:
    """Rates in steps, each of which says what the next expects of a thin bin.

    The day's profile is smoothed over all days. A weekday has its own volume, and its own profile
    as far as its counts bear that out. A cell has its share of all orders, and as far as its
    counts bear that out its own rate in each hour of all days, then in each quarter hour of them,
    then in each quarter hour of a weekday. The rows are those of the weekdays in the log; with one
    weekday, or for the others, those of any day (the mean of those in the log).
    """
    seen = np.flatnonzero(counts.days)
    orders, days = counts.orders[seen], counts.days[seen].astype(np.float64)
    profile, width = smoothed_day(orders.sum(axis=(0, 2)))
    of_weekday = orders.sum(axis=2)
    volume = of_weekday.sum(axis=1)
    expected = volume[:, None] * profile
    own, weekday_shape = relative_rates(of_weekday, expected)
    expected = expected * own
    share = orders.sum(axis=(0, 1)) / max(float(orders.sum()), 1.0)
    of_cell = expected[:, :, None] * share
    shapes = []
    for pooled in (_by_hour, _by_quarter, np.asarray):
        own, shape = relative_rates(pooled(orders), pooled(of_cell))
        of_cell = of_cell * (np.repeat(own, _PER_H, axis=1) if pooled is _by_hour else own)
        shapes.append(shape)
    of_cell *= (volume / np.maximum(of_cell.sum(axis=(1, 2)), 1e-300))[:, None, None]
    per_h = of_cell * _PER_H / days[:, None, None]
    rows = {WEEKDAYS[w]: per_h[i] for i, w in enumerate(seen.tolist())} if len(seen) > 1 else {}
    if len(seen) < len(WEEKDAYS):
        rows[ANY] = np.average(per_h, axis=0, weights=days)
    found = [
        Rate(
            job_type=job_type,
            weekday=weekday,
            cell=to_text(cell),
            per_h=tuple(float(f"{rate:.4g}") for rate in table[:, c].tolist()),
        )
        for weekday, table in rows.items()
        for c, cell in enumerate(counts.cells.tolist())
    ]
    return found, RateFit(
        kernel_quarters=width,
        weekday_shape=weekday_shape,
        cell_hour_shape=shapes[0],
        cell_quarter_shape=shapes[1],
        cell_weekday_shape=shapes[2],
    )


def _by_hour(bins: F8) -> F8:
    """(weekdays, quarters, cells) summed over weekdays and hours: (1, hours, cells)."""
    return np.asarray(bins.sum(axis=0).reshape(1, -1, _PER_H, bins.shape[2]).sum(axis=2))


def _by_quarter(bins: F8) -> F8:
    return np.asarray(bins.sum(axis=0, keepdims=True))
