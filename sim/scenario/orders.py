"""How many orders come when, and what their customers are like; imports the checks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date

from geo.errors import InvalidValue
from sim.scenario.checks import (
    FORBID,
    need,
    need_over_zero,
    need_place,
    need_share,
    need_shares,
    need_weekday,
    need_zero_or_more,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A bell of demand: its centre, its standard deviation, its share of all orders."""

    __pydantic_config__ = FORBID

    at_h: float
    width_h: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKnobs:
    """`count` orders: each peak's share around its hour, the rest evenly over the duration.

    Where `demand` has rates they say how many come, and `count` stays 0.
    """

    __pydantic_config__ = FORBID

    count: int = 0
    peaks: tuple[Peak, ...] = ()
    items_max: int = 2

    def __post_init__(self) -> None:
        need(0 <= self.count <= 5_000_000, "orders.count", self.count, "1 to 5000000")
        need(1 <= self.items_max <= 10, "orders.items_max", self.items_max, "1 to 10")
        for i, peak in enumerate(self.peaks):
            need_over_zero(peak, f"orders.peaks.{i}", "width_h")
        need_shares("orders.peaks", [peak.share for peak in self.peaks])


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """`share` of the orders are promised `minutes` after they are placed."""

    __pydantic_config__ = FORBID

    minutes: float
    share: float

    def __post_init__(self) -> None:
        need_over_zero(self, "customers.promises", "minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerKnobs:
    """A share `cancel_share` cancels what is not picked up after `patience_s` on average.

    A share `unreachable_share` is not at the door: the rider waits `wait_s`, reports the stop as
    failed, and brings the goods back. A share `tip_share` tips, `tip_fen` on average, once the
    order is done. Orders of none of the `promises` have what their job type promises.
    """

    __pydantic_config__ = FORBID

    cancel_share: float = 0.02
    patience_s: float = 1_200.0
    unreachable_share: float = 0.0
    wait_s: float = 300.0
    tip_share: float = 0.0
    tip_fen: float = 300.0
    promises: tuple[Promise, ...] = ()

    def __post_init__(self) -> None:
        for name in ("cancel_share", "unreachable_share", "tip_share"):
            need_share(f"customers.{name}", getattr(self, name))
        need_over_zero(self, "customers", "patience_s")
        need_zero_or_more(self, "customers", "wait_s", "tip_fen")
        need_shares("customers.promises", [promise.share for promise in self.promises])


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialDay:
    """On `date` (YYYY-MM-DD) or on each `weekday`, `factor` times as many orders come.

    Of `job_type` alone, if there is one. The hours are local.
    """

    __pydantic_config__ = FORBID

    factor: float
    date: str = ""
    weekday: str = ""
    job_type: str = ""

    def __post_init__(self) -> None:
        need_zero_or_more(self, "days", "factor")
        one = bool(self.date) != bool(self.weekday)
        need(one, "days", self.date or self.weekday, "either a date or a weekday")
        if self.weekday:
            need_weekday("days.weekday", self.weekday)
        else:
            try:
                date.fromisoformat(self.date)
            except ValueError:
                raise InvalidValue("days.date", self.date, "a date as YYYY-MM-DD") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """Rain from `from_h` to `to_h`, hours after the start: so many times as many orders, as fast
    riders, as many accepted offers; what is None is as `rain` has it."""

    __pydantic_config__ = FORBID

    from_h: float
    to_h: float
    demand_factor: float | None = None
    speed_factor: float | None = None
    accept_factor: float | None = None

    def __post_init__(self) -> None:
        need_zero_or_more(self, "rain.spells", "from_h")
        need(self.to_h > self.from_h, "rain.spells.to_h", self.to_h, "later than from_h")
        _need_factors(self, "rain.spells")


@dataclass(frozen=True, slots=True, kw_only=True)
class RainKnobs:
    """The `spells` that are told, and `per_day` more that are drawn, `hours` long on average.

    The factors are those of the drawn spells, and of the told ones that have none of their own.
    """

    __pydantic_config__ = FORBID

    spells: tuple[Spell, ...] = ()
    per_day: float = 0.0
    hours: float = 1.0
    demand_factor: float = 1.2
    speed_factor: float = 0.85
    accept_factor: float = 0.95

    def __post_init__(self) -> None:
        need_zero_or_more(self, "rain", "per_day")
        need_over_zero(self, "rain", "hours")
        _need_factors(self, "rain")
        told = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        rains = bool(self.spells) or self.per_day > 0
        for name in told:
            found = getattr(self, name)
            need(rains, f"rain.{name}", found, "rain.spells or rain.per_day: it never rains")
        drawn = self.per_day > 0 or "hours" not in told
        need(drawn, "rain.hours", self.hours, "rain.per_day beside it: told spells have their ends")


def _need_factors(rain: Spell | RainKnobs, path: str) -> None:
    if rain.demand_factor is not None:
        need_zero_or_more(rain, path, "demand_factor")
    fast, willing = rain.speed_factor, rain.accept_factor
    if fast is not None:
        need(0 < fast <= 1, f"{path}.speed_factor", fast, "above 0, up to 1")
    if willing is not None:
        need_share(f"{path}.accept_factor", willing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """A stadium empties: `orders` from within `radius_m` of a place come in the `over_min` minutes
    after `at_h`, on top of all others. Their job type is `job_type`, or the scenario's first."""

    __pydantic_config__ = FORBID

    at_h: float
    lat: float
    lon: float
    orders: int
    radius_m: float = 300.0
    over_min: float = 30.0
    job_type: str = ""

    def __post_init__(self) -> None:
        need_place("bursts", self.lat, self.lon)
        need_zero_or_more(self, "bursts", "at_h")
        need_over_zero(self, "bursts", "radius_m", "over_min")
        need(1 <= self.orders <= 1_000_000, "bursts.orders", self.orders, "1 to 1000000")
