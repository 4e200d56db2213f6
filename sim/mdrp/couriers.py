"""Couriers who obey: a benchmark day's orders and couriers, changed by `apply` alone.

A courier takes every offer, waits where he is, leaves when he has a route and is free, and takes
all orders of one restaurant that his route begins with at one moment, when he has been there for
half of the service time and the last of them is ready. May import dispatch, geo and sim.clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile

from dispatch import commands as c
from dispatch import events as e
from dispatch.model import Order, OrderState, Place, Rider, RouteStop, Stop, StopKind
from dispatch.transitions import Refusal, apply, apply_rider, evolve_rider, fold
from geo.distance import Plane
from geo.travel import StraightLine, arc_ms
from sim.clock import EventQueue
from sim.mdrp.instance import ON_LOCATION, Instance, MdrpCourier, MdrpOrder, Spot
from sim.mdrp.solution import MINUTE_MS, Bundle, Delivery, Move, Solution

CITY = "mdrp"
# Midnight of the day, ms UTC: any day serves, since the files have minutes only.
MIDNIGHT_MS = 1_514_764_800_000
# At the equator the plane is a plain scale, and the way through degrees and back moves a point by
# less than 1e-8 m: too little to change a ceiling (geo.travel says how much is forgiven).
PLANE = Plane(0.0, 0.0)
TRAVEL = StraightLine(detour=1.0, quantum_ms=MINUTE_MS)
CAPACITY = 1_000
# What happens at one moment, in this order.
ACT, PLACE, ROUND, LEAVE = range(4)

Happened = e.Event | e.RiderEvent
Due = Callable[[int], None]


class BrokenDay(AssertionError):
    ...
