"""One round against scipy's dense assignment with its costs from planar distances."""

from __future__ import annotations

import json
import time

import numpy as np
from scipy.optimize import linear_sum_assignment

from bench.instances import lunch_peak
from dispatch.engine import decide
from dispatch.policy import Policy
from dispatch.snapshot import Snapshot

SIZES = ((200, 800), (663, 2_585), (2_000, 5_000))


def rival(snapshot: Snapshot) -> None:
    """The dense problem: planar metres from every rider to every pickup, float64."""
    orders, riders, stops = snapshot.orders, snapshot.riders, snapshot.stops
    first = orders.first_stop[orders.waiting]
    dx = stops.x[first][:, None] - riders.x[None, :]
    dy = stops.y[first][:, None] - riders.y[None, :]
    linear_sum_assignment(np.sqrt(dx * dx + dy * dy))


def median_ms(runs: int, work: object) -> float:
    """The median wall time of `runs` calls, in ms."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times))


def run(runs: int, as_json: bool) -> None:
    policy = Policy()
    for orders, riders in SIZES:
        snapshot = lunch_peak(orders, riders, 1, policy)
        decide(snapshot, policy)
        round_ms = median_ms(runs, lambda s=snapshot: decide(s, policy))
        rival_ms = median_ms(runs, lambda s=snapshot: rival(s))
        line = {
            "orders": orders,
            "riders": riders,
            "round_ms": round(round_ms, 2),
            "rival_ms": round(rival_ms, 2),
            "ratio": round(round_ms / rival_ms, 3),
        }
        print(json.dumps(line) if as_json else line, flush=True)
