"""A plan's digest covers all that it decides."""

import pytest
from msgspec.structs import fields, replace

from dispatch.model import RouteStop
from dispatch.plan import Plan, PlannedOffer, Wait, WaitReason

OFFER = PlannedOffer(
    order_id="a", order_version=2, rider_id="r", route=(RouteStop(order_id="a", stop=0),),
    pickup_ms=5, done_ms=6, cost=7,
)  # fmt: skip
WAIT = Wait(order_id="b", reason=WaitReason.ON_PURPOSE)
PLAN = Plan(at_ms=1, solver="matching", offers=(OFFER,), waits=(WAIT,), matched=3)
TWO = (RouteStop(order_id="a", stop=0), RouteStop(order_id="a", stop=1))
OTHER = {
    "at_ms": 2, "solver": "greedy", "matched": 4, "waits": (), "offers": (),
}  # fmt: skip
OTHER_OFFER = {
    "order_id": "c", "order_version": 3, "rider_id": "s", "route": TWO, "pickup_ms": 6,
    "done_ms": 7, "cost": 8, "stale": True,
}  # fmt: skip
OTHER_WAIT = {"order_id": "c", "reason": WaitReason.RIDERS_TAKEN}
CHANGED = (
    [replace(PLAN, **{name: value}) for name, value in OTHER.items()]
    + [replace(PLAN, offers=(replace(OFFER, **{n: v}),)) for n, v in OTHER_OFFER.items()]
    + [replace(PLAN, waits=(replace(WAIT, **{n: v}),)) for n, v in OTHER_WAIT.items()]
    + [
        replace(PLAN, offers=(replace(OFFER, route=tuple(reversed(TWO))),)),
        replace(PLAN, offers=(replace(OFFER, route=()),)),
        replace(PLAN, offers=(OFFER, OFFER)),
        replace(PLAN, waits=(WAIT, WAIT)),
    ]
)


def test_every_field_is_tried():
    assert set(OTHER) == {f.name for f in fields(Plan)}
    assert set(OTHER_OFFER) == {f.name for f in fields(PlannedOffer)}
    assert set(OTHER_WAIT) == {f.name for f in fields(Wait)}


@pytest.mark.parametrize("changed", CHANGED)
def test_whatever_changes_changes_the_digest(changed):
    assert changed.digest() != PLAN.digest()


def test_all_of_them_differ():
    assert len({p.digest() for p in [PLAN, *CHANGED]}) == len(CHANGED) + 1


def test_equal_plans_have_equal_digests():
    again = replace(PLAN, offers=(replace(OFFER),))
    assert again is not PLAN
    assert again.digest() == PLAN.digest()
    assert len(PLAN.digest()) == 64
