"""What a round costs as a city grows at the same density: CPU time a round and an order."""

from __future__ import annotations

import json
import time

import numpy as np

from bench.instances import lunch_peak
from dispatch.engine import decide
from dispatch.policy import Policy
from dispatch.snapshot import Snapshot

CITIES = ((2, 455), (60, 400), (600, 4_000), (6_000, 40_000))
"""Orders that wait, and riders on shift: a quiet town, then the same peak ever larger."""


def cpu_ms(snapshot: Snapshot, policy: Policy, runs: int) -> float:
    """The median CPU time of a decision, in ms."""
    times = []
    for _ in range(runs):
        began = time.thread_time_ns()
        decide(snapshot, policy)
        times.append((time.thread_time_ns() - began) / 1e6)
    return float(np.median(times))


def run(runs: int, as_json: bool) -> None:
    policy = Policy()
    for orders, riders in CITIES:
        snapshot = lunch_peak(orders, riders, 1, policy)
        decide(snapshot, policy)
        ms = cpu_ms(snapshot, policy, runs)
        line = {
            "orders": orders,
            "riders": riders,
            "round_ms": round(ms, 3),
            "us_an_order": round(1000 * ms / orders, 1),
        }
        print(json.dumps(line) if as_json else line, flush=True)
