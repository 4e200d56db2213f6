"""Great circles, and how far a city's plane may stray from them."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.distance import EARTH_RADIUS_M, Plane, haversine_m
from geo.errors import InvalidValue

OFFSET_M = st.floats(-35_000, 35_000)


def test_known_distances():
    quarter = math.pi * EARTH_RADIUS_M / 2
    assert haversine_m(0.0, 0.0, 0.0, 90.0) == pytest.approx(quarter)
    assert haversine_m(90.0, 12.0, -90.0, 12.0) == pytest.approx(2 * quarter)
    assert haversine_m(39.9042, 116.4074, 31.2304, 121.4737) == pytest.approx(1_067_000, rel=0.005)


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))
def test_haversine_is_the_angle_between_the_vectors(lat1, lon1, lat2, lon2):
    def unit(lat, lon):
        phi, lam = math.radians(lat), math.radians(lon)
        return np.array(
            [math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)]
        )

    a, b = unit(lat1, lon1), unit(lat2, lon2)
    angle = math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))
    assert haversine_m(lat1, lon1, lat2, lon2) == pytest.approx(angle * EARTH_RADIUS_M, abs=0.2)


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))
def test_two_points_are_as_far_apart_as_two_arrays_of_one(lat1, lon1, lat2, lon2):
    points = (lat1, lon1, lat2, lon2)
    arrays = haversine_m(*(np.array([degrees]) for degrees in points))
    assert haversine_m(*points) == pytest.approx(arrays[0], abs=0.2)  # at the antipodes


def test_haversine_broadcasts_and_keeps_floats():
    assert type(haversine_m(31.0, 121.0, 31.1, 121.1)) is float
    lat = np.array([31.0, 31.1, 31.2])
    table = haversine_m(lat[:, None], 121.0, lat[None, :], 121.0)
    assert table.shape == (3, 3)
    assert np.diag(table).tolist() == [0.0] * 3
    assert table[0, 2] == haversine_m(31.0, 121.0, 31.2, 121.0)


@given(st.floats(-50, 50), st.floats(-180, 180), OFFSET_M, OFFSET_M, OFFSET_M, OFFSET_M)
def test_the_plane_keeps_the_error_it_states(lat0, lon0, x1, y1, x2, y2):
    plane = Plane(lat0, lon0)
    a, b = plane.lat_lon(x1, y1), plane.lat_lon(x2, y2)
    flat = math.hypot(x2 - x1, y2 - y1)
    allowed = 0.008 * math.tan(math.radians(abs(lat0))) + 1e-4
    assert abs(flat - haversine_m(*a, *b)) <= allowed * flat + 1e-6


@given(st.floats(-85, 85), st.floats(-180, 180), OFFSET_M, OFFSET_M)
def test_the_plane_goes_there_and_back(lat0, lon0, x, y):
    plane = Plane(lat0, lon0)
    lat, lon = plane.lat_lon(x, y)
    assert -180 <= lon <= 180
    assert plane.xy(lat, lon) == (pytest.approx(x, abs=1e-5), pytest.approx(y, abs=1e-5))


def test_the_axes_of_the_plane():
    plane = Plane(31.2, 121.4)
    assert plane.xy(31.2, 121.4) == (0.0, 0.0)
    x, y = plane.xy(31.2, 121.5)
    assert x == pytest.approx(9511, abs=1)
    assert y == 0.0
    assert plane.xy(31.3, 121.4) == (0.0, pytest.approx(11_119.5, abs=0.1))


def test_the_plane_takes_arrays_and_keeps_floats():
    plane = Plane(31.2, 121.4)
    lat, lon = np.array([31.1, 31.3]), np.array([121.0, 121.5])
    x, y = plane.xy(lat, lon)
    for i in range(2):
        one = plane.xy(float(lat[i]), float(lon[i]))
        assert [type(v) for v in one] == [float, float]
        assert one == (x[i], y[i])
    back = plane.lat_lon(x, y)
    np.testing.assert_allclose(back, (lat, lon), atol=1e-12)


def test_across_the_antimeridian():
    x, _ = Plane(-16.8, 179.95).xy(-16.8, -179.95)
    assert 10_000 < x < 11_000
    many, _ = Plane(-16.8, 179.95).xy(np.array([-16.8]), np.array([-179.95]))
    assert many[0] == pytest.approx(x)


def test_a_plane_is_a_frozen_value():
    assert Plane(31.0, 121.0) == Plane(31.0, 121.0)
    assert hash(Plane(31.0, 121.0)) == hash(Plane(31.0, 121.0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Plane(31.0, 121.0).lat0 = 3.0


@pytest.mark.parametrize("origin", [(math.nan, 0.0), (91.0, 0.0), (0.0, 181.0), (89.0, 0.0)])
def test_an_origin_without_a_plane_is_refused(origin):
    with pytest.raises(InvalidValue, match="plane"):
        Plane(*origin)
