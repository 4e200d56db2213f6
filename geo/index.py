"""The k nearest of many points: a snapshot's points by cell; may import numpy and numba.

The points of one cell form a bucket with the box, in metres, that bounds them. A query visits
buckets in the order of their boxes' distance and stops when the next box is farther than the k-th
point found. That is exact whatever the shape of the cells: no bound on how far a ring of hexagons
must be is assumed, so pentagons, distortion and the plane's own error cost nothing.
"""

from __future__ import annotations

import heapq
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from geo.cells import disk
from geo.compiled import compiled
from geo.errors import InvalidValue

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
RowArray: TypeAlias = NDArray[np.int32]


class CellIndex:
    """Nearest points among n, given as columns; read-only once built.

    `cells` int64[n]; `x`, `y` float64[n] in metres of one plane. InvalidValue if the columns
    differ in length or a coordinate is not finite.
    """

    __slots__ = ("_all", "_boxes", "_first", "_order", "_slot", "_slots", "_x", "_y", "size")

    def __init__(self, cells: IntArray, x: FloatArray, y: FloatArray) -> None:
        if not len(cells) == len(x) == len(y):
            raise InvalidValue("columns", (len(cells), len(x), len(y)), "one length")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise InvalidValue("x, y", "NaN or infinity", "finite metres")
        self.size = len(cells)
        self._all = np.ones(self.size, np.bool_)
        self._order = np.argsort(cells, kind="stable").astype(np.int32)
        self._x = np.asarray(x, np.float64)[self._order]
        self._y = np.asarray(y, np.float64)[self._order]
        occupied, starts = np.unique(np.asarray(cells)[self._order], return_index=True)
        self._first = np.append(starts, self.size).astype(np.int64)
        self._slot = {cell: slot for slot, cell in enumerate(occupied.tolist())}
        self._slots = np.arange(len(occupied))
        self._boxes = np.empty((len(occupied), 4))
        if self.size:
            for column, (bound, values) in enumerate(
                (
                    (np.minimum, self._x),
                    (np.maximum, self._x),
                    (np.minimum, self._y),
                    (np.maximum, self._y),
                )
            ):
                self._boxes[:, column] = bound.reduceat(values, starts)

    def nearest(
        self,
        cell: int,
        x: float,
        y: float,
        k: int,
        eligible: BoolArray | None = None,
        max_ring: int | None = None,
    ) -> RowArray:
        """int32 rows of the k nearest eligible points to (x, y), by (distance, row).

        Fewer than k if there are fewer. `eligible` bool[n] leaves points out; `max_ring` leaves
        out points in cells more than so many steps from `cell` (which is not read otherwise).
        """
        if k < 0:
            raise InvalidValue("k", k, "0 or more points")
        if eligible is None:
            eligible = self._all
        elif eligible.shape != (self.size,) or eligible.dtype != np.bool_:
            shown = f"{eligible.dtype}{list(eligible.shape)}"
            raise InvalidValue("eligible", shown, f"bool[{self.size}]")
        slots = self._slots if max_ring is None else self._slots_within(cell, max_ring)
        return _nearest(
            x, y, min(k, self.size), eligible, slots,
            self._first, self._boxes, self._order, self._x, self._y,
        )  # fmt: skip

    def nearest_many(
        self,
        cells: IntArray,
        x: FloatArray,
        y: FloatArray,
        k: int,
        eligible: BoolArray | None = None,
        max_ring: int | None = None,
    ) -> tuple[IntArray, RowArray]:
        """`nearest` for m queries, as (indptr int64[m + 1], rows int32[indptr[m]]).

        The rows of query i are `rows[indptr[i]:indptr[i + 1]]`; `eligible` is bool[m, n].
        """
        m = len(cells)
        if not m == len(x) == len(y):
            raise InvalidValue("queries", (m, len(x), len(y)), "one length")
        if eligible is not None and eligible.shape != (m, self.size):
            raise InvalidValue("eligible", eligible.shape, f"shape ({m}, {self.size})")
        found = [
            self.nearest(
                int(cells[i]), x[i], y[i], k, None if eligible is None else eligible[i], max_ring
            )
            for i in range(m)
        ]
        indptr = np.cumsum([0, *map(len, found)], dtype=np.int64)
        return indptr, np.concatenate([np.empty(0, np.int32), *found])

    def _slots_within(self, cell: int, max_ring: int) -> IntArray:
        near = [self._slot[c] for c in disk(cell, max_ring) if c in self._slot]
        return np.array(near, np.int64)


@compiled(
    "int32[::1](float64, float64, int64, Array(boolean, 1, 'A', True), int64[::1], int64[::1],"
    " float64[:, ::1], int32[::1], float64[::1], float64[::1])"
)
def _nearest(
    x: float,
    y: float,
    k: int,
    eligible: BoolArray,
    slots: IntArray,
    first: IntArray,
    boxes: FloatArray,
    order: RowArray,
    px: FloatArray,
    py: FloatArray,
) -> RowArray:
    """Distances are squared; rounding is monotone, so a box is never farther than its points."""
    if k == 0 or slots.size == 0:
        return np.empty(0, np.int32)
    queue = [(0.0, 0) for _ in range(slots.size)]
    for i in range(slots.size):
        slot = slots[i]
        dx = max(boxes[slot, 0] - x, x - boxes[slot, 1], 0.0)
        dy = max(boxes[slot, 2] - y, y - boxes[slot, 3], 0.0)
        queue[i] = (dx * dx + dy * dy, slot)
    heapq.heapify(queue)
    # A heap with the worst of the best on top: negated, so that ties leave the lower row.
    best: list[tuple[float, int]] = [(-np.inf, 0) for _ in range(0)]
    while len(queue) > 0:
        bound, slot = heapq.heappop(queue)
        if len(best) == k and bound > -best[0][0]:
            break
        for i in range(first[slot], first[slot + 1]):
            row = int(order[i])
            if not eligible[row]:
                continue
            dx, dy = px[i] - x, py[i] - y
            point = (-(dx * dx + dy * dy), -row)
            if len(best) < k:
                heapq.heappush(best, point)
            elif point > best[0]:
                heapq.heapreplace(best, point)
    rows = np.empty(len(best), np.int32)
    for i in range(rows.size - 1, -1, -1):
        rows[i] = -heapq.heappop(best)[1]
    return rows
