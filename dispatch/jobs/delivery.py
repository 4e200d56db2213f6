"""Same-city delivery: one pickup, one dropoff, a price by distance and load."""

from __future__ import annotations

from dataclasses import dataclass

from dispatch.model import LOAD_DIMENSIONS, Matching, Order, Stop, StopKind
from dispatch.registry import OrderForm, Quote
from geo.datum import check_lat_lon
from geo.distance import haversine_m
from geo.errors import InvalidValue

MINUTE_MS = 60_000
_PLACES = "stops[0].place", "stops[1].place"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The knobs of the job type; the defaults are a scooter courier's in a large city."""

    name: str = "delivery"
    stop_kinds: tuple[StopKind, ...] = (StopKind.PICKUP, StopKind.DROPOFF)
    matchings: tuple[Matching, ...] = (Matching.DISPATCH, Matching.HALL)
    distance_max_m: float = 15_000.0
    detour: float = 1.3
    promise_speed_mps: float = 4.5
    promise_base_ms: int = 20 * MINUTE_MS
    promise_width_ms: int = 15 * MINUTE_MS
    patience_ms: int = 45 * MINUTE_MS
    pickup_ms: int = 90_000
    dropoff_ms: int = 120_000
    base_fen: int = 500
    base_km: float = 1.0
    km_fen: int = 150
    item_fen: int = 50

    def quote(self, form: OrderForm, at_ms: int) -> Quote:
        """Lines in fen by distance and load; the promise from distance and the ready time.

        Raises InvalidValue for a form without exactly a pickup and a dropoff, a place that is no
        point, too long a way, a window in the past or empty, or a load that is not positive.
        """
        if form.details:
            raise InvalidValue("details", dict(form.details), "nothing: a delivery has no details")
        if len(form.stops) != 2:
            raise InvalidValue("stops", len(form.stops), "2: where from and where to")
        ready = at_ms
        for i, stop in enumerate(form.stops):
            check_lat_lon(stop.place.lat, stop.place.lon, _PLACES[i])
            ready = max(ready, stop.earliest_ms or at_ms)
            if stop.latest_ms is not None and stop.latest_ms <= ready:
                raise InvalidValue(f"stops[{i}].latest_ms", stop.latest_ms, f"later than {ready}")
            if stop.earliest_ms is not None and stop.earliest_ms < at_ms - MINUTE_MS:
                raise InvalidValue(
                    f"stops[{i}].earliest_ms", stop.earliest_ms, f"not before {at_ms}"
                )
        if not form.load or min(form.load) < 1:
            raise InvalidValue("load", form.load, "at least one item")
        if len(form.load) > LOAD_DIMENSIONS:
            raise InvalidValue("load", form.load, f"at most {LOAD_DIMENSIONS} numbers")
        origin, door = form.stops[0].place, form.stops[1].place
        way_m = self.detour * float(haversine_m(origin.lat, origin.lon, door.lat, door.lon))
        if way_m > self.distance_max_m:
            raise InvalidValue(
                "stops[1].place", f"{way_m:.0f} m away", f"at most {self.distance_max_m:.0f} m"
            )
        extra_km = max(0.0, way_m / 1000 - self.base_km)
        lines = [("base", self.base_fen), ("distance", round(extra_km * self.km_fen))]
        if form.load[0] > 1:
            lines.append(("items", (form.load[0] - 1) * self.item_fen))
        start = max(at_ms, form.stops[0].earliest_ms or at_ms)
        done = start + self.promise_base_ms + round(way_m / self.promise_speed_mps * 1000)
        return Quote(
            lines=tuple(lines),
            promise_from_ms=done - self.promise_width_ms,
            promise_to_ms=done,
        )

    def order(self, order_id: str, city: str, form: OrderForm, quote: Quote, at_ms: int) -> Order:
        """The quoted order; raises what `quote` raises for the same form."""
        origin, door = form.stops
        pickup = Stop(
            kind=StopKind.PICKUP,
            place=origin.place,
            place_id=origin.place_id or form.merchant_id,
            earliest_ms=origin.earliest_ms,
            latest_ms=origin.latest_ms,
            approach_ms=self.pickup_ms // 2,
            leave_ms=self.pickup_ms // 2,
            load=form.load,
        )
        dropoff = Stop(
            kind=StopKind.DROPOFF,
            place=door.place,
            earliest_ms=door.earliest_ms,
            latest_ms=door.latest_ms,
            approach_ms=self.dropoff_ms // 2,
            leave_ms=self.dropoff_ms // 2,
            load=tuple([-n for n in form.load]),
        )
        start = max(at_ms, origin.earliest_ms or at_ms)
        return Order(
            id=order_id,
            city=city,
            job_type=self.name,
            customer_id=form.customer_id,
            merchant_id=form.merchant_id,
            stops=(pickup, dropoff),
            created_at_ms=at_ms,
            promise_from_ms=quote.promise_from_ms,
            promise_to_ms=quote.promise_to_ms,
            expires_at_ms=start + self.patience_ms,
            price_fen=quote.price_fen,
            note=form.note,
        )


JOB = Delivery()
