"""Where a scenario happens: its round town and how one travels in it; imports geo."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from geo.errors import InvalidValue, UnknownKey, UnknownName
from geo.travel import TravelModel, travel_model
from sim.scenario.checks import FORBID, need, need_over_zero, need_place

HOT_SPOT_M = 350.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CityKnobs:
    """A round town of `radius_m` about (lat, lon), its merchants thick around `hot_spots` cells.

    `hot_spot_m` is how far merchants spread around a hot spot's centre (standard deviation).
    `door_m` is the median beeline from a merchant to a door, never beyond `door_max_m`;
    `door_spread` is the standard deviation of its logarithm. Local hours, weekdays and dates are
    those of `zone`, an IANA name.
    """

    __pydantic_config__ = FORBID

    name: str
    lat: float
    lon: float
    radius_m: float
    hot_spots: int = 1
    hot_spot_m: float = HOT_SPOT_M
    door_m: float = 1_500.0
    door_spread: float = 0.6
    door_max_m: float = 5_000.0
    zone: str = "UTC"

    def __post_init__(self) -> None:
        need(bool(self.name), "city.name", self.name, "a name")
        need_place("city", self.lat, self.lon)
        need_over_zero(self, "city", "radius_m", "hot_spots", "hot_spot_m", "door_m", "door_max_m")
        need_over_zero(self, "city", "door_spread")
        need(self.radius_m <= 50_000, "city.radius_m", self.radius_m, "at most 50000 m")
        need(self.door_m <= self.door_max_m, "city.door_m", self.door_m, "at most city.door_max_m")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            expected = "an IANA time zone such as Asia/Shanghai"
            raise InvalidValue("city.zone", self.zone, expected) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TravelKnobs:
    """The travel model by name; what is left out takes the model's own default."""

    __pydantic_config__ = FORBID

    model: str = "straight_line"
    detour: float | None = None
    quantum_ms: int | None = None

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> TravelModel:
        """Raises UnknownName for a model that there is not, UnknownKey for a knob it has not."""
        knobs = {"detour": self.detour, "quantum_ms": self.quantum_ms}
        given = {name: value for name, value in knobs.items() if value is not None}
        try:
            return travel_model(self.model, **given)
        except UnknownName as e:
            if e.field == "travel_model":
                raise UnknownName("travel.model", e.value, e.expected) from None
            raise UnknownKey(f"travel.{e.value}", e.value, e.expected) from None
        except InvalidValue as e:
            raise InvalidValue(f"travel.{e.field}", e.value, e.expected) from None
