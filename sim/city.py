"""The town of a scenario: hot spots by H3 cell and the merchants around them; uses numpy and geo.

Places are metres in the city's plane (`Scenario.plane`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.cells import POOL_RESOLUTION, cell_of, cells_of, center_of, disk, edge_m
from geo.distance import Plane
from geo.errors import InvalidValue
from sim.scenario import Scenario
from sim.streams import stream

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

_LAST_HOT_SPOT = 0.25
"""How busy the least busy hot spot is, by the busiest."""


@dataclass(frozen=True, slots=True, eq=False)
class City:
    """Columns: h hot spots (cells with a weight that sums to 1) and m merchants.

    `popular` is a merchant's share of all orders; `cell` its H3 cell at the pool's resolution.
    """

    plane: Plane
    hot_cell: I8
    hot_weight: F8
    x: F8
    y: F8
    cell: I8
    popular: F8

    def merchant_id(self, row: int) -> str:
        return f"m{row:05d}"


def build_city(scenario: Scenario, seed: int) -> City:
    """The same town for the same scenario and seed. InvalidValue for more hot spots than cells."""
    knobs, plane = scenario.city, scenario.plane
    cells = _cells_within(plane, knobs.radius_m)
    count = knobs.hot_spots
    if count > len(cells):
        expected = f"at most {len(cells)}, the cells within city.radius_m"
        raise InvalidValue("city.hot_spots", count, expected)
    rng = stream(seed, "city", "hot spots")
    hot = rng.choice(cells, count, replace=False)
    weight = np.linspace(1.0, _LAST_HOT_SPOT, count)
    weight /= weight.sum()

    rng = stream(seed, "city", "merchants")
    size = scenario.merchants.count
    spot = rng.choice(count, size, p=weight)
    # Every hot spot has a merchant as long as there are enough of them.
    spot[: min(count, size)] = np.arange(min(count, size))
    centre = np.array([plane.xy(*center_of(int(c))) for c in hot])
    x, y = (centre[spot] + rng.normal(0.0, knobs.hot_spot_m, (size, 2))).T
    x, y = pulled_inside(x, y, knobs.radius_m)
    popular = rng.lognormal(0.0, 0.7, size)
    lat, lon = plane.lat_lon(x, y)
    return City(
        plane=plane,
        hot_cell=hot.astype(np.int64),
        hot_weight=weight,
        x=x,
        y=y,
        cell=cells_of(lat, lon),
        popular=popular / popular.sum(),
    )


def pulled_inside(x: F8, y: F8, radius_m: float) -> tuple[F8, F8]:
    """The points (metres), those farther than `radius_m` from the centre pulled onto the edge."""
    scale = radius_m / np.maximum(np.hypot(x, y), radius_m)
    return x * scale, y * scale


def _cells_within(plane: Plane, radius_m: float) -> I8:
    """The cells whose centre lies in the town, sorted; at least the one in the middle."""
    middle = cell_of(plane.lat0, plane.lon0)
    # Neighbouring centres are sqrt(3) edges apart; hexagons are up to a third smaller than the
    # mean one, and a ring is a hexagon, whose sides are nearer than its corners.
    rings = 1 + int(radius_m / (edge_m(POOL_RESOLUTION) * 0.9))
    near = [c for c in disk(middle, rings) if np.hypot(*plane.xy(*center_of(c))) <= radius_m]
    return np.array(near or [middle], np.int64)
