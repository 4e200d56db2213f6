"""The rates of each cell by weekday and quarter hour, from counts; uses numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.cells import to_text
from sim.fit.counts import Counts
from sim.fit.shrinkage import relative_rates, smoothed_day
from sim.scenario import ANY, WEEKDAYS, Rate

_PER_H = 4
"""Quarter hours an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFit:
    """How thin bins were filled: the kernel's width in quarter hours, and the shapes of the
    weekdays' and of the cells' own rates (large: they have none of their own)."""

    kernel_quarters: float
    weekday_shape: float
    cell_shape: float


def fit_rates(counts: Counts, job_type: str = "") -> tuple[list[Rate], RateFit]:
    """Rates in three steps, each of which says what the next expects of a thin bin.

    The day's profile is smoothed over all days. A weekday has its own volume, and its own profile
    as far as its counts bear that out. A cell has its share of all orders, and its own rate in
    each quarter hour of a weekday as far as its counts do. The rows are those of the weekdays in
    the log; with one weekday, or for the others, those of any day (the mean of those in the log).
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
    own, cell_shape = relative_rates(orders, of_cell)
    per_h = of_cell * own * _PER_H / days[:, None, None]
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
    return found, RateFit(kernel_quarters=width, weekday_shape=weekday_shape, cell_shape=cell_shape)
