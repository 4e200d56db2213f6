"""The town of a scenario: busy cells and the merchants in and around them; uses numpy and geo.

Places are metres in the city's plane (`Scenario.plane`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.cells import POOL_RESOLUTION, cell_of, cells_of, center_of, disk, edge_m, of_text, to_text
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
    """Columns: h busy cells (with a weight that sums to 1) and m merchants.

    `popular` is a merchant's share of all orders, or of its cell's where rates are by cell; `cell`
    its H3 cell at the pool's resolution; `kind` 0 or 1 + its row in `merchants.kinds`; `prep_s`
    and `prep_spread` its own, 0 where it has those of its kind.
    """

    plane: Plane
    hot_cell: I8
    hot_weight: F8
    ids: tuple[str, ...]
    x: F8
    y: F8
    cell: I8
    popular: F8
    kind: I8
    prep_s: F8
    prep_spread: F8

    def merchant_id(self, row: int) -> str:
        return self.ids[row]


def build_city(scenario: Scenario, seed: int) -> City:
    """The same town for the same scenario and seed. InvalidValue for more hot spots than cells."""
    plane = scenario.plane
    hot, weight = _rated_cells(scenario) if scenario.demand else _hot_spots(scenario, seed)
    known = scenario.demand.merchants
    if known:
        ids = tuple(merchant.id for merchant in known)
        x, y = plane.xy(np.array([m.lat for m in known]), np.array([m.lon for m in known]))
        popular = np.array([m.weight for m in known])
    else:
        # Rates say how busy a cell is: where merchants are must not change with them.
        even = np.full(len(hot), 1.0 / len(hot)) if scenario.demand else weight
        x, y, popular = _draw_merchants(scenario, seed, hot, even)
        ids = tuple(f"m{row:05d}" for row in range(len(x)))
    lat, lon = plane.lat_lon(x, y)
    cell = cells_of(lat, lon)
    if scenario.demand:
        bare = np.setdiff1d(hot, cell)
        middle = np.array([plane.xy(*center_of(int(c))) for c in bare]).reshape(-1, 2)
        ids += tuple(f"cell-{to_text(int(c))}" for c in bare)
        x, y = np.append(x, middle[:, 0]), np.append(y, middle[:, 1])
        cell, popular = np.append(cell, bare), np.append(popular, np.ones(len(bare)))
    own = [(m.prep_s, m.prep_spread) for m in known] + [(0.0, 0.0)] * (len(ids) - len(known))
    kinds = scenario.merchants.kinds
    kind = _draw_kinds(scenario, seed, len(ids))
    popular = popular * np.array([1.0, *(k.popularity for k in kinds)])[kind]
    return City(
        plane=plane,
        hot_cell=hot,
        hot_weight=weight,
        ids=ids,
        x=x,
        y=y,
        cell=cell,
        popular=popular / popular.sum(),
        kind=kind,
        prep_s=np.array([prep_s for prep_s, _ in own]),
        prep_spread=np.array([spread for _, spread in own]),
    )


def _hot_spots(scenario: Scenario, seed: int) -> tuple[I8, F8]:
    knobs = scenario.city
    cells = _cells_within(scenario.plane, knobs.radius_m)
    count = knobs.hot_spots
    if count > len(cells):
        expected = f"at most {len(cells)}, the cells within city.radius_m"
        raise InvalidValue("city.hot_spots", count, expected)
    rng = stream(seed, "city", "hot spots")
    hot = rng.choice(cells, count, replace=False)
    weight = np.linspace(1.0, _LAST_HOT_SPOT, count)
    return hot.astype(np.int64), weight / weight.sum()


def _rated_cells(scenario: Scenario) -> tuple[I8, F8]:
    """The cells that have rates, sorted, weighted by them."""
    total: dict[int, float] = {}
    for rate in scenario.demand.rates:
        cell = of_text(rate.cell)
        total[cell] = total.get(cell, 0.0) + sum(rate.per_h) / len(rate.per_h)
    cells = sorted(total)
    weight = np.array([total[cell] for cell in cells])
    return np.array(cells, np.int64), weight / max(float(weight.sum()), 1e-300)


def _draw_merchants(scenario: Scenario, seed: int, hot: I8, weight: F8) -> tuple[F8, F8, F8]:
    """Places and popularity of `merchants.count` merchants around the busy cells."""
    plane, knobs = scenario.plane, scenario.city
    rng = stream(seed, "city", "merchants")
    size, count = scenario.merchants.count, len(hot)
    spot = rng.choice(count, size, p=weight)
    # Every hot spot has a merchant as long as there are enough of them.
    spot[: min(count, size)] = np.arange(min(count, size))
    centre = np.array([plane.xy(*center_of(int(c))) for c in hot])
    x, y = (centre[spot] + rng.normal(0.0, knobs.hot_spot_m, (size, 2))).T
    x, y = pulled_inside(x, y, knobs.radius_m)
    return x, y, rng.lognormal(0.0, 0.7, size)


def _draw_kinds(scenario: Scenario, seed: int, size: int) -> I8:
    """0 for a merchant of no kind, else 1 + the kind's row. One more kind takes its merchants from
    those of no kind, and no merchant's draw depends on how many there are."""
    ends = np.cumsum([kind.share for kind in scenario.merchants.kinds])
    if not len(ends):
        return np.zeros(size, np.int64)
    row = np.searchsorted(ends, stream(seed, "city", "kinds").random(size), side="right")
    return np.where(row < len(ends), row + 1, 0).astype(np.int64)


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
