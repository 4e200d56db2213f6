"""Coordinate systems: converts between WGS-84, GCJ-02 and BD-09; may import numpy and the shifts.

GCJ-02 is WGS-84 plus a smooth shift of 100 to 700 m inside mainland China and equals WGS-84
elsewhere. BD-09 is GCJ-02 plus one more offset. The formulas are the public ones (see "GCJ-02" in
"Restrictions on geographic data in China", Wikipedia, and the sources named there).

Which side of the border a point is on
--------------------------------------
The area is the polygon in `data/mainland_china.json`: mainland China with its coastal waters, so
that reclaimed land and harbours count as inside, without Hong Kong, Macau and Taiwan. **The true
(WGS-84) point decides.** With A for that area and S for the shift:

* forward: a point of A moves by S, even if it lands outside A; any other point stays;
* back: undo S; if the result lies in A it is the answer, otherwise the point was never moved.

So every point of A survives the round trip, and so does every point outside whose "undone" point
is outside too. Just outside the border there is a strip, as wide as the shift is long there, where
two true points share one GCJ-02 point: an inside point that was moved across, and the outside
point that already lay there. No inverse can tell them apart; ours answers with the *inside* point.
(In Hong Kong the strip runs along the south bank of the Shenzhen River.) Just inside the border
there is the opposite strip, onto which no true point is moved; a GCJ-02 point claimed there is
returned as it is.

Baidu's offset is applied everywhere, as the public formula has it. Abroad Baidu itself gives
WGS-84: a caller there should say `wgs84`.
"""

from __future__ import annotations

from enum import StrEnum
from numbers import Real
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo.errors import InvalidValue

FloatArray: TypeAlias = NDArray[np.float64]


class System(StrEnum):
    """A coordinate system by the name that mini-programs use."""

    WGS84 = "wgs84"
    GCJ02 = "gcj02"
    BD09 = "bd09"


def check_lat_lon(lat: float, lon: float, field: str) -> None:
    """Refuse, as InvalidValue, what is not a point in degrees; names `field`.lat or `field`.lon."""
    for axis, value, limit in (("lat", lat, 90), ("lon", lon, 180)):
        number = type(value) is float or (isinstance(value, Real) and not isinstance(value, bool))
        if not number or not -limit <= value <= limit:
            raise InvalidValue(f"{field}.{axis}", value, f"degrees from -{limit} to {limit}")


@overload
def to_wgs84(lat: float, lon: float, system: System) -> tuple[float, float]: ...
@overload
def to_wgs84(lat: ArrayLike, lon: ArrayLike, system: System) -> tuple[FloatArray, FloatArray]: ...
def to_wgs84(
    lat: ArrayLike, lon: ArrayLike, system: System
) -> tuple[float, float] | tuple[FloatArray, FloatArray]:
    """(lat, lon) in WGS-84 degrees of a point given in `system`.

    Floats give floats; arrays are broadcast and give float64 arrays of their common shape. Good to
    1e-9 degree; for points near the border see the head of this module. NaN stays NaN: check with
    `check_lat_lon` where a point comes in.
    """
    return _convert(lat, lon, -_ORDER[system])


@overload
def from_wgs84(lat: float, lon: float, system: System) -> tuple[float, float]: ...
@overload
def from_wgs84(lat: ArrayLike, lon: ArrayLike, system: System) -> tuple[FloatArray, FloatArray]: ...
def from_wgs84(
    lat: ArrayLike, lon: ArrayLike, system: System
) -> tuple[float, float] | tuple[FloatArray, FloatArray]:
    """(lat, lon) in `system` of a point in WGS-84 degrees; kinds and shapes as in `to_wgs84`."""
    return _convert(lat, lon, _ORDER[system])


def in_mainland_china(lat: float, lon: float) -> bool:
    """Whether a WGS-84 point, in degrees, lies in the area in which GCJ-02 differs."""
    from geo.shifts import border, inside

    return inside(lat, lon, *border())


def warm_up() -> None:
    """Read what the first conversion needs now; half a second of CPU, in any thread."""
    from_wgs84(31.0, 121.0, System.GCJ02)
    from_wgs84(np.array([31.0]), 121.0, System.GCJ02)


# How many offsets lie between WGS-84 and a system; the kernels take it with a sign for the way.
_ORDER = {System.WGS84: 0, System.GCJ02: 1, System.BD09: 2}


def _convert(
    lat: ArrayLike, lon: ArrayLike, way: int
) -> tuple[float, float] | tuple[FloatArray, FloatArray]:
    # Here, since much of what imports this module converts nothing: see `geo.shifts`.
    from geo.shifts import border, convert_many, convert_one

    if isinstance(lat, float | int) and isinstance(lon, float | int):
        return convert_one(float(lat), float(lon), way, *border())
    lats, lons = np.broadcast_arrays(np.asarray(lat, np.float64), np.asarray(lon, np.float64))
    out_lat, out_lon = np.empty(lats.size), np.empty(lats.size)
    # Copies: a kernel takes no read-only array, and a broadcast one is not contiguous.
    convert_many(lats.flatten(), lons.flatten(), way, *border(), out_lat, out_lon)
    return out_lat.reshape(lats.shape), out_lon.reshape(lats.shape)
