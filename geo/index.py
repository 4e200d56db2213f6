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

from geo.compiled import compiled
from geo.errors import InvalidValue

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
RowArray: TypeAlias = NDArray[np.int32]

BUCKET_POINTS = 6  # that a bucket would hold if points were spread evenly
BUCKETS_MAX = 256  # a side
FEW_QUERIES = 8
# Bounds of buckets are that much too generous, relative to the coordinates: far above what float64
# loses in them, far below a millimetre in a city.
SLACK = 1e-12


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
    nearest_rows(x, y, need, px, py, have, rows, found)
    return rows, found


@compiled("void(float64[::1], int32[::1], int64, float64, int32)")
def _sift_up(away: FloatArray, rows: RowArray, size: int, d: float, row: int) -> None:
    """Adds (d, row) to a heap of `size` with the farthest on top."""
    at = size
    while at > 0:
        above = (at - 1) // 2
        if away[above] > d or (away[above] == d and rows[above] > row):
            break
        away[at], rows[at] = away[above], rows[above]
        at = above
    away[at], rows[at] = d, row


@compiled("void(float64[::1], int32[::1], int64, float64, int32)")
def _sift_down(away: FloatArray, rows: RowArray, size: int, d: float, row: int) -> None:
    """Puts (d, row) into the place of the heap's top."""
    at = 0
    while 2 * at + 1 < size:
        below = 2 * at + 1
        right = below + 1
        if right < size and (
            away[right] > away[below] or (away[right] == away[below] and rows[right] > rows[below])
        ):
            below = right
        if d > away[below] or (d == away[below] and row > rows[below]):
            break
        away[at], rows[at] = away[below], rows[below]
        at = below
    away[at], rows[at] = d, row


@compiled(
    "void(float64[::1], float64[::1], int64[::1], float64[::1], float64[::1], int64[::1],"
    " int32[:, ::1], int32[::1])"
)
def nearest_rows(  # noqa: C901 - a walk over rings, buckets and points
    x: FloatArray,
    y: FloatArray,
    need: IntArray,
    px: FloatArray,
    py: FloatArray,
    have: IntArray,
    rows: RowArray,
    found: RowArray,
) -> None:
    """`nearest` for kernels: fills `rows` (m, k) and `found` (m,). Distances are squared."""
    n, k = px.size, rows.shape[1]
    found[:] = 0
    if n == 0 or k == 0:
        return
    x0, x1, y0, y1 = px[0], px[0], py[0], py[0]
    for i in range(n):
        x0, x1 = min(x0, px[i]), max(x1, px[i])
        y0, y1 = min(y0, py[i]), max(y1, py[i])
    side = 1
    if x.size > FEW_QUERIES:
        side = max(1, min(BUCKETS_MAX, int(math.sqrt(n / BUCKET_POINTS))))
    slack = SLACK * (abs(x0) + abs(x1) + abs(y0) + abs(y1)) + 1e-300
    width = max(x1 - x0, y1 - y0) / side + slack
    wide = int((x1 - x0) / width) + 1
    high = int((y1 - y0) / width) + 1

    # Points by bucket, their columns beside them.
    bucket = np.empty(n, np.int32)
    first = np.zeros(wide * high + 1, np.int32)
    for i in range(n):
        bucket[i] = int((py[i] - y0) / width) * wide + int((px[i] - x0) / width)
        first[bucket[i] + 1] += 1
    for b in range(wide * high):
        first[b + 1] += first[b]
    order = np.empty(n, np.int32)
    bx, by, bits = np.empty(n), np.empty(n), np.empty(n, np.int64)
    at = first.copy()
    for i in range(n):
        p = at[bucket[i]]
        at[bucket[i]] += 1
        order[p], bx[p], by[p], bits[p] = i, px[i], py[i], have[i]

    away = np.empty(k)
    for q in range(x.size):
        qx, qy, bound = x[q], y[q], np.inf
        best = rows[q]
        size = 0
        # The query's own bucket, or the nearest one when it lies outside.
        cx = min(max(int(max(min((qx - x0) / width, 1e9), -1e9)), 0), wide - 1)
        cy = min(max(int(max(min((qy - y0) / width, 1e9), -1e9)), 0), high - 1)
        for ring in range(max(wide, high)):
            left, right, low, up = cx - ring, cx + ring, cy - ring, cy + ring
            if left < 0 and right >= wide and low < 0 and up >= high:
                break
            if size == k and ring > 0:
                # How near a point of this ring or a farther one can be.
                near = np.inf
                if left >= 0:
                    near = min(near, qx - (x0 + (left + 1) * width))
                if right < wide:
                    near = min(near, x0 + right * width - qx)
                if low >= 0:
                    near = min(near, qy - (y0 + (low + 1) * width))
                if up < high:
                    near = min(near, y0 + up * width - qy)
                near -= slack + abs(near) * SLACK
                if near > 0.0 and near * near > bound:
                    break
            for j in range(max(low, 0), min(up, high - 1) + 1):
                whole = j in (low, up)
                step = 1 if whole or ring == 0 else 2 * ring
                for i in range(left, right + 1, step):
                    if i < 0 or i >= wide:
                        continue
                    b = j * wide + i
                    for p in range(first[b], first[b + 1]):
                        dx, dy = bx[p] - qx, by[p] - qy
                        d = dx * dx + dy * dy
                        if d > bound or (need[q] & ~bits[p]) != 0:
                            continue
                        row = order[p]
                        if size < k:
                            _sift_up(away, best, size, d, row)
                            size += 1
                        elif d < away[0] or row < best[0]:
                            _sift_down(away, best, size, d, row)
                        if size == k:
                            bound = away[0]
        found[q] = size
        for last in range(size - 1, 0, -1):
            d, row = away[last], best[last]
            away[last], best[last] = away[0], best[0]
            _sift_down(away, best, last, d, row)
