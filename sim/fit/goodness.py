"""How like a held-out day the days are that a fitted scenario draws, beside a naive rival.

The rival knows the volume, the cells, and the mean preparation: its orders come evenly over the
day and over the cells, go evenly to the cells with doors, and are all prepared for the mean time.
Uses numpy, scipy and geo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import sqrt

import numpy as np
from scipy.special import xlogy
from scipy.stats import chi2, ks_2samp

from dispatch.snapshot import NEVER
from geo.cells import cells_of, center_of
from geo.distance import haversine_m
from geo.errors import InvalidValue
from sim.arrivals import expected_orders
from sim.city import build_city
from sim.demand import draw_demand
from sim.fit.counts import local_of, starts
from sim.fit.scenario import midnight_ms
from sim.hours import local_time
from sim.logs.table import F8, OrderLog
from sim.scenario import QUARTERS, Scenario
from sim.streams import stream

_DRAWS_MIN, _DRAWS_MAX = 2, 20
_EXPECTED_MIN = 5.0
_FLOOR_DRAWS = 20
_KS_5_PERCENT = 1.3581
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of the fit, smaller is better: of the fitted scenario, of the rival, and what a
    perfect model would come to by chance (its mean, or the limit that it passes once in twenty
    times). `p` is the probability of as much or more under the fitted scenario, where known."""

    name: str
    fitted: float
    rival: float
    perfect: float
    p: float | None = None
    df: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """QUANTILES of a length, of the held-out day and of the days drawn."""

    name: str
    held_out: tuple[float, ...]
    fitted: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodness:
    """The day, its orders and how many were expected, and the measures."""

    day: str
    orders: int
    expected: float
    measures: tuple[Measure, ...]
    quantiles: tuple[Quantiles, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Columns of the orders of several drawn days."""

    pickup_lat: F8
    pickup_lon: F8
    door_lat: F8
    door_lon: F8
    prep_ms: F8


def goodness(
    scenario: Scenario, held_out: OrderLog, seed: int = 1, orders: int = 100_000
) -> Goodness:
    """The fit of a scenario with rates by table to the orders of one local day.

    Days are drawn until they have so many `orders`, 2 at least and 20 at most. Shapes are compared
    apart from volume: what is expected is scaled to the held-out number. Raises InvalidValue for
    orders of several days.
    """
    local = local_of(held_out)
    dates = np.unique(local.day[local.bins(held_out.placed_ms)]).tolist()
    if len(dates) > 1:
        told = f"orders of {len(dates)} days, {_date(dates[0])} to {_date(dates[-1])}"
        raise InvalidValue("held out", told, f"orders of one local day ({held_out.zone})")
    day = _on_day(scenario, held_out)
    expected = _by_quarter(day)
    drawn = _draw(day, orders / max(float(expected.sum()), 1.0), seed)
    seen = np.zeros(QUARTERS)
    np.add.at(seen, local.quarter[local.bins(held_out.placed_ms)], 1.0)
    even = np.full(QUARTERS, float(seen.sum()) / QUARTERS)
    scaled = expected * seen.sum() / max(float(expected.sum()), 1e-9)
    measures = [
        _deviance("quarter_hours_deviance_per_df", seen, scaled, even),
        _deviance("hours_deviance_per_df", *(_hourly(c) for c in (seen, scaled, even))),
    ]
    rng = stream(seed, "fit", "goodness")
    lat, lon = starts(held_out)
    measures.append(_cells("pickup_cells", lat, lon, drawn.pickup_lat, drawn.pickup_lon, rng))
    to_door = ~np.isnan(held_out.door_lat)
    if to_door.any():
        lat, lon = held_out.door_lat[to_door], held_out.door_lon[to_door]
        measures.append(_cells("door_cells", lat, lon, drawn.door_lat, drawn.door_lon, rng))
    quantiles = []
    for name, own, model, rival in _lengths(held_out, drawn, rng):
        measures.append(_distance(name, own, model, rival))
        quantiles.append(Quantiles(name=name, held_out=_quantiles(own), fitted=_quantiles(model)))
    return Goodness(
        day=_date(dates[0]),
        orders=len(held_out),
        expected=round(float(expected.sum()), 1),
        measures=tuple(measures),
        quantiles=tuple(quantiles),
    )


def _date(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


def _on_day(scenario: Scenario, held_out: OrderLog) -> Scenario:
    start_ms = midnight_ms(int(held_out.placed_ms[0]), scenario.city.zone)
    return replace(scenario, start_ms=start_ms, duration_s=_DAY_S)


def _by_quarter(day: Scenario) -> F8:
    """Orders expected in each local quarter hour."""
    local = local_time(day.start_ms, day.start_ms + day.duration_s * 1000, day.city.zone)
    out = np.zeros(QUARTERS)
    for _, _, expected in expected_orders(day, local):
        np.add.at(out, local.quarter, expected)
    return out


def _draw(day: Scenario, times: float, seed: int) -> _Drawn:
    """Several draws of the day as one."""
    city = build_city(day, seed)
    count = int(np.clip(np.ceil(times), _DRAWS_MIN, _DRAWS_MAX))
    draws = [draw_demand(day, city, seed + n) for n in range(count)]
    columns = ("pickup_lat", "pickup_lon", "door_lat", "door_lon", "prep_ms")
    return _Drawn(*(np.concatenate([getattr(d, name) for d in draws]) for name in columns))


def _hourly(counts: F8) -> F8:
    return np.asarray(counts.reshape(-1, 4).sum(axis=1))


def _deviance(name: str, seen: F8, expected: F8, even: F8) -> Measure:
    """The Poisson deviance by its degrees of freedom: 1 for a city of which all is known."""
    value, df = _poisson_deviance(seen, expected)
    rival, rival_df = _poisson_deviance(seen, even)
    return Measure(
        name=name,
        fitted=value / max(df, 1),
        rival=rival / max(rival_df, 1),
        perfect=1.0,
        p=float(chi2.sf(value, df)) if df else None,
        df=df,
    )


def _poisson_deviance(seen: F8, expected: F8) -> tuple[float, int]:
    """Neighbouring bins are taken together until enough is expected for a chi-square law; one
    degree of freedom goes to the volume."""
    groups: list[list[float]] = [[0.0, 0.0]]
    for n, e in zip(seen.tolist(), expected.tolist(), strict=True):
        if groups[-1][1] >= _EXPECTED_MIN:
            groups.append([0.0, 0.0])
        groups[-1][0] += n
        groups[-1][1] += e
    if len(groups) > 1 and groups[-1][1] < _EXPECTED_MIN:
        rest = groups.pop()
        groups[-1] = [a + b for a, b in zip(groups[-1], rest, strict=True)]
    n, e = np.array(groups).T
    value = 2.0 * float(np.sum(xlogy(n, n / np.maximum(e, 1e-9)) - (n - e)))
    return value, len(groups) - 1


def _cells(
    name: str, lat: F8, lon: F8, model_lat: F8, model_lon: F8, rng: np.random.Generator
) -> Measure:
    """The Jensen-Shannon divergence of the shares of cells, in bits: 0 the same, 1 no cell in
    common. The rival is even over the cells of the model."""
    own, model = cells_of(lat, lon), cells_of(model_lat, model_lon)
    cells, row = np.unique(np.concatenate([own, model]), return_inverse=True)
    p = np.bincount(row[: len(own)], minlength=len(cells)) / len(own)
    q = np.bincount(row[len(own) :], minlength=len(cells)) / len(model)
    even = (q > 0) / (q > 0).sum()
    chance = [
        jensen_shannon(rng.multinomial(len(own), q) / len(own), q) for _ in range(_FLOOR_DRAWS)
    ]
    return Measure(
        name=f"{name}_js_bits",
        fitted=jensen_shannon(p, q),
        rival=jensen_shannon(p, even),
        perfect=float(np.mean(chance)),
    )


def jensen_shannon(p: F8, q: F8) -> float:
    """In bits (J. Lin, "Divergence measures based on the Shannon entropy", 1991)."""
    middle = np.maximum((p + q) / 2.0, 1e-300)
    bits = (xlogy(p, p / middle) + xlogy(q, q / middle)) / (2.0 * np.log(2.0))
    return max(0.0, float(bits.sum()))


def _lengths(
    held_out: OrderLog, drawn: _Drawn, rng: np.random.Generator
) -> Sequence[tuple[str, F8, F8, F8]]:
    """(name, of the held-out day, of the drawn days, of the rival): beelines and preparation."""
    out = []
    both = ~(np.isnan(held_out.pickup_lat) | np.isnan(held_out.door_lat))
    if both.any():
        own = haversine_m(
            held_out.pickup_lat[both],
            held_out.pickup_lon[both],
            held_out.door_lat[both],
            held_out.door_lon[both],
        )
        model = haversine_m(drawn.pickup_lat, drawn.pickup_lon, drawn.door_lat, drawn.door_lon)
        rival = haversine_m(
            *_even_places(drawn.pickup_lat, drawn.pickup_lon, rng),
            *_even_places(drawn.door_lat, drawn.door_lon, rng),
        )
        out.append(("beeline_m", np.atleast_1d(own), np.atleast_1d(model), np.atleast_1d(rival)))
    told = held_out.ready_ms < NEVER
    if told.any():
        own = (held_out.ready_ms[told] - held_out.placed_ms[told]) / 1000.0
        model = drawn.prep_ms / 1000.0
        out.append(("prep_s", own, model, np.full(len(model), model.mean())))
    return out


def _even_places(lat: F8, lon: F8, rng: np.random.Generator) -> tuple[F8, F8]:
    """As many places, in the middle of cells that are taken evenly."""
    middle = np.array([center_of(int(cell)) for cell in np.unique(cells_of(lat, lon))])
    pick = middle[rng.integers(0, len(middle), len(lat))]
    return pick[:, 0], pick[:, 1]


def _distance(name: str, own: F8, model: F8, rival: F8) -> Measure:
    """The Kolmogorov-Smirnov distance of two laws: the largest difference of their shares."""
    n, m = len(own), len(model)
    fitted = ks_2samp(own, model, method="asymp")
    return Measure(
        name=f"{name}_ks",
        fitted=float(fitted.statistic),
        rival=float(ks_2samp(own, rival, method="asymp").statistic),
        perfect=_KS_5_PERCENT * sqrt((n + m) / (n * m)),
        p=float(fitted.pvalue),
    )


def _quantiles(values: F8) -> tuple[float, ...]:
    return tuple(round(v, 1) for v in np.quantile(values, QUANTILES).tolist())
