"""Timed paths and headings."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.errors import InvalidValue
from geo.motion import Path, heading_deg, leg, stand
from geo.travel import EUCLID, MANHATTAN

METRES = st.floats(-50_000, 50_000)
METRIC = st.sampled_from([EUCLID, MANHATTAN])


def test_a_path_is_followed_at_constant_speed_between_its_corners():
    path = Path(0.0, 100.0, 100.0, 0.0, 0.0, 50.0, 1000, 2000, 4000)
    assert path.at(0) == (0.0, 0.0)
    assert path.at(1000) == (0.0, 0.0)
    assert path.at(1250) == (25.0, 0.0)
    assert path.at(2000) == (100.0, 0.0)
    assert path.at(3000) == (100.0, 25.0)
    assert path.at(4000) == path.at(9999) == (100.0, 50.0)
    assert path.metres == 150.0


def test_two_corners_at_one_instant_are_a_jump():
    path = Path(0.0, 10.0, 20.0, 0.0, 0.0, 0.0, 0, 0, 10)
    assert path.at(0) == (10.0, 0.0)
    assert path.at(-1) == (0.0, 0.0)


def test_who_stands_is_there_at_any_time():
    path = stand(3.0, 4.0, 5)
    assert {path.at(t) for t in (0, 5, 77)} == {(3.0, 4.0)}
    assert path.metres == 0.0


@given(METRES, METRES, METRES, METRES, st.integers(0, 10**12), st.integers(1, 10**7), METRIC)
def test_a_leg_starts_and_ends_where_it_should(x1, y1, x2, y2, t0, duration, metric):
    path = leg(x1, y1, x2, y2, t0, t0 + duration, metric)
    assert path.at(t0 - 1) == (x1, y1)
    assert path.at(t0 + duration) == (x2, y2)
    for share in (0.1, 0.5, 0.9):
        x, y = path.at(t0 + share * duration)
        ridden = abs(x - x1) + abs(y - y1) if metric == MANHATTAN else math.hypot(x - x1, y - y1)
        whole = abs(x2 - x1) + abs(y2 - y1) if metric == MANHATTAN else math.hypot(x2 - x1, y2 - y1)
        # The corner's instant is whole milliseconds, and an instant a float of 1e12.
        assert ridden == pytest.approx(share * whole, abs=whole * 1.01 / duration + 1e-6)


def test_a_manhattan_leg_goes_east_first():
    path = leg(0.0, 0.0, 300.0, -100.0, 0, 4000, MANHATTAN)
    assert path == Path(0.0, 300.0, 300.0, 0.0, 0.0, -100.0, 0, 3000, 4000)
    assert leg(0.0, 0.0, 0.0, 5.0, 0, 1, MANHATTAN).at(0.5) == (0.0, 2.5)


def test_nobody_is_there_before_he_left():
    with pytest.raises(InvalidValue, match="leg"):
        leg(1.0, 2.0, 1.0, 2.0, 5, 4, EUCLID)


@pytest.mark.parametrize(
    ("to", "heading"),
    [((1.0, 0.0), 0.0), ((0.0, 1.0), 90.0), ((-1.0, 0.0), 180.0), ((0.0, -1.0), 270.0)],
)
def test_the_four_winds(to, heading):
    assert heading_deg(0.0, 0.0, *to) == pytest.approx(heading)


def test_a_known_heading():
    assert heading_deg(39.9042, 116.4074, 31.2304, 121.4737) == pytest.approx(153.0, abs=1.0)
    assert heading_deg(31.0, 121.0, 31.0, 121.0) == 0.0
    assert heading_deg(31.0, 179.99, 31.0, -179.99) == pytest.approx(90.0, abs=0.1)


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))
def test_a_heading_is_in_the_circle(lat1, lon1, lat2, lon2):
    assert 0.0 <= heading_deg(lat1, lon1, lat2, lon2) < 360.0
