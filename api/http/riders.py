"""Routes: register a rider, start and end his shift; may import FastAPI, the store and dispatch."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.auth import Claims, Role
from api.clock import now_ms
from api.http.access import AnswerSystem, Caller, PathId, WithParts, area_of, reach_rider
from api.http.answers import RiderAnswer, view_rider
from api.http.audit import about
from api.http.errors import RESPONSES, refusal_response
from api.http.forms import RiderForm, ShiftForm
from api.http.places import read_place
from api.http.retries import OptionalKey, key_of, mark
from api.settings import CityArea
from api.store import Store
from dispatch.commands import GoOffShift, GoOnShift, RiderCommand
from dispatch.model import Rider
from dispatch.vehicles import LEGAL_SPEED_MPS
from geo.datum import System
from geo.errors import Forbidden, InvalidValue, NotFound, UnknownName

router = APIRouter(prefix="/v1/riders", tags=["riders"], responses=RESPONSES)

SHIFT_MS_MAX = 24 * 3_600_000


@router.post("")
async def register(
    form: RiderForm,
    caller: Caller,
    parts: WithParts,
    response: Response,
    idempotency_key: OptionalKey = None,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> RiderAnswer:
    """Add a rider, off shift, or change what he is; the same again changes nothing.

    A rider who registers himself keeps the skills that an operator has given him.
    """
    about(form.id)
    reach_rider(caller, form.id)
    limit_mps = LEGAL_SPEED_MPS.get(form.vehicle)
    if limit_mps is None:
        raise UnknownName("vehicle", form.vehicle, "one of " + ", ".join(LEGAL_SPEED_MPS))
    if form.speed_mps > limit_mps:
        expected = f"{limit_mps:.2f} at most, the legal speed of a {form.vehicle}"
        raise InvalidValue("speed_mps", form.speed_mps, expected)
    himself = caller.role is Role.RIDER
    if himself and form.skills:
        raise Forbidden("skills are given by an operator, not by the rider himself")
    rider = Rider(
        id=form.id,
        city=caller.city,
        tenant=caller.tenant,
        vehicle=form.vehicle,
        speed_mps=form.speed_mps,
        capacity=form.capacity,
        skills=form.skills,
    )
    key = await key_of(caller, idempotency_key, "riders", form, parts)
    registered, replayed = await parts.store.register_once(
        rider, key, now_ms(), keep_skills=himself, name=form.name, phone=form.phone
    )
    mark(response, replayed)
    own = await parts.store.personal.of_rider(rider.id)
    return view_rider(registered, coordinate_system, own)


@router.get("/{rider_id}")
async def look(
    rider_id: PathId,
    caller: Caller,
    parts: WithParts,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> RiderAnswer:
    """The rider as he stands."""
    rider = await _reached(parts.store, caller, rider_id)
    return view_rider(rider, coordinate_system, await parts.store.personal.of_rider(rider_id))


@router.post("/{rider_id}/shift", response_model=RiderAnswer)
async def shift(
    rider_id: PathId,
    form: ShiftForm,
    caller: Caller,
    parts: WithParts,
    response: Response,
    idempotency_key: OptionalKey = None,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> RiderAnswer | Response:
    """Start or end his shift. 409 with the reason when that is not possible now."""
    await _reached(parts.store, caller, rider_id)
    key = await key_of(caller, idempotency_key, f"riders/{rider_id}/shift", form, parts)
    # Before any check that depends on the time: a retry must not fail where the first did not.
    outcome = None if key is None else await parts.store.replay_rider(key)
    if outcome is None:
        command = _command(form, area_of(parts, caller), now_ms())
        outcome = await parts.store.run_rider(rider_id, command, idempotency=key)
    answer = response if outcome.refusal is None else refusal_response(outcome.refusal)
    mark(answer, outcome.replayed)
    if outcome.refusal is not None:
        return answer
    own = await parts.store.personal.of_rider(rider_id)
    return view_rider(outcome.rider, coordinate_system, own)


async def _reached(store: Store, caller: Claims, rider_id: str) -> Rider:
    reach_rider(caller, rider_id)
    rider = await store.rider(rider_id)
    if rider is None:
        raise NotFound(f"no rider {rider_id!r}")
    if (rider.tenant, rider.city) != (caller.tenant, caller.city):
        raise Forbidden(f"rider {rider_id} is of another tenant or city")
    return rider


def _command(form: ShiftForm, area: CityArea, at_ms: int) -> RiderCommand:
    if not form.on:
        for field in ("shift_end_ms", "place"):
            if getattr(form, field) is not None:
                raise InvalidValue(field, getattr(form, field), "nothing when going off shift")
        return GoOffShift(at_ms=at_ms)
    end_ms = form.shift_end_ms
    if end_ms is None or not at_ms < end_ms <= at_ms + SHIFT_MS_MAX:
        raise InvalidValue("shift_end_ms", end_ms, f"later than {at_ms}, within 24 hours")
    if form.place is None:
        raise InvalidValue("place", None, "where the shift starts")
    place = read_place(form.place, "place", area)
    return GoOnShift(at_ms=at_ms, shift_end_ms=end_ms, place=place)
