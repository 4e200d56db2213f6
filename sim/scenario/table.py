"""Demand by table: rates by cell and hour, doors by cell, known merchants; imports the checks.

In a scenario's file each of the three is a list of rows, or the name of a CSV file beside it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import isclose

from sim.scenario.checks import (
    FORBID,
    need,
    need_cell,
    need_place,
    need_weekday,
    need_zero_or_more,
)

QUARTERS = 96
"""Quarter hours of a day: the finest that rates are given by."""
ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Orders an hour of a job type from one H3 cell on one weekday, in equal parts of the local
    day: 1, 24 or 96 of them. `any` is every weekday on which the job type has no row at all."""

    __pydantic_config__ = FORBID

    cell: str
    per_h: tuple[float, ...]
    weekday: str = ANY
    job_type: str = ""

    def __post_init__(self) -> None:
        need_cell("demand.rates.cell", self.cell)
        need_weekday("demand.rates.weekday", self.weekday, ANY)
        parts = len(self.per_h)
        need(parts in (1, 24, QUARTERS), "demand.rates.per_h", parts, "1, 24 or 96 numbers")
        for rate in self.per_h:
            need(0 <= rate < 1e6, "demand.rates.per_h", rate, "zero or more orders an hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """The share of the orders from `cell` that go to `door_cell`, an H3 cell of any size.

    What the rows of a cell leave over goes by `city.door_m` and `door_spread`, in a direction that
    rows of the cell `any` make likely: those have the share of all orders, in cells of one size.
    """

    __pydantic_config__ = FORBID

    cell: str
    door_cell: str
    share: float

    def __post_init__(self) -> None:
        if self.cell != ANY:
            need_cell("demand.doors.cell", self.cell)
        need_cell("demand.doors.door_cell", self.door_cell)
        need(0 < self.share <= 1, "demand.doors.share", self.share, "a share above 0, at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMerchant:
    """A merchant at its place, with its part of the orders of its cell (any positive weight).

    Its preparation takes `prep_s` on average, spread by the share `prep_spread`; 0 is what the
    scenario's merchants take.
    """

    __pydantic_config__ = FORBID

    id: str
    lat: float
    lon: float
    weight: float = 1.0
    prep_s: float = 0.0
    prep_spread: float = 0.0

    def __post_init__(self) -> None:
        need(bool(self.id), "demand.merchants.id", self.id, "an id")
        need_place("demand.merchants", self.lat, self.lon)
        need(0 < self.weight < 1e12, "demand.merchants.weight", self.weight, "a number above 0")
        need_zero_or_more(self, "demand.merchants", "prep_s", "prep_spread")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandKnobs:
    """Where and when orders come from, as an alternative to `orders.count` and hot spots.

    Orders are Poisson at `factor` times the `rates`. Without `merchants` the scenario's
    `merchants.count` are drawn evenly around the cells; a cell with rates but no merchant is
    served by one in its middle.
    """

    __pydantic_config__ = FORBID

    rates: tuple[Rate, ...] = ()
    doors: tuple[Doors, ...] = ()
    merchants: tuple[KnownMerchant, ...] = ()
    factor: float = 1.0

    def __post_init__(self) -> None:
        need_zero_or_more(self, "demand", "factor")
        alone = bool(self.rates) or not (self.doors or self.merchants)
        need(alone, "demand.rates", (), "rates, without which doors and merchants say nothing")
        rows = [(rate.job_type, rate.weekday, rate.cell) for rate in self.rates]
        once = len(rows) == len(set(rows))
        need(once, "demand.rates", "rows twice", "one row a job type, weekday and cell")
        ids = [merchant.id for merchant in self.merchants]
        need(len(ids) == len(set(ids)), "demand.merchants", "an id twice", "ids that stand once")
        total: dict[str, float] = defaultdict(float)
        for row in self.doors:
            total[row.cell] += row.share
        for cell, share in total.items():
            fits = share <= 1.0 or isclose(share, 1.0, abs_tol=1e-4)
            need(fits, f"demand.doors of {cell}", share, "shares that sum to 1 at most")

    def __bool__(self) -> bool:
        return bool(self.rates)
