"""A city that is known: what is drawn from it as a log should be fitted back."""

import dataclasses

import numpy as np
import pytest

from dispatch.snapshot import NEVER
from geo.cells import cell_of, center_of, disk, of_text, to_text
from sim.day import draw_day
from sim.logs.table import OrderLog
from sim.scenario import (
    CityKnobs,
    CustomerKnobs,
    DemandKnobs,
    KnownMerchant,
    MerchantKnobs,
    Promise,
    Rate,
    RiderKnobs,
    Scenario,
    Shift,
)

LAT, LON, ZONE = 30.6586, 104.0648, "Asia/Shanghai"
START_MS = 1_780_243_200_000  # Monday 1 June 2026, 00:00 in Shanghai
DAY_S = 86_400


def _profile(lunch: float, dinner: float) -> np.ndarray:
    at_h = (np.arange(96) + 0.5) / 4
    return (
        0.2
        + lunch * np.exp(-0.5 * ((at_h - 12) / 1.2) ** 2)
        + dinner * np.exp(-0.5 * ((at_h - 18.5) / 1.5) ** 2)
    )


def _rates() -> tuple[Rate, ...]:
    """Twelve cells around the centre; every other one dines rather than lunches."""
    cells = sorted(disk(cell_of(LAT, LON), 2))[:12]
    rows = []
    for i, cell in enumerate(cells):
        shape = _profile(4, 2) if i % 2 else _profile(2, 5)
        for weekday, factor in (("any", 1.0), ("sat", 1.5), ("sun", 1.5)):
            per_h = tuple((shape / shape.sum() * 4 * 40 * (i + 1) * factor).tolist())
            rows.append(Rate(cell=to_text(cell), per_h=per_h, weekday=weekday))
    weekdays = ("mon", "tue", "wed", "thu", "fri")
    usual = [r for r in rows if r.weekday == "any"]
    rows = [r for r in rows if r.weekday != "any"]
    return (*rows, *(dataclasses.replace(r, weekday=day) for r in usual for day in weekdays))


@pytest.fixture(scope="session")
def known() -> Scenario:
    """About 3,100 orders a weekday and half as many more on each day of the weekend."""
    rng = np.random.default_rng(5)
    rates = _rates()
    merchants = []
    for cell in sorted({rate.cell for rate in rates}):
        lat, lon = center_of(of_text(cell))
        for k in range(3):
            merchants.append(
                KnownMerchant(
                    id=f"{cell}-{k}",
                    lat=lat + float(rng.uniform(-1e-3, 1e-3)),
                    lon=lon + float(rng.uniform(-1e-3, 1e-3)),
                    weight=float(k + 1),
                    prep_s=float(rng.uniform(400, 1200)),
                )
            )
    return Scenario(
        name="known",
        city=CityKnobs(name="known", lat=LAT, lon=LON, radius_m=9_000.0, zone=ZONE),
        start_ms=START_MS,
        duration_s=DAY_S,
        horizon_s=2 * DAY_S,
        demand=DemandKnobs(rates=rates, merchants=tuple(merchants)),
        riders=RiderKnobs(count=10, shifts=(Shift(start_h=0, hours=24),)),
        merchants=MerchantKnobs(
            count=len(merchants), prep_spread=0.25, prep_law="lognormal", late_share=0.0
        ),
        customers=CustomerKnobs(
            cancel_share=0.0,
            promises=(Promise(minutes=30, share=0.7), Promise(minutes=45, share=0.3)),
        ),
        jobs={"delivery": 1.0},
    )


def _log_of(scenario: Scenario, days: int, seed: int = 1, first: int = 0) -> OrderLog:
    """What a log of so many days from the `first` one on would hold."""
    span = dataclasses.replace(
        scenario,
        start_ms=scenario.start_ms + first * DAY_S * 1000,
        duration_s=days * DAY_S,
        horizon_s=(days + 1) * DAY_S,
    )
    demand = draw_day(span, seed).demand
    n = len(demand)
    return OrderLog(
        zone=ZONE,
        id=tuple(f"{i}" for i in range(n)),
        placed_ms=demand.at_ms,
        job_type=tuple(demand.jobs[j] for j in demand.job.tolist()),
        merchant=tuple(demand.merchants[m] for m in demand.merchant.tolist()),
        pickup_lat=demand.pickup_lat,
        pickup_lon=demand.pickup_lon,
        door_lat=demand.door_lat,
        door_lon=demand.door_lon,
        ready_ms=np.minimum(demand.at_ms + demand.prep_ms, NEVER),
        promise_ms=demand.promise_ms,
        load=demand.items,
    )


@pytest.fixture(scope="session")
def log_of():
    """`log_of(scenario, days, seed, first)`."""
    return _log_of


@pytest.fixture(scope="session")
def one_week(known) -> OrderLog:
    return _log_of(known, 7, seed=2)
