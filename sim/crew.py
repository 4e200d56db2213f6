"""The riders of a scenario: who they are, what they ride, where and when they start; uses numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from dispatch.model import Place, Rider
from sim.city import F8, I8, City, pulled_inside
from sim.hours import LocalTime, local_time
from sim.scenario import HOUR_MS, LEGAL_SPEED_MPS, SCOOTER, RiderKnobs, Scenario, Vehicle
from sim.streams import stream
from sim.weather import Conditions, conditions, draw_rain

_SPEED_MIN_MPS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One rider: as he is registered (off shift), where he starts (metres and degrees), his shift
    in ms UTC.

    `pace` is his true speed by the registered one. Where his speed or his mind changes in the
    course of the day, `conditions` say by how much more his true speed differs from the registered
    one, which is his mean over the shift without rain.
    """

    rider: Rider
    x: float
    y: float
    place: Place
    shift_start_ms: int
    shift_end_ms: int
    pace: float = 1.0
    conditions: Conditions | None = None


class _Chance(NamedTuple):
    """What is drawn about n riders: the merchant near whom each starts, how far from it in metres,
    a standard normal of his speed, the row of his shift, and how late in its spread it begins."""

    near: I8
    east_m: F8
    north_m: F8
    speed: F8
    shift: I8
    late: F8


def draw_crew(scenario: Scenario, city: City, seed: int) -> tuple[Member, ...]:
    """`riders.count` riders and `riders.more`, by id."""
    knobs = scenario.riders
    size = knobs.count + knobs.more
    chance = _chance(knobs, city, seed)
    x, y = pulled_inside(
        city.x[chance.near] + chance.east_m,
        city.y[chance.near] + chance.north_m,
        scenario.city.radius_m,
    )
    lat, lon = city.plane.lat_lon(x, y)
    own = _vehicles(knobs)
    row = _vehicle_rows(knobs, size, seed)
    speed = np.array([v.speed_mps for v in own])[row] * (1.0 + knobs.speed_spread * chance.speed)
    speed = np.clip(speed, _SPEED_MIN_MPS, np.array([LEGAL_SPEED_MPS[v.vehicle] for v in own])[row])
    paces = _Paces(scenario, own, seed)
    crew = []
    for i in range(size):
        its, vehicle = knobs.shifts[chance.shift[i]], own[row[i]]
        start_h = its.start_h + its.spread_h * chance.late[i]
        start_ms = scenario.start_ms + int(start_h * HOUR_MS)
        end_ms = start_ms + int(its.hours * HOUR_MS)
        mean_mps, of_day = paces.of(int(row[i]), float(speed[i]), start_ms, end_ms)
        crew.append(
            Member(
                rider=Rider(
                    id=f"r{i:05d}",
                    city=scenario.city.name,
                    vehicle=vehicle.vehicle,
                    speed_mps=mean_mps,
                    capacity=(vehicle.capacity,),
                ),
                x=float(x[i]),
                y=float(y[i]),
                place=Place(lat=float(lat[i]), lon=float(lon[i])),
                shift_start_ms=start_ms,
                shift_end_ms=end_ms,
                conditions=of_day,
            )
        )
    return tuple(crew)


def _chance(knobs: RiderKnobs, city: City, seed: int) -> _Chance:
    """Of the `count` riders, and after them of those who come on top, drawn so that there can be
    more of these without any change to the others: one stream for each thing that is drawn."""
    count, shares = knobs.count, np.array([s.share for s in knobs.shifts], np.float64)
    shares /= shares.sum()
    rng, speeds, shifts = (stream(seed, "crew", name) for name in ("places", "speeds", "shifts"))
    first = _Chance(
        rng.choice(len(city.x), count, p=city.popular),
        rng.normal(0.0, knobs.start_m, count),
        rng.normal(0.0, knobs.start_m, count),
        speeds.standard_normal(count),
        shifts.choice(len(shares), count, p=shares),
        shifts.random(count),
    )
    if not knobs.more:
        return first
    own = partial(stream, seed, "crew", "more")
    more = _Chance(
        own("near").choice(len(city.x), knobs.more, p=city.popular),
        own("east").normal(0.0, knobs.start_m, knobs.more),
        own("north").normal(0.0, knobs.start_m, knobs.more),
        own("speeds").standard_normal(knobs.more),
        own("shifts").choice(len(shares), knobs.more, p=shares),
        own("late").random(knobs.more),
    )
    return _Chance(*(np.append(a, b) for a, b in zip(first, more, strict=True)))


def _vehicles(knobs: RiderKnobs) -> tuple[Vehicle, ...]:
    """What there is to ride, the scooter of those who have none of `vehicles` last."""
    scooter = Vehicle(
        vehicle=SCOOTER, share=1.0, speed_mps=knobs.speed_mps, capacity=knobs.capacity
    )
    return (*knobs.vehicles, scooter)


def _vehicle_rows(knobs: RiderKnobs, size: int, seed: int) -> I8:
    """The vehicle of each rider; one that is added goes to riders who had none."""
    ends = np.cumsum([v.share for v in knobs.vehicles])
    if not len(ends):
        return np.zeros(size, np.int64)
    # Shares that sum to 1 up to their last bits leave nobody over.
    ends[-1] = 1.0 if ends[-1] > 1.0 - 1e-9 else ends[-1]
    row = np.searchsorted(ends, stream(seed, "crew", "vehicles").random(size), side="right")
    return row.astype(np.int64)


class _Paces:
    """How the speed of each kind of rider changes in the course of the day."""

    def __init__(self, scenario: Scenario, vehicles: Sequence[Vehicle], seed: int) -> None:
        self._vehicles = vehicles
        rain = draw_rain(scenario, seed)
        self._conditions = [conditions(scenario, rain, v.speed_by_hour) for v in vehicles]
        self._scaled: dict[tuple[int, float], Conditions] = {}
        self._local: LocalTime | None = None
        if any(v.speed_by_hour for v in vehicles):
            last = max(s.start_h + s.spread_h + s.hours for s in scenario.riders.shifts)
            end_ms = scenario.start_ms + int(last * HOUR_MS)
            self._local = local_time(scenario.start_ms, end_ms, scenario.city.zone)

    def of(
        self, row: int, speed_mps: float, start_ms: int, end_ms: int
    ) -> tuple[float, Conditions | None]:
        """The speed to register, and by how much the true one differs from it when."""
        vehicle, of_day = self._vehicles[row], self._conditions[row]
        if not vehicle.speed_by_hour or of_day is None:
            return speed_mps, of_day
        assert self._local is not None
        first, last = self._local.bins(np.array([start_ms, end_ms - 1], np.int64)).tolist()
        hours = self._local.quarter[first : last + 1] // 4
        factors = np.array(vehicle.speed_by_hour)
        usual = float(factors[hours].mean())
        legal = LEGAL_SPEED_MPS[vehicle.vehicle]
        if speed_mps * float(factors.max()) <= legal:  # as nearly all, who share what they can
            if (row, usual) not in self._scaled:
                self._scaled[row, usual] = of_day.scaled(1.0 / usual)
            return speed_mps * usual, self._scaled[row, usual]
        mean = min(speed_mps * usual, legal)
        return mean, of_day.scaled(speed_mps / mean, legal / mean)
