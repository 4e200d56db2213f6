"""One arc's travel time as a compiled kernel, for other kernels; may import geo's compiler."""

from __future__ import annotations

import math

from geo.compiled import compiled
from geo.travel import EXACT, MANHATTAN


@compiled("int64(float64, float64, float64, float64, int64, float64, int64)")
def arc_ms(
    x1: float, y1: float, x2: float, y2: float, metric: int, ms_per_m: float, quantum_ms: int
) -> int:
    """Milliseconds from (x1, y1) to (x2, y2), planar metres, rounded up to `quantum_ms`.

    `metric` is EUCLID or MANHATTAN. A quantum of 1 rounds up to the millisecond; 60000 with a
    detour of 1 is the rule of the Meal Delivery Routing Problem instances (Reyes et al., 2018):
    ceil(distance / metres per minute) minutes.
    """
    dx, dy = x2 - x1, y2 - y1
    metres = abs(dx) + abs(dy) if metric == MANHATTAN else math.sqrt(dx * dx + dy * dy)
    return math.ceil(metres * ms_per_m / quantum_ms * EXACT) * quantum_ms
