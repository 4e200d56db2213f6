"""What a live city and its replay build alike; may import the journal's shapes and dispatch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from api.journal import CityShape
from api.pool import FrameRow
from dispatch.dispatcher import Dispatcher, Fixes
from dispatch.plan import Plan
from dispatch.policy import Policy
from geo.distance import Plane
from geo.travel import TravelModel, travel_model


@dataclass(frozen=True, slots=True)
class City:
    """A city and how it is dispatched."""

    shape: CityShape
    policy: Policy

    @property
    def name(self) -> str:
        return self.shape.name


def travel_of(shape: CityShape) -> TravelModel:
    """The travel model that the shape names."""
    knobs = {"detour": shape.detour} if shape.travel == "straight_line" else {}
    return travel_model(shape.travel, **knobs)


def make_dispatcher(shape: CityShape, policy: Policy) -> Dispatcher:
    """The dispatcher that live and replay build alike."""
    return Dispatcher(shape.name, Plane(shape.lat, shape.lon), travel_of(shape), policy)


def fixes_of(rows: list[FrameRow]) -> Fixes:
    """A frame's rows as columns."""
    return Fixes(
        rider_id=tuple(r.rider_id for r in rows),
        lat=np.array([r.lat for r in rows], np.float64),
        lon=np.array([r.lon for r in rows], np.float64),
        at_ms=np.array([r.at_ms for r in rows], np.int64),
    )


def empty_plan(plan: Plan) -> Plan:
    """What is carried out of a refused plan: nothing."""
    return replace(plan, offers=())
