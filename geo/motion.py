"""Movement: timed paths, and the heading from one point to the next; imports msgspec."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise

from msgspec import Struct

from geo.errors import InvalidValue
from geo.travel import MANHATTAN


class Path(Struct, frozen=True, gc=False):
    """A polyline in planar metres with the instant of each corner, in milliseconds.

    At least one corner, times never falling, else InvalidValue. Between corners the speed is
    constant; before the first and after the last corner the mover stands there.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    t_ms: tuple[int, ...]

    def __post_init__(self) -> None:
        t_ms = self.t_ms
        if not len(self.x) == len(self.y) == len(t_ms) >= 1:
            lengths = (len(self.x), len(self.y), len(t_ms))
            raise InvalidValue("path", lengths, "columns of one length, 1 or more")
        for before, after in pairwise(t_ms):
            if after < before:
                raise InvalidValue("path.t_ms", t_ms, "times that never fall")

    def at(self, t_ms: float) -> tuple[float, float]:
        """(x, y) in metres at an instant."""
        after = bisect_right(self.t_ms, t_ms)
        if after == 0:
            return self.x[0], self.y[0]
        here = after - 1
        if after == len(self.t_ms):
            return self.x[here], self.y[here]
        share = (t_ms - self.t_ms[here]) / (self.t_ms[after] - self.t_ms[here])
        return (
            self.x[here] + share * (self.x[after] - self.x[here]),
            self.y[here] + share * (self.y[after] - self.y[here]),
        )


def leg(x1: float, y1: float, x2: float, y2: float, t0_ms: int, t1_ms: int, metric: int) -> Path:
    """The path from one point to another, at constant speed, leaving at t0 and there at t1.

    Straight under EUCLID; under MANHATTAN first east-west, then north-south. The corner's instant
    is rounded to the millisecond.
    """
    east, north = abs(x2 - x1), abs(y2 - y1)
    if metric != MANHATTAN or east == 0.0 or north == 0.0:
        return Path((x1, x2), (y1, y2), (t0_ms, t1_ms))
    corner_ms = t0_ms + round((t1_ms - t0_ms) * east / (east + north))
    return Path((x1, x2, x2), (y1, y1, y2), (t0_ms, corner_ms, t1_ms))


def heading_deg(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Initial bearing of the great circle, degrees clockwise from north, 0 <= heading < 360.

    Points in degrees; the usual forward-azimuth formula on the sphere. A point to itself gives 0.
    """
    phi1, phi2, east = math.radians(lat1), math.radians(lat2), math.radians(lon2 - lon1)
    a = math.sin(east) * math.cos(phi2)
    b = math.cos(phi1) * math.sin(phi2) - math.sin(phi1) * math.cos(phi2) * math.cos(east)
    heading = math.degrees(math.atan2(a, b)) % 360.0
    # A tiny negative angle modulo 360 rounds to 360 itself.
    return 0.0 if heading == 360.0 else heading
