"""A scenario as a whole: everything that a simulated city is made of, valid once built.

Imports the tables beside it. Instants are ms UTC, durations name their unit, times named `_h` are
hours after the start, shares lie between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch.policy import Policy
from geo.cells import center_of, edge_m, of_text
from geo.distance import Plane, haversine_m
from sim.faults import FaultKnobs
from sim.scenario.checks import FORBID, need
from sim.scenario.merchants import MerchantKnobs
from sim.scenario.orders import Burst, CustomerKnobs, OrderKnobs, RainKnobs, SpecialDay
from sim.scenario.riders import RiderKnobs
from sim.scenario.table import ANY, DemandKnobs
from sim.scenario.town import HOT_SPOT_M, CityKnobs, TravelKnobs

_ROUNDED = 0.011
"""How far from 1 the sum of shares may be that people have rounded."""


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
        # Shares as people write them: three of 0.33 are all.
        total = sum(self.jobs.values())
        need(abs(total - 1.0) <= _ROUNDED, "jobs", total, "shares that sum to 1")
        self._check_demand()
        self._check_places()
        self._check_times()

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
        rated = {rate.cell for rate in table.rates} | {ANY}
        for i, row in enumerate(table.doors):
            need(row.cell in rated, f"demand.doors.{i}.cell", row.cell, "a cell of demand.rates")
        shops, count, spots = len(table.merchants), self.merchants.count, self.city.hot_spots
        told = f"{shops}, or nothing: demand.merchants has all" if shops else "1 to 1000000"
        need(count in (0, shops) if shops else count > 0, "merchants.count", count, told)
        told = "1, or nothing: demand.rates say which cells are busy"
        need(not table or spots == 1, "city.hot_spots", spots, told)
        spread_m, usual_m = self.city.hot_spot_m, HOT_SPOT_M
        told = f"{usual_m:g}, or nothing: demand.merchants have their places"
        need(not shops or spread_m == usual_m, "city.hot_spot_m", spread_m, told)

    def _check_places(self) -> None:
        """What lies elsewhere is a slip of the pen; none of its orders could be carried."""
        city = self.city
        reach_m = city.radius_m + city.door_max_m + edge_m()
        cells = {rate.cell: f"demand.rates.{i}.cell" for i, rate in enumerate(self.demand.rates)}
        places = [(path, cell, center_of(of_text(cell))) for cell, path in cells.items()]
        places += [
            (f"demand.merchants.{i}", m.id, (m.lat, m.lon))
            for i, m in enumerate(self.demand.merchants)
        ]
        places += [
            (f"bursts.{i}", f"({b.lat:g}, {b.lon:g})", (b.lat, b.lon))
            for i, b in enumerate(self.bursts)
        ]
        for path, what, (lat, lon) in places:
            away_m = float(haversine_m(lat, lon, city.lat, city.lon))
            found = f"{what}, {away_m:.0f} m from the city's middle"
            told = f"at most {reach_m:.0f} m: city.radius_m and city.door_max_m"
            need(away_m <= reach_m, path, found, told)

    def _check_times(self) -> None:
        length_h, end_h = self.duration_s / 3600, self.horizon_s / 3600
        for i, burst in enumerate(self.bursts):
            told = f"earlier than duration_s, {length_h:g} h"
            need(burst.at_h < length_h, f"bursts.{i}.at_h", burst.at_h, told)
        told = f"earlier than horizon_s, {end_h:g} h"
        for i, spell in enumerate(self.rain.spells):
            need(spell.from_h < end_h, f"rain.spells.{i}.from_h", spell.from_h, told)
        for i, shift in enumerate(self.riders.shifts):
            need(shift.start_h < end_h, f"riders.shifts.{i}.start_h", shift.start_h, told)
        riders = self.riders.count + self.riders.more
        for row in self.faults.clocks.riders:
            told = f"0 to {riders - 1}, rows of the riders"
            need(row < riders, "faults.clocks.riders", row, told)

    @property
    def plane(self) -> Plane:
        """The city's plane, in which every simulated actor moves."""
        return Plane(self.city.lat, self.city.lon)
