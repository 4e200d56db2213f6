"""Loads every kernel by deciding one small round: when a service starts, and once at installing."""

from __future__ import annotations

from dispatch.commands import Confirm, GoOnShift
from dispatch.dispatcher import Decide, Dispatcher
from dispatch.engine import decide
from dispatch.model import Order, Place, Rider, Stop, StopKind
from dispatch.policy import Policy
from dispatch.transitions import Refusal, apply, apply_rider
from geo.distance import Plane
from geo.travel import StraightLine


def warm_up() -> None:
    """Compiles what is not on disk yet (seconds the first time) and loads the rest."""
    policy, here = Policy(), Place(lat=0.0, lon=0.0)
    dispatcher = Dispatcher("warm", Plane(0.0, 0.0), StraightLine(), policy)
    start = GoOnShift(at_ms=1, shift_end_ms=10**9, place=here)
    stops = (
        Stop(kind=StopKind.PICKUP, place=here, load=(1,)),
        Stop(kind=StopKind.DROPOFF, place=here, load=(-1,)),
    )
    order = Order(
        id="o", city="warm", job_type="warm", customer_id="c", stops=stops, created_at_ms=1,
        promise_from_ms=1, promise_to_ms=10**6, expires_at_ms=10**6, price_fen=0,
    )  # fmt: skip
    for events in (apply_rider(Rider(id="r", city="warm"), start), apply(order, Confirm(at_ms=1))):
        assert not isinstance(events, Refusal)
        for event in events:
            dispatcher.receive(event)
    dispatcher.tick(10)
    for effect in dispatcher.outbox():
        assert isinstance(effect, Decide)
        decide(effect.snapshot, policy)


if __name__ == "__main__":
    warm_up()
