"""Coordinate systems: the public formulas, the border, and the way back."""

import json
import math
from importlib import resources

import numpy as np
import prcoords
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.datum import (
    System,
    check_lat_lon,
    from_wgs84,
    in_mainland_china,
    to_wgs84,
)
from geo.errors import InvalidValue

INSIDE = {
    "Shenzhen, Futian civic centre": (22.5430, 114.0570),
    "Shenzhen, Futian checkpoint": (22.5215, 114.0665),
    "Shenzhen, Luohu station": (22.5325, 114.1135),
    "Shenzhen, Shekou": (22.4800, 113.9150),
    "Shenzhen airport": (22.6245, 113.8110),
    "Zhuhai, Gongbei": (22.2180, 113.5490),
    "Zhuhai, Wanzai": (22.1990, 113.5260),
    "Zhuhai, Hengqin": (22.1300, 113.5350),
    "Dandong": (40.1290, 124.3940),
    "Tumen": (42.9650, 129.8430),
    "Hunchun": (42.8630, 130.3660),
    "Suifenhe": (44.3960, 131.1510),
    "Heihe": (50.2450, 127.5000),
    "Manzhouli": (49.5970, 117.4400),
    "Erenhot": (43.6530, 111.9770),
    "Alashankou": (45.1710, 82.5730),
    "Khorgos": (44.2130, 80.4100),
    "Kashgar": (39.4700, 75.9900),
    "Tashkurgan": (37.7750, 75.2280),
    "Lhasa": (29.6520, 91.1720),
    "Zhangmu": (27.9900, 85.9820),
    "Ruili": (24.0130, 97.8550),
    "Hekou": (22.5290, 103.9390),
    "Pingxiang": (22.0970, 106.7650),
    "Friendship Pass": (21.9850, 106.7110),
    "Dongxing": (21.5430, 107.9700),
    "Haikou": (20.0440, 110.1990),
    "Sanya": (18.2530, 109.5120),
    "Weizhou island": (21.0350, 109.1150),
    "Xiamen, Siming": (24.4450, 118.0820),
    "Xiamen, Gulangyu": (24.4470, 118.0620),
    "Pingtan": (25.5030, 119.7900),
    "Zhoushan": (29.9850, 122.2070),
    "Yangshan port": (30.6260, 122.0640),
    "Shanghai, Pudong airport": (31.1430, 121.8050),
    "Tianjin, Dongjiang (reclaimed)": (38.9900, 117.7950),
    "Dalian": (38.9140, 121.6150),
    "Harbin": (45.8030, 126.5350),
    "Beijing": (39.9087, 116.3975),
}
OUTSIDE = {
    "Hong Kong, Lo Wu": (22.5283, 114.1134),
    "Hong Kong, Sheung Shui": (22.5013, 114.1280),
    "Hong Kong, Central": (22.2810, 114.1580),
    "Hong Kong airport": (22.3090, 113.9150),
    "Macau, Border Gate": (22.2130, 113.5495),
    "Macau, Senado": (22.1937, 113.5400),
    "Macau, Cotai": (22.1450, 113.5650),
    "Sinuiju": (40.1000, 124.4000),
    "Namyang": (42.9500, 129.8600),
    "Vladivostok": (43.1155, 131.8855),
    "Blagoveshchensk": (50.2900, 127.5270),
    "Khabarovsk": (48.4800, 135.0700),
    "Zabaykalsk": (49.6510, 117.3270),
    "Zamyn-Uud": (43.7250, 111.9040),
    "Ulaanbaatar": (47.9185, 106.9176),
    "Dostyk": (45.2550, 82.4800),
    "Khorgos, Kazakh side": (44.2250, 80.3350),
    "Kathmandu": (27.7172, 85.3240),
    "Kodari": (27.9730, 85.9630),
    "Muse": (23.9850, 97.9250),
    "Lao Cai": (22.4850, 103.9700),
    "Dong Dang": (21.9430, 106.6960),
    "Lang Son": (21.8530, 106.7610),
    "Mong Cai": (21.5240, 107.9660),
    "Hanoi": (21.0285, 105.8542),
    "Kinmen": (24.4340, 118.3170),
    "Lieyu": (24.4280, 118.2430),
    "Matsu": (26.1580, 119.9400),
    "Penghu": (23.5700, 119.5800),
    "Taipei": (25.0380, 121.5640),
    "Seoul": (37.5665, 126.9780),
    "London": (51.5072, -0.1276),
    "North pole": (90.0, 0.0),
}
BORDER = json.loads(resources.files("geo").joinpath("data/mainland_china.json").read_text())
SHIFTED = [System.GCJ02, System.BD09]

# Boxes that lie wholly inside: the oracle knows no border.
INTERIOR = st.one_of(
    st.tuples(st.floats(28.0, 39.0), st.floats(104.0, 117.0)),
    st.tuples(st.floats(31.0, 40.0), st.floats(82.0, 104.0)),
    st.tuples(st.floats(44.0, 47.0), st.floats(123.0, 129.0)),
)
ANYWHERE = st.tuples(st.floats(-85.0, 85.0), st.floats(-179.0, 179.0))
BORDER_TOWNS = st.sampled_from(
    [
        (22.5300, 114.1130),  # the Shenzhen River
        (22.2150, 113.5490),  # Zhuhai and Macau
        (24.4300, 118.1800),  # Xiamen and Kinmen
        (21.5350, 107.9680),
        (40.1150, 124.3950),
        (44.2150, 80.4000),
    ]
)
NEAR_BORDER = st.builds(
    lambda town, north, east: (town[0] + north, town[1] + east),
    BORDER_TOWNS,
    st.floats(-0.03, 0.03),
    st.floats(-0.03, 0.03),
)


def close(a, b, degrees=1e-6):
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) < degrees


@pytest.mark.parametrize("place", INSIDE)
def test_a_place_inside_is_shifted_by_the_known_hundreds_of_metres(place):
    lat, lon = INSIDE[place]
    assert in_mainland_china(lat, lon)
    shifted = from_wgs84(lat, lon, System.GCJ02)
    north_m = (shifted[0] - lat) * 111_000
    east_m = (shifted[1] - lon) * 111_000 * math.cos(math.radians(lat))
    assert 100 < math.hypot(north_m, east_m) < 1000
    assert close(to_wgs84(*shifted, System.GCJ02), (lat, lon))


@pytest.mark.parametrize("place", OUTSIDE)
def test_a_place_outside_is_not_shifted(place):
    lat, lon = OUTSIDE[place]
    assert not in_mainland_china(lat, lon)
    assert from_wgs84(lat, lon, System.GCJ02) == (lat, lon)


@given(INTERIOR)
def test_gcj02_is_the_public_formula(point):
    assert close(from_wgs84(*point, System.GCJ02), prcoords.wgs_gcj(point), 1e-9)


@given(INTERIOR)
def test_bd09_is_the_public_formula(point):
    assert close(from_wgs84(*point, System.BD09), prcoords.wgs_bd(point), 1e-9)


@given(INTERIOR)
def test_the_way_back_agrees_with_the_precise_oracle(point):
    assert close(to_wgs84(*point, System.GCJ02), prcoords.gcj_wgs_bored(point))


@pytest.mark.parametrize("system", SHIFTED)
@given(point=INTERIOR)
def test_the_round_trip_inside(system, point):
    assert close(to_wgs84(*from_wgs84(*point, system), system), point, 1e-9)


@pytest.mark.parametrize("system", SHIFTED)
@given(point=st.one_of(ANYWHERE, NEAR_BORDER))
def test_the_round_trip_anywhere_fails_only_where_two_points_share_one_image(system, point):
    image = from_wgs84(*point, system)
    back = to_wgs84(*image, system)
    if not close(back, point):
        assert not in_mainland_china(*point)
        assert in_mainland_china(*back)
        assert close(from_wgs84(*back, system), image, 1e-9)


def test_the_border_says_where_it_comes_from():
    said = BORDER["properties"]
    assert said["name"] == "Mainland China"
    assert "country-coder" in said["source"]
    assert said["licence"] == "ISC"
    # The licence asks that its notice goes with every copy.
    assert "Permission to use, copy, modify" in said["licence_text"]


def test_every_corner_of_the_border_survives_the_round_trip_or_is_ambiguous():
    corners = [c for rings in BORDER["geometry"]["coordinates"] for ring in rings for c in ring]
    assert len(corners) > 900
    for lon, lat in corners:
        back = to_wgs84(*from_wgs84(lat, lon, System.GCJ02), System.GCJ02)
        assert close(back, (lat, lon)) or not in_mainland_china(lat, lon)


def test_in_the_ambiguous_strip_the_answer_is_the_inside_point():
    """Lok Ma Chau station lies where points of Shenzhen are moved to."""
    station = (22.5145, 114.0655)
    assert from_wgs84(*station, System.GCJ02) == station
    back = to_wgs84(*station, System.GCJ02)
    assert in_mainland_china(*back)
    assert close(from_wgs84(*back, System.GCJ02), station, 1e-9)
    assert 300 < math.hypot(back[0] - station[0], back[1] - station[1]) * 111_000 < 800


def test_a_gcj02_point_onto_which_nothing_is_moved_is_returned_as_it_is():
    """North of Erenhot: inside, but what would be moved there lies in Mongolia."""
    claimed = (43.688, 111.938)
    assert in_mainland_china(*claimed)
    assert to_wgs84(*claimed, System.GCJ02) == claimed
    assert not close(from_wgs84(*claimed, System.GCJ02), claimed)


@pytest.mark.parametrize("system", list(System))
@pytest.mark.parametrize("convert", [from_wgs84, to_wgs84])
def test_arrays_say_what_floats_say(system, convert):
    rng = np.random.default_rng(5)
    lat, lon = rng.uniform(15, 55, 500), rng.uniform(70, 140, 500)
    lats, lons = convert(lat, lon, system)
    assert lats.dtype == lons.dtype == np.float64
    for i in range(500):
        one = convert(float(lat[i]), float(lon[i]), system)
        assert [type(v) for v in one] == [float, float]
        assert one == (lats[i], lons[i])


def test_arrays_are_broadcast_and_may_be_read_only():
    lat = np.array([[22.0], [31.0]])
    lat.flags.writeable = False
    lats, lons = from_wgs84(lat, 114.0, System.GCJ02)
    assert lats.shape == lons.shape == (2, 1)
    grid = from_wgs84(lat, np.array([112.0, 113.0, 114.0]), System.GCJ02)
    assert grid[0].shape == (2, 3)
    assert grid[1][1, 2] == lons[1, 0]
    assert from_wgs84(np.empty(0), np.empty(0), System.BD09)[0].shape == (0,)


def test_nan_stays_nan():
    assert all(math.isnan(v) for v in from_wgs84(math.nan, math.nan, System.BD09))
    assert math.isnan(to_wgs84(math.nan, 114.0, System.GCJ02)[0])


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_a_point_on_the_globe_is_accepted(lat, lon):
    check_lat_lon(lat, lon, "pickup")


BAD = [math.nan, math.inf, -math.inf, True, "31.2", None, 180.5]


@pytest.mark.parametrize("bad", [*BAD, 90.0001])
def test_a_bad_latitude_is_named(bad):
    with pytest.raises(InvalidValue, match=r"pickup\.lat: .* degrees from -90 to 90"):
        check_lat_lon(bad, 121.0, "pickup")


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_longitude_is_named(bad):
    with pytest.raises(InvalidValue, match=r"pickup\.lon: .* degrees from -180 to 180"):
        check_lat_lon(31.0, bad, "pickup")
