"""H3 cells: columns, rings (also around a pentagon), distances, text."""

from itertools import pairwise

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo import cells
from geo.distance import haversine_m
from geo.errors import InvalidValue

LAT, LON = st.floats(-89.9, 89.9), st.floats(-180, 180)
SHANGHAI = cells.cell_of(31.2304, 121.4737)
PENTAGON = min(h3.get_pentagons(cells.POOL_RESOLUTION))


def test_a_column_says_what_single_points_say():
    rng = np.random.default_rng(1)
    lat, lon = rng.uniform(20, 45, 200), rng.uniform(80, 120, 200)
    column = cells.cells_of(lat, lon)
    assert column.dtype == np.int64
    assert column.tolist() == [cells.cell_of(a, o) for a, o in zip(lat, lon, strict=True)]
    assert cells.cells_of(np.empty(0), np.empty(0)).shape == (0,)


@given(LAT, LON, st.integers(0, 15))
def test_the_centre_lies_in_its_own_cell_which_fits_int64(lat, lon, resolution):
    cell = cells.cell_of(lat, lon, resolution)
    assert 0 < cell < 2**63
    assert cells.cell_of(*cells.center_of(cell), resolution) == cell
    assert int(cells.to_text(cell), 16) == cell


@given(LAT, LON)
def test_a_point_is_no_farther_from_its_centre_than_the_cell_is_wide(lat, lon):
    centre = cells.center_of(cells.cell_of(lat, lon))
    assert haversine_m(lat, lon, *centre) < 1.5 * cells.edge_m(8)


@given(LAT, LON, st.integers(0, 6))
def test_a_ring_is_what_grid_distance_says(lat, lon, k):
    cell = cells.cell_of(lat, lon)
    ring = cells.ring(cell, k)
    assert list(ring) == sorted(set(ring))
    around = [h3.is_pentagon(c) for c in cells.disk(cell, k)]
    if not any(around):
        assert len(ring) == (6 * k or 1)
        assert {h3.grid_distance(cell, c) for c in ring} == {k}


@pytest.mark.parametrize("start", [0, 1, 2])
def test_rings_around_a_pentagon_partition_the_disk(start):
    cell = cells.ring(PENTAGON, start)[0]
    rings = [cells.ring(cell, k) for k in range(6)]
    walked = [c for ring in rings for c in ring]
    assert len(walked) == len(set(walked))
    assert sorted(walked) == list(cells.disk(cell, 5))
    for near, far in pairwise(rings):
        assert all(set(cells.disk(c, 1)) & set(near) for c in far)
    assert len(cells.ring(PENTAGON, 1)) == 5


def test_the_boundary_goes_round_the_centre():
    corners = cells.boundary_of(SHANGHAI)
    assert len(corners) == 6
    distances = [haversine_m(*cells.center_of(SHANGHAI), *corner) for corner in corners]
    assert 0.8 * cells.edge_m(8) < min(distances) <= max(distances) < 1.2 * cells.edge_m(8)


def test_edge_shrinks_by_the_square_root_of_seven():
    assert cells.edge_m() == pytest.approx(531.4, abs=0.1)
    assert cells.edge_m(7) / cells.edge_m(8) == pytest.approx(7**0.5, rel=0.01)


@pytest.mark.parametrize("function", [cells.center_of, cells.boundary_of, cells.to_text])
def test_what_is_no_cell_is_refused(function):
    with pytest.raises(InvalidValue, match="an H3 cell"):
        function(12345)


def test_bad_arguments_are_refused():
    for lat, lon, resolution in ((float("nan"), 0.0, 8), (0.0, float("inf"), 8), (0.0, 0.0, 16)):
        with pytest.raises(InvalidValue):
            cells.cell_of(lat, lon, resolution)
    with pytest.raises(InvalidValue):
        cells.disk(SHANGHAI, -1)
    with pytest.raises(InvalidValue):
        cells.ring(SHANGHAI, -1)
    with pytest.raises(InvalidValue):
        cells.edge_m(99)
