"""Where all simulated riders are, as columns: one batch of fixes a round; uses numpy and numba.

A phone reads where its rider is every `interval_ms` while he moves, at a phase of its own, by his
id; and whenever he sets out, stops or is diverted, comes on shift, or it is on again after it was
dead. Each reading is exact, and sent at once. Only the latest is computed, when it is asked for:
the dispatcher would drop the others. So what it then knows does not depend on how often it has
asked.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import numpy as np

from dispatch.dispatcher import Fixes
from geo.compiled import compiled
from geo.distance import Plane
from geo.motion import Path
from sim.streams import short_name

_WAY = Struct("=6d3q")
"""A rider's path: x, y, and their instants. Written whole, since nine numbers
written one by one would take as long as all else that happens when he turns."""
_X: Final = 0
_Y: Final = 3
# Columns of `_phones`.
_ON: Final = 0
_PHASE: Final = 1
_SENT: Final = 2
_SINCE: Final = 3
_OFF: Final = 4


class Fleet:
    """The riders' paths: rows as given by `ids`."""

    def __init__(self, ids: tuple[str, ...], plane: Plane, interval_ms: int) -> None:
        count = len(ids)
        self._ids = ids
        self._interval_ms = interval_ms
        self._lat_lon = (plane.lat0, plane.lon0, *plane.metres_per_degree)
        self._paths = bytearray(count * _WAY.size)
        columns = np.frombuffer(self._paths, [("way", "f8", 6), ("t", "i8", 3)])
        self._way, self._t = columns["way"], columns["t"]
        self._phones = np.zeros((count, _OFF + 1), np.int64)
        # By the id alone, so that it is the same whoever else rides.
        phases = [int(short_name("phone", rider_id), 16) % interval_ms for rider_id in ids]
        self._phones[:, _PHASE] = phases
        self._sent = np.zeros((2, count), np.int64)
        self._places = np.zeros((2, count))

    def follow(self, row: int, path: Path) -> None:
        """The rider is on this path from now on."""
        _WAY.pack_into(
            self._paths, row * _WAY.size, path.x0, path.x1, path.x2, path.y0, path.y1, path.y2,
            path.t0_ms, path.t1_ms, path.t2_ms,
        )  # fmt: skip

    def switch(self, row: int, on: bool, now_ms: int) -> None:
        """Start or stop to read and send."""
        self._phones[row, _ON] = on
        self._on_since(row, now_ms)

    def silence(self, row: int, until_ms: int) -> None:
        """The phone is dead until then: what it would have read is lost."""
        self._on_since(row, until_ms)

    def _on_since(self, row: int, at_ms: int) -> None:
        self._phones[row, _SINCE] = max(int(self._phones[row, _SINCE]), at_ms)

    def set_clocks(self, off_ms: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """How far each phone's clock is ahead of the true time."""
        self._phones[:, _OFF] = off_ms

    def send_again(self) -> None:
        """The next fixes are everybody's, for one who has heard none of them."""
        self._phones[:, _SENT] = 0

    def fixes(self, now_ms: int) -> Fixes | None:
        """The latest reading of every phone that has read since this was asked last; None if none
        has."""
        sent, places = self._sent, self._places
        count = _latest(
            now_ms, self._interval_ms, self._phones, self._way, self._t, *self._lat_lon,
            sent, places,
        )  # fmt: skip
        if not count:
            return None
        return Fixes(
            rider_id=self._ids,
            which=sent[0, :count].copy(),
            lat=places[0, :count].copy(),
            lon=places[1, :count].copy(),
            at_ms=sent[1, :count].copy(),
        )


@compiled(
    "int64(int64, int64, int64[:, ::1], float64[:, :], int64[:, :], float64, float64, float64,"
    " float64, int64[:, ::1], float64[:, ::1])"
)
def _latest(
    now_ms: int,
    interval_ms: int,
    phones: np.ndarray,
    way: np.ndarray,
    t: np.ndarray,
    lat0: float,
    lon0: float,
    north_m: float,
    east_m: float,
    sent: np.ndarray,
    places: np.ndarray,
) -> int:
    """Who sends a fix now and its device time, in `sent`, and from where, in `places` (latitude
    and longitude); gives how many. In `phones` they have sent it.

    From metres to degrees as `Plane.lat_lon` goes, to the bit.
    """
    count = 0
    for row in range(len(phones)):
        phone = phones[row]
        if not phone[_ON]:
            continue
        moved_ms = min(now_ms, t[row, 2])
        at_ms = moved_ms - (moved_ms - phone[_PHASE]) % interval_ms
        at_ms = max(at_ms, t[row, 0], phone[_SINCE])
        if not phone[_SENT] < at_ms <= now_ms:
            continue
        phone[_SENT] = at_ms
        corner = 1 if at_ms >= t[row, 1] else 0
        t0, t1 = t[row, corner], t[row, corner + 1]
        # A way that takes no time is behind him.
        share = min(max((at_ms - t0) / (t1 - t0), 0.0), 1.0) if t1 > t0 else 1.0
        x0, y0 = way[row, _X + corner], way[row, _Y + corner]
        x = x0 + share * (way[row, _X + corner + 1] - x0)
        y = y0 + share * (way[row, _Y + corner + 1] - y0)
        lon = x / east_m + lon0
        places[0, count] = y / north_m + lat0
        places[1, count] = lon - 360.0 * np.rint(lon / 360.0)
        sent[0, count] = row
        sent[1, count] = at_ms + phone[_OFF]
        count += 1
    return count
