"""Made instances: a clustered city at lunch, as a snapshot, from one seed."""

from __future__ import annotations

import numpy as np

from dispatch.commands import Accept, Command, Confirm, GoOnShift, Offer
from dispatch.dispatcher import Decide, Dispatcher
from dispatch.model import Order, Place, Rider, RouteStop
from dispatch.policy import Policy
from dispatch.registry import OrderForm, StopForm, job_type
from dispatch.snapshot import Snapshot
from dispatch.transitions import Refusal, apply, apply_rider, fold
from geo.distance import Plane
from geo.travel import StraightLine

START_MS = 1_780_000_000_000
DENSITY_PER_KM2 = 6.0  # riders
HOT_SPOTS = 12
NEAR_M = 1_200.0
PLANE = Plane(31.23, 121.47)


def lunch_peak(orders: int, riders: int, seed: int, policy: Policy) -> Snapshot:
    """`orders` waiting, `riders` on shift with routes of 0 to 6 stops, at a constant density."""
    rng = np.random.default_rng(seed)
    dispatcher = Dispatcher("bench", PLANE, StraightLine(1.3), policy)
    radius_m = 1000.0 * float(np.sqrt(riders / DENSITY_PER_KM2 / np.pi))
    centres = rng.normal(0.0, radius_m / 2, (HOT_SPOTS, 2))
    for i, home in enumerate(_places(rng, centres, radius_m, riders)):
        _put_rider(dispatcher, rng, f"r{i}", home)
    for i, here in enumerate(_places(rng, centres, radius_m, orders)):
        _tell(dispatcher, _order(rng, f"o{i}", here), Confirm(at_ms=START_MS))
    dispatcher.tick(START_MS + 1000)
    return next(e.snapshot for e in dispatcher.outbox() if isinstance(e, Decide))


def _places(
    rng: np.random.Generator, centres: np.ndarray, radius_m: float, count: int
) -> list[Place]:
    at = centres[rng.integers(0, HOT_SPOTS, count)] + rng.normal(0, radius_m / 6, (count, 2))
    return [_place(x, y) for x, y in at]


def _place(x: float, y: float) -> Place:
    lat, lon = PLANE.lat_lon(float(x), float(y))
    return Place(lat=lat, lon=lon)


def _near(rng: np.random.Generator, place: Place) -> Place:
    x, y = PLANE.xy(place.lat, place.lon)
    return _place(x + rng.normal(0, NEAR_M), y + rng.normal(0, NEAR_M))


def _order(rng: np.random.Generator, name: str, here: Place) -> Order:
    ready = START_MS + int(rng.uniform(0, 900_000))
    stops = (StopForm(place=here, earliest_ms=ready), StopForm(place=_near(rng, here)))
    form = OrderForm(customer_id="c", stops=stops)
    job = job_type("delivery")
    return job.order(name, "bench", form, job.quote(form, START_MS), START_MS)


def _put_rider(dispatcher: Dispatcher, rng: np.random.Generator, name: str, home: Place) -> None:
    """On shift, with none to three accepted orders."""
    on = GoOnShift(at_ms=START_MS, shift_end_ms=START_MS + 28_800_000, place=home)
    events = apply_rider(Rider(id=name, city="bench", capacity=(8,)), on)
    assert not isinstance(events, Refusal)
    for event in events:
        dispatcher.receive(event)
    route: tuple[RouteStop, ...] = ()
    for k in range(int(rng.integers(0, 4))):
        order = _order(rng, f"{name}-{k}", _near(rng, home))
        route = (*route, *(RouteStop(order_id=order.id, stop=s) for s in (0, 1)))
        offer = Offer(
            at_ms=START_MS,
            rider_id=name,
            deadline_ms=START_MS + 20_000,
            route=route,
            order_version=2,
        )
        accept = Accept(at_ms=START_MS, rider_id=name, number=1)
        _tell(dispatcher, order, Confirm(at_ms=START_MS), offer, accept)


def _tell(dispatcher: Dispatcher, order: Order, *commands: Command) -> None:
    for command in commands:
        events = apply(order, command)
        assert not isinstance(events, Refusal), events
        order = fold(order, events)
        for event in events:
            dispatcher.receive(event)
