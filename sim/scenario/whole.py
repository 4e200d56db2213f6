"""A scenario as a whole: everything that a simulated city is made of, valid once built.

Imports the tables beside it. Instants are ms UTC, durations name their unit, times named `_h` are
hours after the start, shares lie between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dispatch.policy import Policy
from geo.cells import center_of, of_text
from geo.distance import Plane, haversine_m
from sim.faults import FaultKnobs
from sim.scenario.checks import FORBID, need
from sim.scenario.merchants import MerchantKnobs
from sim.scenario.orders import Burst, CustomerKnobs, OrderKnobs, RainKnobs, SpecialDay
from sim.scenario.riders import RiderKnobs
from sim.scenario.table import DemandKnobs
from sim.scenario.town import CityKnobs, TravelKnobs

TOO_FAR_M = 15_000.0
"""So far from the town no cell may lie: deliveries go no farther."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A simulated city from `start_ms` on: orders come for `duration_s`, then it runs dry.

    The run ends when every order has ended, `horizon_s` after the start at the latest. `jobs` is
    the share of orders by job type; `demand` may give rates by table instead of `orders`, and
    special `days`, `rain` and `bursts` change what comes. A round has its plan `decide_ms` after
    its snapshot, and the plan stands in the store `write_ms` later; what moved meanwhile is
    dropped.
    """

    __pydantic_config__ = FORBID

    name: str
    city: CityKnobs
    start_ms: int
    duration_s: int
    horizon_s: int
    riders: RiderKnobs
    merchants: MerchantKnobs
    jobs: Mapping[str, float]
    orders: OrderKnobs = field(default_factory=OrderKnobs)
    demand: DemandKnobs = field(default_factory=DemandKnobs)
    days: tuple[SpecialDay, ...] = ()
    rain: RainKnobs = field(default_factory=RainKnobs)
    bursts: tuple[Burst, ...] = ()
    customers: CustomerKnobs = field(default_factory=CustomerKnobs)
    travel: TravelKnobs = field(default_factory=TravelKnobs)
    policy: Policy = field(default_factory=Policy)
    faults: FaultKnobs = field(default_factory=FaultKnobs)
    decide_ms: int = 150
    write_ms: int = 50

    def __post_init__(self) -> None:
        need(bool(self.name), "name", self.name, "a name")
        need(self.start_ms > 0, "start_ms", self.start_ms, "ms UTC, above 0")
        need(1 <= self.duration_s <= 7 * 86_400, "duration_s", self.duration_s, "1 to 604800")
        horizon = f"duration_s ({self.duration_s}) or more"
        need(self.horizon_s >= self.duration_s, "horizon_s", self.horizon_s, horizon)
        for name in ("decide_ms", "write_ms"):
            value = getattr(self, name)
            need(0 <= value <= 60_000, name, value, "0 to 60000")
        need(bool(self.jobs), "jobs", self.jobs, "at least one job type")
        for name, share in self.jobs.items():
            need(0 < share <= 1, f"jobs.{name}", share, "a share above 0, at most 1")
        self._check_demand()
        self._check_times()
        self._check_places()

    def _check_demand(self) -> None:
        table, orders = self.demand, self.orders
        told = "0 where demand.rates are given, 1 or more where not"
        need(bool(table) != bool(orders.count), "orders.count", orders.count, told)
        need(not (table and orders.peaks), "orders.peaks", "some", "none with demand.rates")
        named = [(f"demand.rates.{i}", rate.job_type) for i, rate in enumerate(table.rates)]
        named += [(f"days.{i}", day.job_type) for i, day in enumerate(self.days)]
        named += [(f"bursts.{i}", burst.job_type) for i, burst in enumerate(self.bursts)]
        for path, name in named:
            known = not name or name in self.jobs
            need(known, f"{path}.job_type", name, "one of the scenario's jobs")

    def _check_times(self) -> None:
        """What would begin when all is over would do nothing, and nobody would notice."""
        ends_h, over_h = self.duration_s / 3600, self.horizon_s / 3600
        for i, burst in enumerate(self.bursts):
            told = f"before the last orders, below {ends_h:g}"
            need(burst.at_h < ends_h, f"bursts.{i}.at_h", burst.at_h, told)
        told = f"before the end of the run, below {over_h:g}"
        for i, spell in enumerate(self.rain.spells):
            need(spell.from_h < over_h, f"rain.spells.{i}.from_h", spell.from_h, told)
        for i, shift in enumerate(self.riders.shifts):
            need(shift.start_h < over_h, f"riders.shifts.{i}.start_h", shift.start_h, told)
        riders = self.riders.count + self.riders.more
        for i, row in enumerate(self.faults.clocks.riders):
            need(0 <= row < riders, f"faults.clocks.riders.{i}", row, f"a row below {riders}")

    def _check_places(self) -> None:
        """What lies elsewhere on Earth is a slip: its doors, which are in the town, would be too
        far for any job type."""
        city = self.city
        for i, burst in enumerate(self.bursts):
            away_m = float(haversine_m(city.lat, city.lon, burst.lat, burst.lon))
            told = f"a place in the town, within {city.radius_m:g} m of its middle"
            need(away_m - burst.radius_m <= city.radius_m, f"bursts.{i}", f"{away_m:.0f} m", told)
        if not self.demand:
            return
        cells = {rate.cell: i for i, rate in enumerate(self.demand.rates)}
        middle = np.array([center_of(of_text(cell)) for cell in cells])
        away = np.atleast_1d(haversine_m(city.lat, city.lon, middle[:, 0], middle[:, 1]))
        limit_m = city.radius_m + TOO_FAR_M
        told = f"a cell within {limit_m / 1000:g} km of the town's middle"
        for (cell, i), away_m in zip(cells.items(), away.tolist(), strict=True):
            shown = f"{cell}, {away_m / 1000:.0f} km away"
            need(away_m <= limit_m, f"demand.rates.{i}.cell", shown, told)

    @property
    def plane(self) -> Plane:
        """The city's plane, in which every simulated actor moves."""
        return Plane(self.city.lat, self.city.lon)
