"""The k nearest of many points in a plane, all queries in one compiled call; may import numba.

Points fall into square buckets. A query walks the buckets ring by ring around its own and stops
when the next ring is farther than the k-th point found, which is exact. Few queries over few points
get one bucket: to sort points that are looked at once would cost more than to look at all.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from geo.compiled import compiled, core, inlined
from geo.errors import InvalidValue

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
RowArray: TypeAlias = NDArray[np.int32]

BUCKET_POINTS = 6  # that a bucket would hold if points were spread evenly
BUCKETS_MAX = 256  # a side
FEW_QUERIES = 8
# Rings are taken for that much nearer than they are, relative to the coordinates: far above what
# float64 loses in them, far below a millimetre in a city.
SLACK = 1e-12


@core("void(float64[::1], float64[::1], int64, float64[::1], int64[::1])")
def _lay_out(px: FloatArray, py: FloatArray, side: int, grid: FloatArray, shape: IntArray) -> None:
    x0, x1, y0, y1 = px[0], px[0], py[0], py[0]
    for i in range(px.size):
        x0, x1 = min(x0, px[i]), max(x1, px[i])
        y0, y1 = min(y0, py[i]), max(y1, py[i])
    slack = SLACK * (abs(x0) + abs(x1) + abs(y0) + abs(y1)) + 1e-300
    width = max(x1 - x0, y1 - y0) / side + slack
    grid[0], grid[1], grid[2], grid[3] = x0, y0, width, slack
    shape[0], shape[1] = int((x1 - x0) / width) + 1, int((y1 - y0) / width) + 1


@inlined
def _bucket(x: float, y: float, grid: FloatArray, shape: IntArray) -> int:
    return int(int((y - grid[1]) / grid[2]) * shape[0] + int((x - grid[0]) / grid[2]))


@core(
    "void(float64[::1], float64[::1], int64[::1], float64[::1], int64[::1], int32[::1],"
    " int32[::1], float64[:, ::1], int64[::1])"
)
def _sort(
    px: FloatArray,
    py: FloatArray,
    have: IntArray,
    grid: FloatArray,
    shape: IntArray,
    first: RowArray,
    order: RowArray,
    points: FloatArray,
    bits: IntArray,
) -> None:
    """The points bucket by bucket: those of bucket b stand from `first[b + 1]` to the next."""
    for i in range(px.size):
        first[_bucket(px[i], py[i], grid, shape) + 1] += 1
    for b in range(first.size - 1):
        first[b + 1] += first[b]
    for i in range(px.size - 1, -1, -1):
        b = _bucket(px[i], py[i], grid, shape) + 1
        first[b] -= 1
        at = first[b]
        order[at], points[at, 0], points[at, 1], bits[at] = i, px[i], py[i], have[i]


@inlined
def _clamped(at: float, count: int) -> int:
    """The number of the bucket along one axis; the nearest one for what lies outside."""
    return int(min(max(at, 0.0), count - 1.0))


@inlined
def _ring_away(
    x: float, y: float, cx: int, cy: int, ring: int, grid: FloatArray, shape: IntArray
) -> float:
    """How near a point of this ring around bucket (cx, cy), or of a farther one, can be."""
    away, width = np.inf, grid[2]
    if cx - ring >= 0:
        away = min(away, x - (grid[0] + (cx - ring + 1) * width))
    if cx + ring < shape[0]:
        away = min(away, grid[0] + (cx + ring) * width - x)
    if cy - ring >= 0:
        away = min(away, y - (grid[1] + (cy - ring + 1) * width))
    if cy + ring < shape[1]:
        away = min(away, grid[1] + (cy + ring) * width - y)
    return float(away - grid[3] - abs(away) * SLACK)


@inlined
def _sink(away: FloatArray, rows: RowArray, q: int, size: int, d: float, row: int) -> None:
    """Puts a point into the place of the heap's top."""
    at = 0
    while 2 * at + 1 < size:
        below = 2 * at + 1
        right = below + 1
        if right < size and (
            away[right] > away[below]
            or (away[right] == away[below] and rows[q, right] > rows[q, below])
        ):
            below = right
        if d > away[below] or (d == away[below] and row > rows[q, below]):
            break
        away[at], rows[q, at] = away[below], rows[q, below]
        at = below
    away[at], rows[q, at] = d, row


@inlined
def _keep(away: FloatArray, rows: RowArray, q: int, size: int, d: float, row: int) -> int:
    """Adds a point at squared distance `d` to the best so far, a heap with the farthest on top,
    if it is one of them; gives their number."""
    if size == away.size:
        if d < away[0] or (d == away[0] and row < rows[q, 0]):
            _sink(away, rows, q, size, d, row)
        return size
    at = size
    while at > 0:
        above = (at - 1) // 2
        if away[above] > d or (away[above] == d and rows[q, above] > row):
            break
        away[at], rows[q, at] = away[above], rows[q, above]
        at = above
    away[at], rows[q, at] = d, row
    return size + 1


@core(
    "void(float64[::1], float64[::1], int64[::1], float64[::1], int64[::1], int32[::1],"
    " int32[::1], float64[:, ::1], int64[::1], float64[::1], boolean, int32[:, ::1], int32[::1])"
)
def _search(  # noqa: C901 - a walk over rings, buckets and points
    x: FloatArray,
    y: FloatArray,
    need: IntArray,
    grid: FloatArray,
    shape: IntArray,
    first: RowArray,
    order: RowArray,
    points: FloatArray,
    bits: IntArray,
    away: FloatArray,
    sorted_: bool,
    rows: RowArray,
    found: RowArray,
) -> None:
    for q in range(x.size):
        cx = _clamped((x[q] - grid[0]) / grid[2], shape[0])
        cy = _clamped((y[q] - grid[1]) / grid[2], shape[1])
        size = 0
        for ring in range(max(shape[0], shape[1])):
            if ring > 0 and size == away.size:
                near = _ring_away(x[q], y[q], cx, cy, ring, grid, shape)
                if near > 0.0 and near * near > away[0]:
                    break
            for j in range(max(cy - ring, 0), min(cy + ring, shape[1] - 1) + 1):
                step = 1 if ring == 0 or abs(j - cy) == ring else 2 * ring
                for i in range(cx - ring, cx + ring + 1, step):
                    if 0 <= i < shape[0]:
                        b = j * shape[0] + i + 1
                        for p in range(first[b], first[b + 1]):
                            if need[q] & ~bits[p] == 0:
                                dx, dy = points[p, 0] - x[q], points[p, 1] - y[q]
                                size = _keep(away, rows, q, size, dx * dx + dy * dy, order[p])
        found[q] = size
        for last in range(size - 1 if sorted_ else 0, 0, -1):
            d, row = away[last], rows[q, last]
            away[last], rows[q, last] = away[0], rows[q, 0]
            _sink(away, rows, q, last, d, row)


@compiled(
    "void(float64[::1], float64[::1], int64[::1], float64[::1], float64[::1], int64[::1],"
    " boolean, int32[:, ::1], int32[::1])"
)
def nearest_rows(
    x: FloatArray,
    y: FloatArray,
    need: IntArray,
    px: FloatArray,
    py: FloatArray,
    have: IntArray,
    sorted_: bool,
    rows: RowArray,
    found: RowArray,
) -> None:
    """`nearest` for kernels: fills `rows` (m, k) and `found` (m,); nearest first if `sorted_`."""
    n, k = px.size, rows.shape[1]
    found[:] = 0
    if n == 0 or k == 0:
        return
    side = 1
    if x.size > FEW_QUERIES:
        side = max(1, min(BUCKETS_MAX, int(math.sqrt(n / BUCKET_POINTS))))
    # The corner of the first bucket, the width of each, and the slack.
    grid, shape = np.empty(4), np.empty(2, np.int64)
    _lay_out(px, py, side, grid, shape)
    first = np.zeros(shape[0] * shape[1] + 2, np.int32)
    order, points, bits = np.empty(n, np.int32), np.empty((n, 2)), np.empty(n, np.int64)
    _sort(px, py, have, grid, shape, first, order, points, bits)
    _search(
        x, y, need, grid, shape, first, order, points, bits, np.empty(k), sorted_, rows, found
    )  # fmt: skip


def nearest(
    x: FloatArray,
    y: FloatArray,
    need: IntArray,
    px: FloatArray,
    py: FloatArray,
    have: IntArray,
    k: int,
) -> tuple[RowArray, RowArray]:
    """For each of m queries up to `k` of n points, nearest first, equals by their row.

    Coordinates are metres in one plane, finite. A point counts for a query if its `have` has every
    bit of the query's `need`. Gives (rows int32[m, k], found int32[m]): the points of query i are
    `rows[i, :found[i]]`. InvalidValue for a negative `k`.
    """
    if k < 0:
        raise InvalidValue("k", k, "0 or more points")
    rows = np.empty((len(x), k), np.int32)
    found = np.zeros(len(x), np.int32)
    nearest_rows(x, y, need, px, py, have, True, rows, found)
    return rows, found
