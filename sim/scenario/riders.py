"""Who rides in a scenario; imports the checks and the vehicles' legal speeds."""

from __future__ import annotations

from dataclasses import dataclass, field

from dispatch.vehicles import LEGAL_SPEED_MPS
from geo.errors import UnknownName
from sim.scenario.checks import (
    FORBID,
    need,
    need_day,
    need_over_zero,
    need_share,
    need_shares,
    need_zero_or_more,
)

SCOOTER = "scooter"
SPEED_LIMIT_MPS = LEGAL_SPEED_MPS[SCOOTER]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """`share` of the riders start within `spread_h` after `start_h` and work `hours`."""

    __pydantic_config__ = FORBID

    start_h: float
    hours: float
    share: float = 1.0
    spread_h: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicle:
    """`share` of the riders go by it, at `speed_mps` (never faster than its legal limit) times the
    factor of the local hour, and carry `capacity` items."""

    __pydantic_config__ = FORBID

    vehicle: str
    share: float
    speed_mps: float
    capacity: int = 8
    speed_by_hour: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        path, limit = "riders.vehicles", LEGAL_SPEED_MPS.get(self.vehicle)
        if limit is None:
            expected = "one of " + ", ".join(LEGAL_SPEED_MPS)
            raise UnknownName(f"{path}.vehicle", self.vehicle, expected)
        need_over_zero(self, path, "speed_mps")
        legal = f"at most {limit:.2f}, the legal speed of a {self.vehicle}"
        need(self.speed_mps <= limit, f"{path}.speed_mps", self.speed_mps, legal)
        need(1 <= self.capacity <= 100, f"{path}.capacity", self.capacity, "1 to 100 items")
        need_day(f"{path}.speed_by_hour", self.speed_by_hour)


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeKnobs:
    """Home is where a rider starts his shift. Of the offers whose pickup is farther than `far_m`
    from it he accepts `far_factor` times as many as of the others; at 0 m nothing is too far."""

    __pydantic_config__ = FORBID

    far_m: float = 0.0
    far_factor: float = 0.5

    def __post_init__(self) -> None:
        need_zero_or_more(self, "riders.home", "far_m")
        need_share("riders.home.far_factor", self.far_factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakKnobs:
    """After about `every_h` hours on shift a rider who has nothing to do goes off it for about
    `minutes`, each give or take a quarter; 0 hours is no breaks."""

    __pydantic_config__ = FORBID

    every_h: float = 0.0
    minutes: float = 20.0

    def __post_init__(self) -> None:
        need_zero_or_more(self, "riders.breaks", "every_h")
        need_over_zero(self, "riders.breaks", "minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class RiderKnobs:
    """Who rides, when, how fast, and how he answers.

    Of the offers a rider accepts `accept_share`, ignores `ignore_share` (they time out) and
    declines the rest; an answer takes `answer_s` on average. For each kilometre of the beeline
    from where he is to the pickup he accepts `accept_drop_per_km` less. The service that an order
    plans for a stop takes `service_factor` times as long in fact, give or take the share
    `service_spread`. Riders begin their shifts about `start_m` from a merchant: that is their home.
    Speeds spread by the share `speed_spread` and never pass the vehicle's legal limit; riders with
    none of `vehicles` go by scooter, at `speed_mps`, with `capacity` items. `more` riders come on
    top of `count`, who stay who they are.
    """

    __pydantic_config__ = FORBID

    count: int
    shifts: tuple[Shift, ...]
    speed_mps: float = 6.0
    speed_spread: float = 0.1
    capacity: int = 8
    accept_share: float = 0.93
    ignore_share: float = 0.02
    accept_drop_per_km: float = 0.0
    answer_s: float = 5.0
    fix_s: float = 5.0
    service_factor: float = 1.0
    service_spread: float = 0.2
    start_m: float = 400.0
    more: int = 0
    vehicles: tuple[Vehicle, ...] = ()
    home: HomeKnobs = field(default_factory=HomeKnobs)
    breaks: BreakKnobs = field(default_factory=BreakKnobs)

    def __post_init__(self) -> None:
        need(1 <= self.count <= 1_000_000, "riders.count", self.count, "1 to 1000000")
        need(0 <= self.more <= 1_000_000, "riders.more", self.more, "0 to 1000000")
        need(1 <= self.capacity <= 100, "riders.capacity", self.capacity, "1 to 100 items")
        need_over_zero(self, "riders", "speed_mps", "answer_s", "fix_s")
        need_zero_or_more(self, "riders", "service_factor", "start_m", "accept_drop_per_km")
        limit = SPEED_LIMIT_MPS
        need(self.speed_mps <= limit, "riders.speed_mps", self.speed_mps, f"at most {limit:.2f}")
        for name in ("accept_share", "ignore_share", "speed_spread", "service_spread"):
            need_share(f"riders.{name}", getattr(self, name))
        both = self.accept_share + self.ignore_share
        need(both <= 1.0 + 1e-9, "riders.accept_share", both, "at most 1 with ignore_share")
        need(bool(self.shifts), "riders.shifts", self.shifts, "at least one shift")
        for i, shift in enumerate(self.shifts):
            need_over_zero(shift, f"riders.shifts.{i}", "hours", "share")
            need_zero_or_more(shift, f"riders.shifts.{i}", "start_h", "spread_h")
        need_shares("riders.vehicles", [vehicle.share for vehicle in self.vehicles])
