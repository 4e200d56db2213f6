"""The orders of a scenario, drawn beforehand: who asks for what, when; uses numpy.

All chance about an order is drawn here, each kind from a stream of its own, so that dispatching it
otherwise changes nothing about the order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from dispatch.model import Order, Place, StopKind, Value
from dispatch.registry import OrderForm, StopForm, job_type
from dispatch.snapshot import NEVER
from geo.errors import InvalidValue
from sim.city import F8, I8, City, pulled_inside
from sim.scenario import HOUR_MS, OrderKnobs, Scenario
from sim.streams import stream

_DOOR_SPREAD = 0.6
"""The standard deviation of the logarithm of the way to a door."""
_DOOR_MIN_M = 30.0


class OrderRequest(Value, frozen=True, kw_only=True):
    """One customer's wish. `order_id` names it in the simulator; a live server gives its own.

    The form's pickup is ready, as told, at its `earliest_ms`, and truly at `ready_ms`. The customer
    cancels at `cancel_at_ms` what is not picked up by then, or never (None). `promise_ms` is what
    a real day has promised; None for what the job type promises. `given` is the whole order where
    it was recorded: then the form is not looked at.
    """

    order_id: str
    at_ms: int
    job_type: str
    form: OrderForm
    ready_ms: int
    cancel_at_ms: int | None
    promise_ms: int | None = None
    given: Order | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Demand:
    """n order requests by time, as columns of n rows; `request(i)` gives one as a value.

    `merchant` is an index into `merchants`, the merchants' ids, or -1 for nobody's; `job` one into
    `jobs`. Places are WGS-84 degrees, of any value where the job type has no such stop. The goods
    are ready `prep_ms` after the placement, as told (NEVER: nothing is told), and in truth
    `late_ms` later than told (or than the placement). `cancel_after_ms` is NEVER for a customer
    who does not cancel, `promise_ms` an instant, NEVER for what the job type promises. Orders have
    the ids `ids`, or numbers if there are none.
    """

    at_ms: I8
    jobs: tuple[str, ...]
    job: I8
    merchants: tuple[str, ...]
    merchant: I8
    pickup_lat: F8
    pickup_lon: F8
    door_lat: F8
    door_lon: F8
    prep_ms: I8
    late_ms: I8
    cancel_after_ms: I8
    promise_ms: I8
    items: I8
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.at_ms)
        for f in fields(self):
            column = getattr(self, f.name)
            if isinstance(column, np.ndarray) and column.shape != (n,):
                raise InvalidValue(f"demand.{f.name}", column.shape, f"{n} rows, as at_ms has")
        if self.ids and len(self.ids) != n:
            raise InvalidValue("demand.ids", len(self.ids), f"{n} ids, as at_ms has rows, or none")
        if (np.diff(self.at_ms) < 0).any():
            raise InvalidValue("demand.at_ms", "falling", "instants that never fall")

    def __len__(self) -> int:
        return len(self.at_ms)

    def request(self, i: int) -> OrderRequest:
        """The i-th request. Raises IndexError beyond the last, UnknownName for its job type."""
        at_ms, row = int(self.at_ms[i]), int(self.merchant[i])
        prep_ms, cancel_ms = int(self.prep_ms[i]), int(self.cancel_after_ms[i])
        promise_ms = int(self.promise_ms[i])
        told_ms = at_ms + prep_ms if prep_ms < NEVER else None
        name = self.jobs[int(self.job[i])]
        merchant_id = self.merchants[row] if row >= 0 else ""
        pickup = StopForm(
            place=Place(lat=float(self.pickup_lat[i]), lon=float(self.pickup_lon[i])),
            earliest_ms=told_ms,
            place_id=merchant_id,
        )
        door = StopForm(place=Place(lat=float(self.door_lat[i]), lon=float(self.door_lon[i])))
        kinds = job_type(name).stop_kinds
        return OrderRequest(
            order_id=self.ids[i] if self.ids else f"o{i:07d}",
            at_ms=at_ms,
            job_type=name,
            form=OrderForm(
                customer_id=f"c{i:07d}",
                merchant_id=merchant_id,
                stops=tuple(pickup if kind is StopKind.PICKUP else door for kind in kinds),
                load=(int(self.items[i]),),
            ),
            ready_ms=(at_ms if told_ms is None else told_ms) + int(self.late_ms[i]),
            cancel_at_ms=None if cancel_ms >= NEVER else at_ms + cancel_ms,
            promise_ms=None if promise_ms >= NEVER else promise_ms,
        )


def draw_demand(scenario: Scenario, city: City, seed: int) -> Demand:
    """The same orders for the same scenario, city and seed."""
    count = scenario.orders.count
    at_ms = scenario.start_ms + _times(scenario.orders, scenario.duration_s, seed)
    rng = stream(seed, "demand", "merchants")
    merchant = rng.choice(len(city.x), count, p=city.popular)
    door_x, door_y = _doors(scenario, city.x[merchant], city.y[merchant], seed)

    knobs = scenario.merchants
    rng = stream(seed, "demand", "prep")
    spread = 1.0 + knobs.prep_spread * rng.standard_normal(count)
    prep_ms = knobs.prep_s * np.clip(spread, 0.2, 3.0) * 1000
    rng = stream(seed, "demand", "late")
    late = rng.random(count) < knobs.late_share
    late_ms = np.where(late, rng.exponential(knobs.late_s, count), 0.0) * 1000

    rng = stream(seed, "demand", "cancel")
    cancels = rng.random(count) < scenario.customers.cancel_share
    patience_ms = scenario.customers.patience_s * rng.uniform(0.5, 1.5, count) * 1000

    names = tuple(scenario.jobs)
    shares = np.array([scenario.jobs[name] for name in names], np.float64)
    lat, lon = city.plane.lat_lon(city.x, city.y)
    door_lat, door_lon = city.plane.lat_lon(door_x, door_y)
    return Demand(
        at_ms=at_ms,
        jobs=names,
        job=stream(seed, "demand", "jobs").choice(len(names), count, p=shares / shares.sum()),
        merchants=tuple(city.merchant_id(row) for row in range(len(city.x))),
        merchant=merchant,
        pickup_lat=lat[merchant],
        pickup_lon=lon[merchant],
        door_lat=door_lat,
        door_lon=door_lon,
        prep_ms=prep_ms.astype(np.int64),
        late_ms=late_ms.astype(np.int64),
        cancel_after_ms=np.where(cancels, patience_ms, NEVER).astype(np.int64),
        promise_ms=np.full(count, NEVER, np.int64),
        items=stream(seed, "demand", "items").integers(1, scenario.orders.items_max + 1, count),
    )


def _times(knobs: OrderKnobs, duration_s: int, seed: int) -> I8:
    """Sorted ms after the start. What a bell throws out of the window falls evenly into it."""
    rng = stream(seed, "demand", "times")
    count, end_ms = knobs.count, duration_s * 1000
    shares = [peak.share for peak in knobs.peaks]
    source = rng.choice(len(shares) + 1, count, p=[*shares, max(0.0, 1.0 - sum(shares))])
    at_ms = rng.uniform(0.0, end_ms, count)
    bell = rng.standard_normal(count)
    for i, peak in enumerate(knobs.peaks):
        drawn = (peak.at_h + peak.width_h * bell) * HOUR_MS
        at_ms = np.where((source == i) & (drawn >= 0.0) & (drawn < end_ms), drawn, at_ms)
    return np.sort(at_ms.astype(np.int64))


def _doors(scenario: Scenario, x: F8, y: F8, seed: int) -> tuple[F8, F8]:
    """A door for each merchant's place: any direction, but back into town rather than out of it."""
    knobs, count = scenario.city, len(x)
    rng = stream(seed, "demand", "doors")
    way_m = rng.lognormal(np.log(knobs.door_m), _DOOR_SPREAD, count)
    way_m = np.clip(way_m, min(_DOOR_MIN_M, knobs.door_m), knobs.door_max_m)
    angle = rng.uniform(0.0, 2.0 * np.pi, count)
    outside = np.hypot(x + way_m * np.cos(angle), y + way_m * np.sin(angle)) > knobs.radius_m
    angle = np.where(outside, angle + np.pi, angle)
    return pulled_inside(x + way_m * np.cos(angle), y + way_m * np.sin(angle), knobs.radius_m)
