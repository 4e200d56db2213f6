"""Where all simulated riders are, as columns: one batch of fixes a round; uses numpy.

A rider sends a fix every `interval_ms`, each at a phase of his own, while he moves and once after
he has stopped. Only the latest of a batch is computed: the dispatcher would drop the others. One
that he would have sent before his last turn is placed at that turn.
"""

from __future__ import annotations

import numpy as np

from dispatch.dispatcher import Fixes
from geo.distance import Plane
from geo.motion import Path

_CORNERS = 3


class Fleet:
    """The riders' paths: rows as given by `ids`; corners as (r, 3) columns of x, y and time."""

    def __init__(self, ids: tuple[str, ...], plane: Plane, interval_ms: int, start_ms: int) -> None:
        count = len(ids)
        self._ids = ids
        self._plane = plane
        self._interval_ms = interval_ms
        self._phase_ms = np.arange(count, dtype=np.int64) * interval_ms // max(count, 1)
        self._x = np.zeros((count, _CORNERS))
        self._y = np.zeros((count, _CORNERS))
        self._t = np.zeros((count, _CORNERS), np.int64)
        self._sent_ms = np.full(count, start_ms, np.int64)
        self._on = np.zeros(count, np.bool_)
        self._silent_ms = np.zeros(count, np.int64)
        self._off_ms = np.zeros(count, np.int64)

    def follow(self, row: int, path: Path) -> None:
        """The rider is on this path from now on (up to three corners)."""
        last = len(path.x) - 1
        for corner in range(_CORNERS):
            at = min(corner, last)
            self._x[row, corner] = path.x[at]
            self._y[row, corner] = path.y[at]
            self._t[row, corner] = path.t_ms[at]

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
        at_ms = now_ms - (now_ms - self._phase_ms) % self._interval_ms
        sent = self._sent_ms
        able = self._on & (self._silent_ms <= now_ms)
        rows = np.flatnonzero(able & (at_ms > sent) & (sent < self._t[:, -1]))
        if not len(rows):
            return None
        at = at_ms[rows]
        x, y = self._at(rows, at)
        self._sent_ms[rows] = at
        lat, lon = self._plane.lat_lon(x, y)
        return Fixes(
            rider_id=self._ids,
            which=rows,
            lat=lat,
            lon=lon,
            at_ms=at + self._off_ms[rows],
        )

    def _at(
        self, rows: np.ndarray[tuple[int], np.dtype[np.intp]], at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        t, x, y = self._t[rows], self._x[rows], self._y[rows]
        second = (at >= t[:, 1]).astype(np.intp)
        n = np.arange(len(rows))
        t0, t1 = t[n, second], t[n, second + 1]
        # A way that takes no time is behind him.
        share = np.where(t1 > t0, np.clip((at - t0) / np.maximum(t1 - t0, 1), 0.0, 1.0), 1.0)
        x0, y0 = x[n, second], y[n, second]
        return x0 + share * (x[n, second + 1] - x0), y0 + share * (y[n, second + 1] - y0)
