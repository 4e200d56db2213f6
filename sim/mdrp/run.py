"""A benchmark day on the virtual clock: couriers who obey, and the live dispatcher in rounds.

The engine is the live one, whole: `Dispatcher`, `decide`, the referee and `apply`; the benchmark's
rules are flags of the policy. Within a minute couriers act first (shifts begin, arrivals, pickups,
drop-offs), then orders are placed, then the round is held, then couriers leave. May import
dispatch, geo and sim.clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from dispatch import commands as c
from dispatch import events as e
from dispatch.dispatcher import Ask, Decide, Decided, Dispatcher, PlanWritten, WritePlan
from dispatch.engine import decide
from dispatch.model import Order, OrderState, Place, Rider, RouteStop, Stop, StopKind
from dispatch.policy import Policy
from dispatch.referee import check_plan
from dispatch.transitions import Refusal, apply, apply_rider, evolve_rider, fold
from geo.distance import Plane
from geo.travel import StraightLine, arc_ms
from sim.clock import EventQueue
from sim.mdrp.instance import ON_LOCATION, Instance, MdrpCourier, MdrpOrder, Spot, read_instance
from sim.mdrp.metrics import measure
from sim.mdrp.policy import MINUTE_MS, mdrp_policy
from sim.mdrp.solution import Delivery, MdrpResult, Move, Pickup, Solution

# Midnight of the day, ms UTC: any whole day serves, since only the minutes are in the files.
MIDNIGHT_MS = 1_514_764_800_000
PLANE = Plane(0.0, 0.0)
TRAVEL = StraightLine(detour=1.0, quantum_ms=MINUTE_MS)
# What happens at one moment, in this order.
ACT, PLACE, ROUND, LEAVE = range(4)
VARIATIONS = ("assignment updates",)

Progress = Callable[[int, int, int], None]
"""Told after each round: minute of the day, orders placed, orders delivered."""
Stopwatch = Callable[[], float]
"""Seconds from any start, as `time.perf_counter`; core code reads no clock of its own."""


def run_day(
    folder: Path,
    policy: Policy | None = None,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
) -> MdrpResult:
    """The day in `folder`, driven to its end. Raises what `read_instance` raises."""
    instance = read_instance(folder)
    day = _Day(instance, policy or mdrp_policy(), progress, stopwatch)
    day.run()
    ...
