"""Movement: timed paths, and the heading from one point to the next; imports msgspec."""

from __future__ import annotations

import math

from msgspec import Struct

from geo.errors import InvalidValue
from geo.travel import MANHATTAN


class Path(Struct, frozen=True, gc=False):
    """Where a mover is when, in planar metres and milliseconds: from (x0, y0) at t0, by the corner
    (x1, y1) at t1, to (x2, y2) at t2.

    Times never fall; `stand` and `leg` make such ones. Up to the corner and after it the speed is
    constant; before the start and after the end the mover stands there.
    """

    x0: float
    x1: float
    x2: float
    y0: float
    y1: float
    y2: float
    t0_ms: int
    t1_ms: int
    t2_ms: int

    def at(self, t_ms: float) -> tuple[float, float]:
        """(x, y) in metres at an instant."""
        if t_ms < self.t0_ms:
            return self.x0, self.y0
        if t_ms < self.t1_ms:
            share = (t_ms - self.t0_ms) / (self.t1_ms - self.t0_ms)
            x, y = self.x0, self.y0
            return x + share * (self.x1 - x), y + share * (self.y1 - y)
        if t_ms < self.t2_ms:
            share = (t_ms - self.t1_ms) / (self.t2_ms - self.t1_ms)
            x, y = self.x1, self.y1
            return x + share * (self.x2 - x), y + share * (self.y2 - y)
        return self.x2, self.y2

    @property
    def metres(self) -> float:
        """Its length."""
        first = math.hypot(self.x1 - self.x0, self.y1 - self.y0)
        return first + math.hypot(self.x2 - self.x1, self.y2 - self.y1)


def stand(x: float, y: float, t_ms: int) -> Path:
    """The path of who stands there from then on."""
    return Path(x, x, x, y, y, y, t_ms, t_ms, t_ms)


def leg(x1: float, y1: float, x2: float, y2: float, t0_ms: int, t1_ms: int, metric: int) -> Path:
    """The path from one point to another, at constant speed, leaving at t0 and there at t1.

    Straight under EUCLID; under MANHATTAN first east-west, then north-south. The corner's instant
    is rounded to the millisecond. Raises InvalidValue for a t1 before t0.
    """
    if t1_ms < t0_ms:
        raise InvalidValue("leg.t1_ms", t1_ms, f"{t0_ms} (the start) or later")
    east, north = abs(x2 - x1), abs(y2 - y1)
    if metric != MANHATTAN or east == 0.0 or north == 0.0:
        return Path(x1, x2, x2, y1, y2, y2, t0_ms, t1_ms, t1_ms)
    corner_ms = t0_ms + round((t1_ms - t0_ms) * east / (east + north))
    return Path(x1, x2, x2, y1, y1, y2, t0_ms, corner_ms, t1_ms)


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
