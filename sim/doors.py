"""Where orders go: doors at a drawn distance, or in the cells that a table names; uses geo."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from geo.cells import boundary_of, cells_of, of_text, resolution_of
from geo.distance import Plane
from sim.city import F8, I8, City, pulled_inside
from sim.scenario import ANY, CityKnobs, Scenario
from sim.streams import Streams

_DOOR_MIN_M = 30.0
_SIDES = 6
_DIRECTIONS = 12
"""Of so many directions, evenly turned from the one drawn, one is taken by where orders go."""


class DoorLaw:
    """Draws doors for merchants of a city, by the scenario's table and its law of distance."""

    def __init__(self, scenario: Scenario, city: City) -> None:
        self._knobs, self._city = scenario.city, city
        rows: dict[int, list[tuple[int, float]]] = {}
        self._often: dict[int, float] = {}
        for row in scenario.demand.doors:
            if row.cell == ANY:
                self._often[of_text(row.door_cell)] = row.share
            else:
                rows.setdefault(of_text(row.cell), []).append((of_text(row.door_cell), row.share))
        self._table = {
            cell: (np.array([c for c, _ in to], np.int64), np.cumsum([share for _, share in to]))
            for cell, to in rows.items()
        }

    def draw(self, merchant: I8, streams: Streams) -> tuple[F8, F8]:
        """(x, y) in metres of a door for each order from a merchant (a row of the city)."""
        city = self._city
        from_x, from_y = city.x[merchant], city.y[merchant]
        x, y = _at_a_distance(self._knobs, from_x, from_y, streams("doors"))
        if self._often:
            x, y = self._turned(from_x, from_y, x, y, streams("door turns"))
        if self._table:
            self._by_table(city.cell[merchant], x, y, streams)
        return x, y

    def _turned(
        self, from_x: F8, from_y: F8, x: F8, y: F8, rng: np.random.Generator
    ) -> tuple[F8, F8]:
        """As far away, but where doors are, as often as they are there (importance resampling:
        D. Rubin 1987); as drawn where there are none all around."""
        turn = np.exp(2j * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS)
        around = (from_x + 1j * from_y)[:, None] + (x - from_x + 1j * (y - from_y))[:, None] * turn
        lat, lon = self._city.plane.lat_lon(around.real.ravel(), around.imag.ravel())
        cells = cells_of(lat, lon, resolution_of(next(iter(self._often))))
        often = np.array([self._often.get(cell, 0.0) for cell in cells.tolist()])
        ends = np.cumsum(often.reshape(around.shape), axis=1)
        at = rng.random(len(x)) * ends[:, -1]
        pick = np.where(ends[:, -1] > 0, (ends <= at[:, None]).sum(axis=1), 0)
        found = around[np.arange(len(x)), np.minimum(pick, _DIRECTIONS - 1)]
        return found.real.copy(), found.imag.copy()

    def _by_table(self, cell: I8, x: F8, y: F8, streams: Streams) -> None:
        """Moves the doors that the table places."""
        which = streams("door cells").random(len(cell))
        inside = streams("door places").random((len(cell), 3))
        for pickup in np.unique(cell).tolist():
            if pickup not in self._table:
                continue
            cells, ends = self._table[pickup]
            row = np.searchsorted(ends, which, side="right")
            mine = np.flatnonzero((cell == pickup) & (row < len(cells)))
            if len(mine):
                to = cells[row[mine]].tolist()
                x[mine], y[mine] = _in_cells(self._city.plane, to, inside[mine])


def _at_a_distance(knobs: CityKnobs, x: F8, y: F8, rng: np.random.Generator) -> tuple[F8, F8]:
    """A door for each merchant's place: any direction, but back into town rather than out of it."""
    count = len(x)
    way_m = rng.lognormal(np.log(knobs.door_m), knobs.door_spread, count)
    way_m = np.clip(way_m, min(_DOOR_MIN_M, knobs.door_m), knobs.door_max_m)
    angle = rng.uniform(0.0, 2.0 * np.pi, count)
    outside = np.hypot(x + way_m * np.cos(angle), y + way_m * np.sin(angle)) > knobs.radius_m
    angle = np.where(outside, angle + np.pi, angle)
    return pulled_inside(x + way_m * np.cos(angle), y + way_m * np.sin(angle), knobs.radius_m)


def _in_cells(plane: Plane, cells: list[int], chance: F8) -> tuple[F8, F8]:
    """A point evenly within each cell, by three uniforms: a side, and a place in its triangle."""
    corners = np.array([_corners(plane, cell) for cell in cells])
    n = np.arange(len(cells))
    side = (chance[:, 0] * _SIDES).astype(np.int64)
    a, b = corners[n, side], corners[n, (side + 1) % _SIDES]
    middle = corners.mean(axis=1)
    u, v = chance[:, 1:2], chance[:, 2:3]
    beyond = u + v > 1.0  # the other half of the parallelogram
    u, v = np.where(beyond, 1.0 - u, u), np.where(beyond, 1.0 - v, v)
    point = middle + u * (a - middle) + v * (b - middle)
    return point[:, 0], point[:, 1]


@lru_cache(maxsize=1 << 16)
def _corners(plane: Plane, cell: int) -> F8:
    """Six corners in metres; of the few cells that have another number of them, six spread evenly
    over their boundary."""
    corners = boundary_of(cell)
    picked = [corners[i * len(corners) // _SIDES] for i in range(_SIDES)]
    lat, lon = np.array(picked).T
    return np.column_stack(plane.xy(lat, lon))
