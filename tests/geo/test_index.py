"""The index against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.errors import InvalidValue
from geo.index import BUCKETS_MAX, FEW_QUERIES, nearest


def brute(px, py, have, x, y, need, k):
    rows = np.flatnonzero((have & need) == need)
    d2 = (px[rows] - x) ** 2 + (py[rows] - y) ** 2
    return rows[np.lexsort((rows, d2))][:k].tolist()


def agrees(x, y, need, px, py, have, k):
    rows, found = nearest(x, y, need, px, py, have, k)
    assert (rows.dtype, found.dtype, rows.shape) == (np.int32, np.int32, (len(x), k))
    for q in range(len(x)):
        expected = brute(px, py, have, x[q], y[q], need[q], k)
        assert rows[q, : found[q]].tolist() == expected, q


def clustered(rng, n, spread_m):
    centres = rng.normal(0, spread_m, (4, 2))
    x, y = (centres[rng.integers(0, 4, n)] + rng.normal(0, spread_m / 20, (n, 2))).T
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 400),
    st.sampled_from([1, FEW_QUERIES, FEW_QUERIES + 1, 30]),
    st.integers(0, 130),
    st.sampled_from([0.0, 300.0, 40_000.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_nearest_is_exact(seed, n, m, k, spread_m, share):
    """Queries from the same quarters as the points; some marks that points may lack."""
    rng = np.random.default_rng(seed)
    px, py = clustered(rng, n, spread_m)
    x, y = clustered(rng, m, spread_m)
    have = rng.integers(0, 4, n) | np.where(rng.random(n) < share, 4, 0)
    agrees(x, y, rng.integers(0, 8, m), px, py, have, k)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(-1e7, 1e7))
def test_ties_go_to_the_lower_row_across_buckets(seed, k, origin):
    """Points on a coarse grid, far from the plane's origin or near: many are equally far."""
    rng = np.random.default_rng(seed)
    px, py = (rng.integers(-6, 7, (2, 500)) * 800).astype(float) + origin
    x, y = (rng.integers(-6, 7, (2, 20)) * 400).astype(float) + origin
    agrees(x, y, np.zeros(20, np.int64), px, py, np.zeros(500, np.int64), k)


def test_queries_far_outside_and_points_far_away():
    """A phone that says it is in another country must not make the others be missed."""
    rng = np.random.default_rng(6)
    px, py = clustered(rng, 600, 3000.0)
    px[7], py[11] = 9e6, -9e6
    x, y = clustered(rng, 40, 3000.0)
    x[:4], y[2:6] = [-4e6, 5e9, 3e4, 0], [9.6e5, -5e9, 4e4, 0]
    zeros = np.zeros(600, np.int64)
    for k in (1, 3, 600):
        agrees(x, y, zeros[:40], px, py, zeros, k)


def test_more_buckets_than_a_side_may_have():
    rng = np.random.default_rng(9)
    n = 7 * BUCKETS_MAX**2
    px, py = rng.uniform(-1e5, 1e5, (2, n))
    x, y = rng.uniform(-1e5, 1e5, (2, 12))
    agrees(x, y, np.zeros(12, np.int64), px, py, np.zeros(n, np.int64), 40)


def test_all_in_one_place():
    same = np.full(50, 17.5)
    x = np.full(12, 17.5)
    agrees(x, x, np.zeros(12, np.int64), same, same, np.zeros(50, np.int64), 8)


def test_nothing_asked_for():
    none, bits = np.empty(0), np.empty(0, np.int64)
    rows, found = nearest(none, none, bits, np.ones(3), np.ones(3), np.zeros(3, np.int64), 5)
    assert (rows.shape, found.shape) == ((0, 5), (0,))
    rows, found = nearest(np.ones(2), np.ones(2), np.zeros(2, np.int64), none, none, bits, 5)
    assert found.tolist() == [0, 0]
    with pytest.raises(InvalidValue, match="k"):
        nearest(none, none, bits, none, none, bits, -1)
