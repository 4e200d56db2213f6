"""Route: the events after a position, for integrators to catch up; may import FastAPI."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Role
from api.http.access import AnswerSystem, Caller, WithCapacity, WithParts, only
from api.http.answers import EventsAnswer, view_event
from api.http.errors import RESPONSES
from geo.datum import System

router = APIRouter(prefix="/v1", tags=["events"], responses=RESPONSES)

LIMIT = 100
LIMIT_MAX = 1_000
POSITION_MAX = 2**63 - 1


@router.get("/events")
async def events(
    caller: Caller,
    parts: WithParts,
    capacity: WithCapacity,
    after: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> EventsAnswer:
    """The caller's tenant's events after the position `after`, in order, none ever skipped."""
    only(caller, Role.OPERATOR, Role.INTEGRATOR)
    async with capacity.reads.share():
        found = await parts.store.events_after(after, caller.city, limit + 1, tenant=caller.tenant)
    page = found[:limit]
    return EventsAnswer(
        events=[view_event(entry, coordinate_system) for entry in page],
        next_after=page[-1].position if page else after,
        more=len(found) > limit,
    )
