"""Merchants, preparation, doors and promises of a log; uses numpy, scipy and geo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from scipy.stats import gamma, lognorm, norm

from dispatch.snapshot import NEVER
from geo.cells import cells_of, to_text
from geo.distance import haversine_m
from sim.fit.counts import rounded_shares, starts
from sim.hours import local_time
from sim.logs.table import F8, I8, OrderLog
from sim.scenario import ANY, Doors, KnownMerchant, Law, Promise

DOOR_RESOLUTION = 9
"""Cells of some 174 m an edge: fine enough for a beeline, too coarse to name a house."""
WAY_MAX_M = 10_000.0
"""What lies farther from its pickup is not fitted: no job type takes it."""
PREP_MAX_MS = 3 * 3_600_000
_SPREAD_MIN, _SPREAD_MAX = 0.01, 2.0
_HOUR_WEIGHT = 50.0
"""An hour with so many orders takes its own preparation for half of its factor."""
_PROMISES_MAX, _PROMISE_MIN_SHARE = 12, 0.01
_PROMISE_STEP_MIN = 5


def places_of(log: OrderLog) -> tuple[I8, F8, F8]:
    """Where each order begins, as the row of a place, and the (lat, lon) of these: the shop, or
    for orders without a pickup the exact door."""
    lat, lon = starts(log)
    shop = log.shops()
    bare = np.flatnonzero(shop < 0)
    if len(bare):
        _, row = np.unique(np.column_stack([lat[bare], lon[bare]]), axis=0, return_inverse=True)
        shop = shop.copy()
        shop[bare] = row.ravel() + shop.max() + 1
    size = int(shop.max()) + 1
    orders = np.maximum(np.bincount(shop, minlength=size), 1)
    return (
        shop,
        np.bincount(shop, lat, minlength=size) / orders,
        np.bincount(shop, lon, minlength=size) / orders,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepFit:
    """Preparation as told: the mean in seconds, the relative spread about a merchant's own mean,
    its law, and factors by local hour. `orders` say how many told a time."""

    orders: int
    mean_s: float
    spread: float
    law: Law
    by_hour: tuple[float, ...]


def fit_merchants(log: OrderLog) -> tuple[list[KnownMerchant], PrepFit]:
    """Every shop of the log with its number of orders, and its own mean preparation drawn towards
    that of all (the best linear predictor of a one-way random effect: S. Searle, G. Casella and
    C. McCulloch, "Variance Components", 1992)."""
    shop, lat, lon = places_of(log)
    prep_s = (log.ready_ms - log.placed_ms) / 1000.0
    told = (log.ready_ms < NEVER) & (prep_s * 1000 <= PREP_MAX_MS)
    own_s, fit = _fit_preparation(log, shop, prep_s, told, len(lat))
    names: dict[int, str] = {}
    for row, name in zip(shop.tolist(), log.merchant, strict=True):
        names.setdefault(row, name)
    taken = set(names.values())
    weight = np.bincount(shop, minlength=len(lat))
    found = []
    for row in range(len(lat)):
        name = names[row] or f"shop-{row:05d}"
        if not names[row] and name in taken:
            name = f"place-{row:05d}"
        found.append(
            KnownMerchant(
                id=name,
                lat=round(float(lat[row]), 6),
                lon=round(float(lon[row]), 6),
                weight=float(weight[row]),
                prep_s=round(float(own_s[row]), 1),
            )
        )
    return found, fit


def _fit_preparation(
    log: OrderLog, shop: I8, prep_s: F8, told: np.ndarray, size: int
) -> tuple[F8, PrepFit]:
    n = int(told.sum())
    if n < 2:
        return np.zeros(size), PrepFit(orders=n, mean_s=0.0, spread=0.0, law="normal", by_hour=())
    x, who = prep_s[told], shop[told]
    mean = max(float(x.mean()), 1.0)
    local = local_time(int(log.placed_ms[0]), int(log.placed_ms[-1]) + 1, log.zone)
    hour = local.quarter[local.bins(log.placed_ms[told])] // 4
    often = np.bincount(hour, minlength=24)
    by_hour = (np.bincount(hour, x, minlength=24) / mean + _HOUR_WEIGHT) / (often + _HOUR_WEIGHT)
    x = x / by_hour[hour]
    own = np.maximum(_own_means(x, who, size), 1.0)
    ratio = x / own[who]
    spread = float(np.clip(ratio.std(), _SPREAD_MIN, _SPREAD_MAX))
    return own, PrepFit(
        orders=n,
        mean_s=round(mean, 1),
        spread=round(spread, 4),
        law=likeliest_law(ratio / (ratio.mean() or 1.0), spread),
        by_hour=tuple(float(f"{factor:.4g}") for factor in by_hour),
    )


def _own_means(x: F8, who: I8, size: int) -> F8:
    """The mean of each group, drawn towards the mean of all by how much groups differ."""
    n = np.bincount(who, minlength=size).astype(np.float64)
    mean = float(x.mean())
    own = np.where(n > 0, np.bincount(who, x, minlength=size) / np.maximum(n, 1.0), mean)
    groups, total = int((n > 0).sum()), float(n.sum())
    if groups < 2 or total <= groups:
        return np.full(size, mean)
    within = float(((x - own[who]) ** 2).sum()) / (total - groups)
    between = float((n * (own - mean) ** 2).sum()) / (groups - 1)
    usual = (total - float((n * n).sum()) / total) / (groups - 1)
    variance = max(0.0, (between - within) / usual)
    total_variance = np.maximum(n * variance + within, 1e-300)  # 0 where all take equally long
    return np.asarray(mean + n * variance / total_variance * (own - mean))


def likeliest_law(ratio: F8, spread: float) -> Law:
    """The law with mean 1 and this spread under which the ratios (mean 1) are likeliest."""
    at = np.maximum(ratio, 1e-3)
    variance = np.log1p(spread * spread)
    laws: dict[Law, Callable[[], F8]] = {
        "normal": lambda: norm.logpdf(at, 1.0, spread),
        "lognormal": lambda: lognorm.logpdf(at, sqrt(variance), scale=exp(-variance / 2)),
        "gamma": lambda: gamma.logpdf(at, 1 / spread**2, scale=spread**2),
    }
    return max(laws, key=lambda law: float(np.sum(laws[law]())))


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorFit:
    """Beelines: their median, the standard deviation of their logarithm, and the longest; the
    `discount` that seen pairs of cells leave to the law of distance; orders that are `too_far`."""

    median_m: float
    spread: float
    longest_m: float
    discount: float
    too_far: int


def fit_doors(log: OrderLog) -> tuple[list[Doors], DoorFit]:
    """Where orders go, by cell, and the law of distance for pairs of cells never seen.

    A pair of cells that was seen n times of the N orders of its pickup cell has the share
    (n - d) / N, by absolute discounting (H. Ney, U. Essen and R. Kneser, "On structuring
    probabilistic dependences in stochastic language modelling", 1994), with their d = n1 / (n1 +
    2 n2) by how many pairs were seen once and twice. What is left goes at a drawn distance, in the
    direction where all orders go.
    """
    both = ~(np.isnan(log.pickup_lat) | np.isnan(log.door_lat))
    way_m = np.atleast_1d(
        haversine_m(
            log.pickup_lat[both], log.pickup_lon[both], log.door_lat[both], log.door_lon[both]
        )
    )
    near = way_m <= WAY_MAX_M
    too_far = int((~near).sum())
    if not near.any():
        none = DoorFit(median_m=1500.0, spread=0.6, longest_m=5000.0, discount=1.0, too_far=too_far)
        return [], none
    rows = np.flatnonzero(both)[near]
    way = np.maximum(way_m[near], 30.0)
    pickup = cells_of(log.pickup_lat[rows], log.pickup_lon[rows])
    door = cells_of(log.door_lat[rows], log.door_lon[rows], DOOR_RESOLUTION)
    pairs, n = np.unique(np.column_stack([pickup, door]), axis=0, return_counts=True)
    once, twice = int((n == 1).sum()), int((n == 2).sum())
    discount = once / (once + 2 * twice) if once else 0.0
    cells, total = np.unique(pickup, return_counts=True)
    of_cell = total[np.searchsorted(cells, pairs[:, 0])]
    found = [
        Doors(cell=to_text(a), door_cell=to_text(b), share=float(f"{share:.6g}"))
        for (a, b), share in zip(pairs.tolist(), ((n - discount) / of_cell).tolist(), strict=True)
        if share > 0
    ]
    everywhere, often = np.unique(door, return_counts=True)
    found += [
        Doors(cell=ANY, door_cell=to_text(cell), share=float(f"{share:.6g}"))
        for cell, share in zip(everywhere.tolist(), (often / len(door)).tolist(), strict=True)
    ]
    median = float(np.median(way))
    longest = float(np.quantile(way, 0.999))
    return found, DoorFit(
        median_m=round(median, 1),
        spread=round(_log_spread(way, median), 4),
        longest_m=round(max(longest, median), 1),
        discount=round(discount, 4),
        too_far=too_far,
    )


def _log_spread(way_m: F8, median: float) -> float:
    """Of the logarithm about the median, from the middle half, which cut-off ends do not bend."""
    low, high = np.quantile(np.log(way_m / median), [0.25, 0.75])
    return max(float(high - low) / (2 * 0.674489750196082), 0.05)


def fit_promises(log: OrderLog) -> Sequence[Promise]:
    """How long after placement orders were promised, in steps of five minutes; the rarest left
    out. Nothing where less than half of the orders had a promise."""
    told = log.promise_ms < NEVER
    if told.mean() < 0.5:
        return ()
    minutes = (log.promise_ms[told] - log.placed_ms[told]) / 60_000
    steps = np.maximum(np.rint(minutes / _PROMISE_STEP_MIN), 1).astype(np.int64)
    value, n = np.unique(steps, return_counts=True)
    order = np.argsort(-n, kind="stable")[:_PROMISES_MAX]
    order = np.sort(order[n[order] >= _PROMISE_MIN_SHARE * n.sum()])
    shares = rounded_shares(n[order].tolist())
    return tuple(
        Promise(minutes=float(step * _PROMISE_STEP_MIN), share=share)
        for step, share in zip(value[order].tolist(), shares, strict=True)
    )
