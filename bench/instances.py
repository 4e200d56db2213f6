"""Made instances: a clustered city at lunch, as a snapshot, from one seed."""

from __future__ import annotations

import numpy as np

from dispatch.commands import Accept, Confirm, GoOnShift, Offer
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


def lunch_peak(orders: int, riders: int, seed: int, policy: Policy) -> Snapshot:
    """`orders` waiting, `riders` on shift with routes of 0 to 6 stops, at a constant density."""
    rng = np.random.default_rng(seed)
    plane = Plane(31.23, 121.47)
    radius_m = 1000.0 * float(np.sqrt(riders / DENSITY_PER_KM2 / np.pi))
    centres = rng.normal(0.0, radius_m / 2, (HOT_SPOTS, 2))

    def places(count: int) -> list[Place]:
        at = centres[rng.integers(0, HOT_SPOTS, count)] + rng.normal(0, radius_m / 6, (count, 2))
        lat, lon = plane.lat_lon(at[:, 0], at[:, 1])
        return [Place(lat=float(a), lon=float(b)) for a, b in zip(lat, lon, strict=True)]

    dispatcher = Dispatcher("bench", plane, StraightLine(1.3), policy)
    job = job_type("delivery")

    def order(name: str, here: Place, there: Place) -> Order:
        ready = START_MS + int(rng.uniform(0, 900_000))
        form = OrderForm(
            customer_id="c",
            stops=(StopForm(place=here, earliest_ms=ready), StopForm(place=there)),
        )
        return job.order(name, "bench", form, job.quote(form, START_MS), START_MS)

    def tell(made: Order, *commands: object) -> None:
        for command in commands:
            events = apply(made, command)  # type: ignore[arg-type]
            assert not isinstance(events, Refusal), events
            made = fold(made, events)
            for event in events:
                dispatcher.receive(event)

    def near(place: Place) -> Place:
        x, y = plane.xy(place.lat, place.lon)
        lat, lon = plane.lat_lon(x + rng.normal(0, 1200), y + rng.normal(0, 1200))
        return Place(lat=float(lat), lon=float(lon))

    for i, home in enumerate(places(riders)):
        on = GoOnShift(at_ms=START_MS, shift_end_ms=START_MS + 28_800_000, place=home)
        for event in apply_rider(Rider(id=f"r{i}", city="bench", capacity=(8,)), on):  # type: ignore[union-attr]
            dispatcher.receive(event)
        route: tuple[RouteStop, ...] = ()
        for k in range(int(rng.integers(0, 4))):
            name = f"b{i}-{k}"
            here = near(home)
            made = order(name, here, near(here))
            route = (*route, *(RouteStop(order_id=name, stop=s) for s in (0, 1)))
            offer = Offer(
                at_ms=START_MS,
                rider_id=f"r{i}",
                deadline_ms=START_MS + 20_000,
                route=route,
                order_version=2,
            )
            accept = Accept(at_ms=START_MS, rider_id=f"r{i}", number=1)
            tell(made, Confirm(at_ms=START_MS), offer, accept)
    for i, here in enumerate(places(orders)):
        tell(order(f"o{i}", here, near(here)), Confirm(at_ms=START_MS))
    dispatcher.tick(START_MS + 1000)
    return next(e.snapshot for e in dispatcher.outbox() if isinstance(e, Decide))
