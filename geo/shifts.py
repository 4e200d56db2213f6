"""The shifts between coordinate systems as compiled kernels; may import numpy and geo's compiler.

Read by `geo.datum` when something is first converted: numba takes half a second of CPU to start.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from importlib import resources
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from geo.compiled import compiled

FloatArray: TypeAlias = NDArray[np.float64]

# Krasovsky 1940, the ellipsoid on which the GCJ-02 formula is defined.
_AXIS_M = 6378245.0
_ECC2 = 0.00669342162296594323
_BD_LAT, _BD_LON = 0.0060, 0.0065
_BD_WAVE = math.pi * 3000.0 / 180.0

# The inverse stops when a step is this short; the shifts are contractions with factors below 0.03,
# so five or six steps reach it.
_STEP_DEG = 1e-12
_STEPS_MAX = 12

# Horizontal bands, each with the border edges that touch it: a point is tested against few edges.
_BANDS_PER_DEGREE = 4
_BANDS = 180 * _BANDS_PER_DEGREE


@functools.cache
def border() -> tuple[NDArray[np.int64], FloatArray]:
    """The border as edges lon1, lat1, lon2, lat2 by band: `edges[first[b]:first[b + 1]]`."""
    text = resources.files("geo").joinpath("data/mainland_china.json").read_text("utf-8")
    polygons = json.loads(text)["geometry"]["coordinates"]
    edges = np.array(
        [
            (*start, *end)
            for rings in polygons
            for ring in rings
            for start, end in itertools.pairwise(ring)
        ]
    )
    low = np.floor((edges[:, [1, 3]].min(axis=1) + 90.0) * _BANDS_PER_DEGREE)
    high = np.floor((edges[:, [1, 3]].max(axis=1) + 90.0) * _BANDS_PER_DEGREE)
    touching = [np.flatnonzero((low <= band) & (band <= high)) for band in range(_BANDS)]
    first = np.cumsum([0, *(len(rows) for rows in touching)], dtype=np.int64)
    return first, np.ascontiguousarray(edges[np.concatenate(touching)])


@compiled("boolean(float64, float64, int64[::1], float64[:, ::1])")
def inside(lat: float, lon: float, first: NDArray[np.int64], edges: FloatArray) -> bool:
    """Even-odd rule along the parallel to the east."""
    if not -90.0 <= lat < 90.0:
        return False
    # Both ways of a round trip must fall on the same side, though they differ in the last bits:
    # decide on a grid of 0.1 mm.
    lat = np.rint(lat * 1e9) / 1e9
    lon = np.rint(lon * 1e9) / 1e9
    band = min(int((lat + 90.0) * _BANDS_PER_DEGREE), _BANDS - 1)
    odd = False
    for e in range(first[band], first[band + 1]):
        lon1, lat1, lon2, lat2 = edges[e, 0], edges[e, 1], edges[e, 2], edges[e, 3]
        crosses = (lat1 > lat) != (lat2 > lat)
        if crosses and lon < lon1 + (lat - lat1) * (lon2 - lon1) / (lat2 - lat1):
            odd = not odd
    return odd


@compiled("UniTuple(float64, 2)(float64, float64)")
def _gcj_shift(lat: float, lon: float) -> tuple[float, float]:
    """GCJ-02 minus WGS-84 at a WGS-84 point, in degrees, as if the area had no border."""
    x, y, pi = lon - 105.0, lat - 35.0, math.pi
    ripple = 20.0 * math.sin(6.0 * x * pi) + 20.0 * math.sin(2.0 * x * pi)
    north_m = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x))
    north_m += (ripple + 20.0 * math.sin(y * pi) + 40.0 * math.sin(y / 3.0 * pi)) * 2.0 / 3.0
    north_m += (160.0 * math.sin(y / 12.0 * pi) + 320.0 * math.sin(y / 30.0 * pi)) * 2.0 / 3.0
    east_m = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x))
    east_m += (ripple + 20.0 * math.sin(x * pi) + 40.0 * math.sin(x / 3.0 * pi)) * 2.0 / 3.0
    east_m += (150.0 * math.sin(x / 12.0 * pi) + 300.0 * math.sin(x / 30.0 * pi)) * 2.0 / 3.0
    phi = lat / 180.0 * pi
    w2 = 1.0 - _ECC2 * math.sin(phi) ** 2
    north = north_m * 180.0 / (_AXIS_M * (1.0 - _ECC2) / (w2 * math.sqrt(w2)) * pi)
    east = east_m * 180.0 / (_AXIS_M / math.sqrt(w2) * math.cos(phi) * pi)
    return north, east


@compiled("UniTuple(float64, 2)(float64, float64)")
def _bd_shift(lat: float, lon: float) -> tuple[float, float]:
    """BD-09 minus GCJ-02 at a GCJ-02 point, in degrees."""
    r = math.sqrt(lon * lon + lat * lat) + 0.00002 * math.sin(lat * _BD_WAVE)
    theta = math.atan2(lat, lon) + 0.000003 * math.cos(lon * _BD_WAVE)
    return r * math.sin(theta) + _BD_LAT - lat, r * math.cos(theta) + _BD_LON - lon


@compiled("UniTuple(float64, 2)(float64, float64, boolean)")
def _unshift(lat: float, lon: float, baidu: bool) -> tuple[float, float]:
    """The point whose shift ends at (lat, lon), by fixed-point iteration."""
    here_lat, here_lon = lat, lon
    for _ in range(_STEPS_MAX):
        north, east = _bd_shift(here_lat, here_lon) if baidu else _gcj_shift(here_lat, here_lon)
        step = abs(lat - north - here_lat) + abs(lon - east - here_lon)
        here_lat, here_lon = lat - north, lon - east
        if step < _STEP_DEG:
            break
    return here_lat, here_lon


@compiled("UniTuple(float64, 2)(float64, float64, int64, int64[::1], float64[:, ::1])")
def convert_one(
    lat: float, lon: float, way: int, first: NDArray[np.int64], edges: FloatArray
) -> tuple[float, float]:
    """`way` is 1 or 2 towards GCJ-02 or BD-09, -1 or -2 from them, 0 for neither."""
    if way == -2:
        lat, lon = _unshift(lat, lon, True)
    if way < 0:
        true_lat, true_lon = _unshift(lat, lon, False)
        if inside(true_lat, true_lon, first, edges):
            return true_lat, true_lon
        return lat, lon
    if way > 0 and inside(lat, lon, first, edges):
        north, east = _gcj_shift(lat, lon)
        lat, lon = lat + north, lon + east
    if way == 2:
        north, east = _bd_shift(lat, lon)
        lat, lon = lat + north, lon + east
    return lat, lon


@compiled(
    "void(float64[::1], float64[::1], int64, int64[::1], float64[:, ::1],"
    " float64[::1], float64[::1])"
)
def convert_many(
    lat: FloatArray,
    lon: FloatArray,
    way: int,
    first: NDArray[np.int64],
    edges: FloatArray,
    out_lat: FloatArray,
    out_lon: FloatArray,
) -> None:
    for i in range(lat.size):
        out_lat[i], out_lon[i] = convert_one(lat[i], lon[i], way, first, edges)
