"""The riders of a scenario: who they are, where and when they start; uses numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dispatch.model import Place, Rider
from sim.city import City, pulled_inside
from sim.scenario import HOUR_MS, SPEED_LIMIT_MPS, Scenario
from sim.streams import stream

_SPEED_MIN_MPS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One rider: as he is registered (off shift), where he starts (metres and degrees), his shift
    in ms UTC. `pace` is his true speed by the registered one."""

    rider: Rider
    x: float
    y: float
    place: Place
    shift_start_ms: int
    shift_end_ms: int
    pace: float = 1.0


def draw_crew(scenario: Scenario, city: City, seed: int) -> tuple[Member, ...]:
    """`riders.count` riders, by id."""
    knobs = scenario.riders
    count = knobs.count
    rng = stream(seed, "crew", "places")
    near = rng.choice(len(city.x), count, p=city.popular)
    x, y = pulled_inside(
        city.x[near] + rng.normal(0.0, knobs.start_m, count),
        city.y[near] + rng.normal(0.0, knobs.start_m, count),
        scenario.city.radius_m,
    )
    lat, lon = city.plane.lat_lon(x, y)
    rng = stream(seed, "crew", "speeds")
    speed = knobs.speed_mps * (1.0 + knobs.speed_spread * rng.standard_normal(count))
    speed = np.clip(speed, _SPEED_MIN_MPS, SPEED_LIMIT_MPS)
    rng = stream(seed, "crew", "shifts")
    shares = np.array([s.share for s in knobs.shifts], np.float64)
    shift = rng.choice(len(shares), count, p=shares / shares.sum())
    late_h = rng.random(count)
    crew = []
    for i in range(count):
        its = knobs.shifts[shift[i]]
        start_ms = scenario.start_ms + int((its.start_h + its.spread_h * late_h[i]) * HOUR_MS)
        crew.append(
            Member(
                rider=Rider(
                    id=f"r{i:05d}",
                    city=scenario.city.name,
                    speed_mps=float(speed[i]),
                    capacity=(knobs.capacity,),
                ),
                x=float(x[i]),
                y=float(y[i]),
                place=Place(lat=float(lat[i]), lon=float(lon[i])),
                shift_start_ms=start_ms,
                shift_end_ms=start_ms + int(its.hours * HOUR_MS),
            )
        )
    return tuple(crew)
