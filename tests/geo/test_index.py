"""The index against brute force."""

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.cells import cell_of, cells_of, center_of, disk
from geo.distance import Plane
from geo.errors import InvalidValue
from geo.index import CellIndex

SHANGHAI = (31.2304, 121.4737)
PENTAGON = center_of(min(h3.get_pentagons(8)))


def brute(x, y, qx, qy, k, eligible=None):
    rows = np.arange(len(x)) if eligible is None else np.flatnonzero(eligible)
    d2 = (x[rows] - qx) ** 2 + (y[rows] - qy) ** 2
    return rows[np.lexsort((rows, d2))][:k].tolist()


def town(rng, n, origin=SHANGHAI, spread_m=5000.0):
    plane = Plane(*origin)
    x, y = rng.normal(0, spread_m, n), rng.normal(0, spread_m, n)
    return cells_of(*plane.lat_lon(x, y)), x, y


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 120),
    st.integers(0, 130),
    st.sampled_from([SHANGHAI, PENTAGON, (45.8, 126.5), (-33.9, 18.4)]),
    st.sampled_from([300.0, 3000.0, 40_000.0]),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_nearest_is_exact(seed, n, k, origin, spread_m, share):
    rng = np.random.default_rng(seed)
    cells, x, y = town(rng, n, origin, spread_m)
    eligible = rng.random(n) < share
    index = CellIndex(cells, x, y)
    (cell,), (qx,), (qy,) = town(rng, 1, origin, spread_m)
    found = index.nearest(int(cell), qx, qy, k, eligible)
    assert found.dtype == np.int32
    assert found.tolist() == brute(x, y, qx, qy, k, eligible)
    assert index.nearest(int(cell), qx, qy, k).tolist() == brute(x, y, qx, qy, k)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_ties_go_to_the_lower_row_across_cells(seed, k):
    """Points on a coarse grid: many are equally far, in different cells."""
    rng = np.random.default_rng(seed)
    plane = Plane(*SHANGHAI)
    x, y = (rng.integers(-3, 4, (2, 60)) * 800).astype(float)
    index = CellIndex(cells_of(*plane.lat_lon(x, y)), x, y)
    assert index.nearest(cell_of(*SHANGHAI), 0.0, 0.0, k).tolist() == brute(x, y, 0.0, 0.0, k)


def test_nearest_many_is_nearest_many_times():
    rng = np.random.default_rng(3)
    cells, x, y = town(rng, 400)
    index = CellIndex(cells, x, y)
    qc, qx, qy = town(rng, 25)
    eligible = rng.random((25, 400)) < 0.2
    eligible[7] = False
    eligible.flags.writeable = False
    indptr, rows = index.nearest_many(qc, qx, qy, 12, eligible)
    assert indptr.dtype == np.int64
    assert rows.dtype == np.int32
    assert indptr.shape == (26,)
    for i in range(25):
        expected = brute(x, y, qx[i], qy[i], 12, eligible[i])
        assert rows[indptr[i] : indptr[i + 1]].tolist() == expected
    assert indptr[8] == indptr[7]
    indptr, rows = index.nearest_many(qc, qx, qy, 3)
    assert indptr.tolist() == list(range(0, 78, 3))
    assert rows[:3].tolist() == brute(x, y, qx[0], qy[0], 3)


@pytest.mark.parametrize("max_ring", [0, 1, 4])
@pytest.mark.parametrize("origin", [SHANGHAI, PENTAGON])
def test_max_ring_leaves_out_farther_cells(max_ring, origin):
    rng = np.random.default_rng(4)
    cells, x, y = town(rng, 300, origin, 2500.0)
    index = CellIndex(cells, x, y)
    cell = cell_of(*origin)
    near = np.isin(cells, disk(cell, max_ring))
    assert 0 < near.sum() < 300
    found = index.nearest(cell, 0.0, 0.0, 300, max_ring=max_ring)
    assert found.tolist() == brute(x, y, 0.0, 0.0, 300, near)


def test_empty_and_far():
    empty = CellIndex(np.empty(0, np.int64), np.empty(0), np.empty(0))
    assert empty.nearest(cell_of(*SHANGHAI), 0.0, 0.0, 5).shape == (0,)
    indptr, rows = empty.nearest_many(np.array([cell_of(*SHANGHAI)]), np.zeros(1), np.zeros(1), 5)
    assert indptr.tolist() == [0, 0]
    assert rows.shape == (0,)
    cells, x, y = town(np.random.default_rng(6), 10)
    index = CellIndex(cells, x, y)
    far = index.nearest(cell_of(39.9, 116.4), -400_000.0, 960_000.0, 3)
    assert far.tolist() == brute(x, y, -400_000.0, 960_000.0, 3)
    nothing = index.nearest_many(np.empty(0, np.int64), np.empty(0), np.empty(0), 5)
    assert [len(part) for part in nothing] == [1, 0]


def test_the_index_keeps_its_own_copy():
    cells, x, y = town(np.random.default_rng(8), 50)
    index = CellIndex(cells, x, y)
    before = index.nearest(0, 0.0, 0.0, 50).tolist()
    x[:] = 0.0
    assert index.nearest(0, 0.0, 0.0, 50).tolist() == before


def test_bad_columns_and_queries_are_refused():
    cells, x, y = town(np.random.default_rng(7), 5)
    with pytest.raises(InvalidValue, match="one length"):
        CellIndex(cells, x[:4], y)
    with pytest.raises(InvalidValue, match="finite metres"):
        CellIndex(cells, np.where(x == x[0], np.nan, x), y)
    index = CellIndex(cells, x, y)
    with pytest.raises(InvalidValue, match="k"):
        index.nearest(0, 0.0, 0.0, -1)
    with pytest.raises(InvalidValue, match="bool\\[5\\]"):
        index.nearest(0, 0.0, 0.0, 1, np.ones(4, np.bool_))
    with pytest.raises(InvalidValue, match="bool\\[5\\]"):
        index.nearest(0, 0.0, 0.0, 1, np.ones(5, np.int8))
    with pytest.raises(InvalidValue, match="eligible"):
        index.nearest_many(cells, x, y, 1, np.ones((4, 5), np.bool_))
    with pytest.raises(InvalidValue, match="queries"):
        index.nearest_many(cells, x[:2], y, 1)
