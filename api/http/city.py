"""Route: how a city is doing, for the operator's status line; may import FastAPI and the clock."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import Role
from api.clock import DAY_MS, now_ms
from api.http.access import Caller, PathId, WithCapacity, WithParts, only
from api.http.answers import StatusAnswer
from api.http.errors import RESPONSES
from geo.errors import Forbidden

router = APIRouter(prefix="/v1/city", tags=["city"], responses=RESPONSES)


@router.get("/{city}/status")
async def status(
    city: PathId, caller: Caller, parts: WithParts, capacity: WithCapacity
) -> StatusAnswer:
    """The tenant's orders by state and riders on shift, and how far the city's feed is."""
    only(caller, Role.OPERATOR)
    if city != caller.city:
        raise Forbidden(f"the token is for the city {caller.city!r}, not {city!r}")
    store = parts.store
    async with capacity.reads.share():
        return StatusAnswer(
            city=city,
            orders=await store.counts(city, now_ms() - DAY_MS, tenant=caller.tenant),
            riders_on_shift=await store.count_riders_on_shift(city, tenant=caller.tenant),
            position=await store.last_position(city),
        )
