"""Riders' columns: how fixes are written into them, and how rounds see them; compiled.

May import numpy and geo's compiler.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from geo.compiled import columns, compiled

# Values of the working column `locked`.
FREE: Final = 0
AT_STOP: Final = 1
DRIVING: Final = 2


@compiled(
    f"boolean({columns('int64', 'float64', 'float64', 'int64')}, UniTuple(float64, 4),"
    " float64[::1], float64[::1], int64[::1], int64[::1], int32[::1])"
)
def track(
    row: np.ndarray,
    lat: np.ndarray,
    lon: np.ndarray,
    at_ms: np.ndarray,
    plane: tuple[float, float, float, float],
    x: np.ndarray,
    y: np.ndarray,
    fix_ms: np.ndarray,
    free_ms: np.ndarray,
    locked: np.ndarray,
) -> bool:
    """Moves the riders of `row` (-1: nobody) to the newest of their fixes, if it is not older than
    what is known. Who drives to a locked stop is free from there from then on.

    `plane` is its origin in degrees and its metres per degree, north and east, to the bit as
    `Plane.xy` goes. False, and nothing is changed, if one of those places is no point.
    """
    lat0, lon0, north_m, east_m = plane
    for i in range(len(row)):
        known = row[i] >= 0 and at_ms[i] >= fix_ms[row[i]]
        if known and not math.isfinite(lat[i] + lon[i]):
            return False
    for i in range(len(row)):
        rider = row[i]
        if rider < 0 or at_ms[i] < fix_ms[rider]:
            continue
        east = lon[i] - lon0
        x[rider] = (east - 360.0 * np.rint(east / 360.0)) * east_m
        y[rider] = (lat[i] - lat0) * north_m
        fix_ms[rider] = at_ms[i]
        if locked[rider] == DRIVING:
            free_ms[rider] = at_ms[i]
    return True


@compiled(
    f"void(int64, int64, {columns('int32', 'int64', 'int64')}, int32[::1], int64[::1],"
    " boolean[::1])"
)
def as_seen(
    at_ms: int,
    stale_before_ms: int,
    locked: np.ndarray,
    free_ms: np.ndarray,
    fix_ms: np.ndarray,
    shown_locked: np.ndarray,
    shown_free_ms: np.ndarray,
    stale: np.ndarray,
) -> None:
    """The three columns of riders that a round sees otherwise than they are kept, written into
    `shown_locked`, `shown_free_ms` and `stale`."""
    for row in range(len(locked)):
        driving = locked[row] == DRIVING
        shown_locked[row] = min(locked[row], 1)
        shown_free_ms[row] = min(free_ms[row], at_ms) if driving else max(free_ms[row], at_ms)
        stale[row] = fix_ms[row] < stale_before_ms
