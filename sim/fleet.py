"""Where all simulated riders are, as columns: one batch of fixes a round; uses numpy and numba.

A rider sends a fix every `interval_ms`, each at a phase of his own, while he moves and once after
he has stopped. Only the latest of a batch is computed: the dispatcher would drop the others. One
that he would have sent before his last turn is placed at that turn.
"""

from __future__ import annotations

from operator import itemgetter
from struct import Struct

import numpy as np

from dispatch.dispatcher import Fixes
from geo.compiled import compiled
from geo.distance import Plane
from geo.motion import Path

_WAY = Struct("=3d3d3q")
"""A path of three corners: x, y, and their instants. Written whole, since riders turn often."""


class Fleet:
    """The riders' paths: rows as given by `ids`."""

    def __init__(self, ids: tuple[str, ...], plane: Plane, interval_ms: int, start_ms: int) -> None:
        count = len(ids)
        self._ids = ids
        self._plane = plane
        self._interval_ms = interval_ms
        self._phase_ms = np.arange(count, dtype=np.int64) * interval_ms // max(count, 1)
        self._ways = bytearray(count * _WAY.size)
        columns = np.frombuffer(self._ways, [("x", "f8", 3), ("y", "f8", 3), ("t", "i8", 3)])
        self._x, self._y, self._t = columns["x"], columns["y"], columns["t"]
        self._sent_ms = np.full(count, start_ms, np.int64)
        self._on = np.zeros(count, np.bool_)
        self._silent_ms = np.zeros(count, np.int64)
        self._off_ms = np.zeros(count, np.int64)
        self._rows = np.zeros(count, np.int64)
        self._at_x, self._at_y = np.zeros(count), np.zeros(count)

    def follow(self, row: int, path: Path) -> None:
        """The rider is on this path from now on (up to three corners)."""
        x, y, t = path.x, path.y, path.t_ms
        if len(t) == 2:
            x, y, t = (*x, x[1]), (*y, y[1]), (*t, t[1])
        elif len(t) == 1:
            x, y, t = x * 3, y * 3, t * 3
        _WAY.pack_into(self._ways, row * _WAY.size, *x, *y, *t)

    def switch(self, row: int, on: bool, now_ms: int) -> None:
        """Start or stop to send; the place where a shift starts is known without a fix."""
        self._on[row] = on
        self._sent_ms[row] = now_ms

    def silence(self, row: int, until_ms: int) -> None:
        """The phone is dead until then: what it would have sent is lost."""
        self._silent_ms[row] = max(int(self._silent_ms[row]), until_ms)

    def set_clocks(self, off_ms: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """How far each phone's clock is ahead of the true time."""
        self._off_ms = off_ms

    def send_again(self) -> None:
        """The next fixes are everybody's, for one who has heard none of them."""
        self._sent_ms = np.minimum(self._sent_ms, self._t[:, -1] - 1)

    def fixes(self, now_ms: int) -> Fixes | None:
        """The latest reading of every rider who has moved since his last one; None if nobody."""
        count = _latest(
            now_ms, self._interval_ms, self._phase_ms, self._on, self._silent_ms,
            self._x, self._y, self._t, self._sent_ms, self._rows, self._at_x, self._at_y,
        )  # fmt: skip
        if not count:
            return None
        rows = self._rows[:count]
        lat, lon = self._plane.lat_lon(self._at_x[:count], self._at_y[:count])
        ids = itemgetter(*rows.tolist())(self._ids)
        return Fixes(
            rider_id=ids if count > 1 else (ids,),
            lat=lat,
            lon=lon,
            at_ms=self._sent_ms[rows] + self._off_ms[rows],
        )


@compiled(
    "int64(int64, int64, int64[::1], boolean[::1], int64[::1], Array(float64, 2, 'A'),"
    " Array(float64, 2, 'A'), Array(int64, 2, 'A'), int64[::1], int64[::1], float64[::1],"
    " float64[::1])"
)
def _latest(
    now_ms: int,
    interval_ms: int,
    phase_ms: np.ndarray,
    on: np.ndarray,
    silent_ms: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    t: np.ndarray,
    sent_ms: np.ndarray,
    rows: np.ndarray,
    at_x: np.ndarray,
    at_y: np.ndarray,
) -> int:
    """Who sends a fix now, in `rows`, from where, in `at_x` and `at_y`; gives how many.

    `sent_ms` is when each has sent his last one, and is brought up to date.
    """
    count = 0
    for row in range(len(on)):
        if not on[row] or silent_ms[row] > now_ms or sent_ms[row] >= t[row, 2]:
            continue
        at_ms = now_ms - (now_ms - phase_ms[row]) % interval_ms
        if at_ms <= sent_ms[row]:
            continue
        sent_ms[row] = at_ms
        corner = 1 if at_ms >= t[row, 1] else 0
        t0, t1 = t[row, corner], t[row, corner + 1]
        # A way that takes no time is behind him.
        share = min(max((at_ms - t0) / (t1 - t0), 0.0), 1.0) if t1 > t0 else 1.0
        x0, y0 = x[row, corner], y[row, corner]
        at_x[count] = x0 + share * (x[row, corner + 1] - x0)
        at_y[count] = y0 + share * (y[row, corner + 1] - y0)
        rows[count] = row
        count += 1
    return count
