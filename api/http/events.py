"""Route: the events after a position, for integrators to catch up; may import FastAPI."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import Role
from api.http.access import AnswerSystem, Caller, WithCapacity, WithParts, only
from api.http.answers import EventsAnswer, view_event
from api.http.errors import RESPONSES
from api.http.pages import LIMIT, After, Limit
from geo.datum import System
from geo.errors import FeedGone

router = APIRouter(prefix="/v1", tags=["events"], responses=RESPONSES)


@router.get("/events")
async def events(
    caller: Caller,
    parts: WithParts,
    capacity: WithCapacity,
    after: After = 0,
    limit: Limit = LIMIT,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> EventsAnswer:
    """The caller's tenant's events after the position `after`, in order, none ever skipped.

    0: from the first that is kept. 409 with `feed_gone` where what follows `after` is not.
    """
    only(caller, Role.OPERATOR, Role.INTEGRATOR)
    async with capacity.reads.share():
        found = await parts.store.events_after(after, caller.city, limit + 1, tenant=caller.tenant)
        # Asked afterwards: what goes while it is being read is noticed, too.
        first = await parts.store.first_kept()
    if 0 < after < first - 1:
        raise FeedGone(after, first)
    page = found[:limit]
    return EventsAnswer(
        events=[view_event(entry, coordinate_system) for entry in page],
        next_after=page[-1].position if page else after,
        more=len(found) > limit,
    )
