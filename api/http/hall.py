"""Routes: the orders in the hall, and a rider's claim; may import FastAPI, dispatch, the store."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.auth import Role
from api.clock import now_ms
from api.http.access import AnswerSystem, Caller, PathId, WithParts, only
from api.http.answers import OrderAnswer, PlaceAnswer, view_order, view_place
from api.http.errors import RESPONSES, refusal_response
from api.http.forms import Lat, Lon
from api.http.personal import personal_for
from api.http.retries import OptionalKey, mark
from dispatch.commands import Claim
from dispatch.hall import suits
from dispatch.model import Order, RiderState
from geo.datum import System, to_wgs84
from geo.distance import haversine_m
from geo.errors import InvalidValue, NotFound

router = APIRouter(prefix="/v1", tags=["hall"], responses=RESPONSES)

SHOWN_MAX = 50


class HallStop(BaseModel):
    kind: str
    place: PlaceAnswer
    earliest_ms: int | None
    latest_ms: int | None


class HallOrder(BaseModel):
    """`away_m` is the beeline to its first open stop; claim it before `expires_at_ms`."""

    id: str
    job_type: str
    stops: list[HallStop]
    price_fen: int
    promise_to_ms: int
    expires_at_ms: int
    away_m: int


class HallAnswer(BaseModel):
    orders: list[HallOrder]


@router.get("/hall")
async def look(
    caller: Caller,
    parts: WithParts,
    lat: Annotated[Lat | None, Query(strict=False)] = None,
    lon: Annotated[Lon | None, Query(strict=False)] = None,
    limit: Annotated[int, Query(ge=1, le=SHOWN_MAX)] = 20,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> HallAnswer:
    """The orders that this rider may claim, nearest first; none while he is off shift.

    Near is from (`lat`, `lon`), in the system of the answer; left out, from where he began his
    shift.
    """
    only(caller, Role.RIDER)
    if (lat is None) is not (lon is None):
        raise InvalidValue("lat" if lat is None else "lon", None, "a value: the other is given")
    rider = await parts.store.rider(caller.sub)
    if rider is None or (rider.tenant, rider.city) != (caller.tenant, caller.city):
        raise NotFound(f"no rider {caller.sub!r}")
    at_ms = now_ms()
    if rider.state is RiderState.OFF or rider.place is None or at_ms >= rider.shift_end_ms:
        return HallAnswer(orders=[])
    here = (rider.place.lat, rider.place.lon)
    if lat is not None and lon is not None:
        here = to_wgs84(lat, lon, coordinate_system)
    waiting = await parts.store.hall.open_orders(caller.tenant, caller.city, at_ms)
    found = []
    for order in waiting:
        if suits(order, rider) and rider.id not in order.declined_by:
            place = order.stops[0].place
            found.append((float(haversine_m(*here, place.lat, place.lon)), order))
    found.sort(key=lambda pair: (pair[0], pair[1].id))
    return HallAnswer(
        orders=[_view(order, away, coordinate_system) for away, order in found[:limit]]
    )


@router.post("/orders/{order_id}/claim", response_model=OrderAnswer)
async def claim(
    order_id: PathId,
    caller: Caller,
    parts: WithParts,
    response: Response,
    idempotency_key: OptionalKey = None,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> OrderAnswer | Response:
    """Grab it. One rider gets 200, every other 409 `already_taken`.

    With an Idempotency-Key the winner's request again gives the first answer again.
    """
    only(caller, Role.RIDER)
    outcome = await parts.store.hall.claim(
        order_id,
        Claim(at_ms=now_ms(), rider_id=caller.sub),
        tenant=caller.tenant,
        city=caller.city,
        action_id=idempotency_key,
    )
    if outcome.refusal is not None:
        return refusal_response(outcome.refusal)
    mark(response, outcome.replayed)
    order = outcome.order
    return view_order(order, coordinate_system, await personal_for(caller, order, parts))


def _view(order: Order, away_m: float, system: System) -> HallOrder:
    return HallOrder(
        id=order.id,
        job_type=order.job_type,
        stops=[
            HallStop(
                kind=s.kind,
                place=view_place(s.place, system),
                earliest_ms=s.earliest_ms,
                latest_ms=s.latest_ms,
            )
            for s in order.stops
        ],
        price_fen=order.price_fen,
        promise_to_ms=order.promise_to_ms,
        expires_at_ms=order.expires_at_ms,
        away_m=round(away_m),
    )
