"""Checks a plan against every hard rule, sharing no code with the solver; imports the values only.

Whatever decided, this says in plain Python whether it may be written. It drives each changed route
once more, in its own words, from the snapshot's columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from dispatch.plan import Plan, PlannedOffer
from dispatch.policy import Policy
from dispatch.snapshot import DROPOFF, PICKUP, Ids, Snapshot


def check_plan(snapshot: Snapshot, plan: Plan, policy: Policy) -> list[str]:
    """Every broken rule in words, or an empty list."""
    return list(_broken(snapshot, plan, policy))


def _broken(snapshot: Snapshot, plan: Plan, policy: Policy) -> Iterator[str]:
    if plan.at_ms != snapshot.at_ms:
        yield f"plan is of {plan.at_ms}, the snapshot of {snapshot.at_ms}"
    names = snapshot.orders.id
    asked = {names[row]: row for row in snapshot.orders.waiting.nonzero()[0].tolist()}
    told = [o.order_id for o in plan.offers] + [w.order_id for w in plan.waits]
    if len(told) != len(asked) or asked.keys() != set(told):
        lost = sorted(asked.keys() - set(told))
        yield f"orders not answered exactly once: lost {lost[:5]}, {len(told)} for {len(asked)}"
    if plan.offers:
        yield from _Columns(snapshot, policy, asked).broken(plan.offers)


class _Columns:
    """What the rules read of a snapshot, number by number (a memoryview gives Python's own numbers
    at half the price of an array's), and the rows of `waiting` orders and of riders by name."""

    def __init__(self, snapshot: Snapshot, policy: Policy, waiting: dict[str, int]) -> None:
        stops, orders, riders = snapshot.stops, snapshot.orders, snapshot.riders
        self.policy, self.law, self.riders = policy, snapshot.law, riders
        self.order_id, self.order_row = orders.id, waiting
        ids = riders.id
        self.rider_row = ids.rows if isinstance(ids, Ids) else Ids(ids).rows
        self.x, self.y, self.kind = map(_numbers, (stops.x, stops.y, stops.kind))
        self.earliest_ms, self.latest_ms = map(_numbers, (stops.earliest_ms, stops.latest_ms))
        self.approach_ms, self.leave_ms = map(_numbers, (stops.approach_ms, stops.leave_ms))
        self.place, self.order, self.load = _numbers(stops.place), _numbers(stops.order), stops.load
        self.version, self.needs = map(_numbers, (orders.version, orders.skills))
        self.first_index, self.first_stop = map(_numbers, (orders.first_index, orders.first_stop))
        self.stop_count, self.ride_max_ms = map(_numbers, (orders.stop_count, orders.ride_max_ms))

    def broken(self, offers: Sequence[PlannedOffer]) -> Iterator[str]:
        by_rider: dict[int, list[PlannedOffer]] = {}
        for offer in offers:
            order, rider = self._row_of(offer.order_id), self.rider_row.get(offer.rider_id, -1)
            if order < 0 or rider < 0:
                yield f"{offer.order_id} to {offer.rider_id}: not in the snapshot"
                return
            if offer.order_version != self.version[order]:
                yield f"{offer.order_id}: version {offer.order_version} is not the snapshot's"
            if self.needs[order] & ~int(self.riders.skills[rider]):
                yield f"{offer.order_id}: {offer.rider_id} lacks a skill"
            by_rider.setdefault(rider, []).append(offer)
        for rider, theirs in by_rider.items():
            for problem in self._route_broken(rider, theirs):
                yield f"rider {theirs[0].rider_id}: {problem}"

    def _row_of(self, order_id: str) -> int:
        """-1 for an order that the snapshot has not. Right plans ask for known rows only."""
        row = self.order_row.get(order_id)
        if row is None:
            self.order_row = {name: row for row, name in enumerate(self.order_id)}
            row = self.order_row.get(order_id, -1)
        return row

    def _route_broken(self, rider: int, offers: list[PlannedOffer]) -> Iterator[str]:
        if not self.riders.open[rider]:
            yield "is not open to orders"
        told = offers[0].route
        if len(offers) > 1 and any(offer.route != told for offer in offers):
            yield "is told several routes"
            return
        before = self.riders.route[rider, : self.riders.route_len[rider]].tolist()
        rows = self.order_row
        for stop in before:
            row = self.order[stop]
            rows[self.order_id[row]] = row
        route = []
        for at in told:
            order = rows[at.order_id] if at.order_id in rows else self._row_of(at.order_id)
            index = at.stop - self.first_index[order]
            if order < 0 or not 0 <= index < self.stop_count[order]:
                yield f"stop {at.stop} of {at.order_id} does not exist"
                return
            route.append(self.first_stop[order] + index)
        yield from self._order_broken(rider, route, before, offers)
        yield from self._drive_broken(rider, route, offers)

    def _order_broken(
        self, rider: int, route: list[int], before: list[int], offers: list[PlannedOffer]
    ) -> Iterator[str]:
        """What the stops of the route are, and how they follow each other."""
        if len(route) > self.policy.route_stops_max:
            yield f"{len(route)} stops, {self.policy.route_stops_max} are allowed"
        if len(set(route)) != len(route):
            yield "a stop stands twice in the route"
        latest: dict[int, int] = {}
        for stop in route:
            order = self.order[stop]
            if stop < latest.get(order, -1):
                yield f"the stops of order {self.order_id[order]} stand in another order"
            latest[order] = stop
        if [s for s in route if s in before] != before:
            yield "stops of the route were lost or put in another order"
        lock = self.riders.locked[rider]
        if route[:lock] != before[:lock]:
            yield "a locked stop was moved"
        wanted: set[int] = set()
        for offer in offers:
            order = self._row_of(offer.order_id)
            first = self.first_stop[order]
            wanted.update(range(first, first + self.stop_count[order]))
        if {s for s in route if s not in before} != wanted:
            yield "the new stops are not those of the offered orders"

    def _drive_broken(  # noqa: C901, PLR0915 - a list of rules, one after the other
        self, rider: int, route: list[int], offers: list[PlannedOffer]
    ) -> Iterator[str]:
        riders, names = self.riders, self.order_id
        x, y, now = float(riders.x[rider]), float(riders.y[rider]), int(riders.free_ms[rider])
        law = self.law
        quantum_ms = law.quantum_ms
        ms_per_m = 1000.0 * law.detour / float(riders.speed_mps[rider])
        shift_end_ms = int(riders.shift_end_ms[rider])
        load, capacity = riders.load[rider].tolist(), riders.capacity[rider].tolist()
        changes = self.load[route].tolist()
        picked: dict[int, int] = {}
        begun: dict[int, int] = {}
        ended: dict[int, int] = {}
        aboard = {self.order[s] for s in route if self.kind[s] == DROPOFF}
        aboard -= {self.order[s] for s in route if self.kind[s] == PICKUP}
        handing_over = bool(aboard)
        act, last = 0, None
        for s, change in zip(route, changes, strict=True):
            kind, order, place = self.kind[s], self.order[s], self.place[s]
            shared = last == (kind, place) and place >= 0
            if shared:
                ready = act
            else:
                across, up = self.x[s] - x, self.y[s] - y
                straight = law.metric == 0
                metres = math.sqrt(across * across + up * up) if straight else abs(across) + abs(up)
                quanta = math.ceil(metres * ms_per_m / quantum_ms * (1.0 - 1e-12))
                ready = now + quanta * quantum_ms + self.approach_ms[s]
            act = max(ready, self.earliest_ms[s])
            if act > self.latest_ms[s]:
                yield f"order {names[order]} is served after its window"
            if kind == DROPOFF:
                if order not in aboard:
                    yield f"order {names[order]} is dropped off before it is picked up"
                aboard.discard(order)
                handing_over = True
                if order in picked and act - picked[order] > self.ride_max_ms[order]:
                    yield f"order {names[order]} rides too long"
            elif act > shift_end_ms:
                yield f"order {names[order]} begins after the end of the shift"
            if kind == PICKUP:
                handing_over = handing_over and bool(aboard)
                if aboard and self.policy.bundles_in_sequence and handing_over:
                    yield "a bundle begins before the one before is handed over"
                if aboard and self.policy.one_merchant_a_bundle and not shared:
                    yield "a bundle from two merchants"
                aboard.add(order)
                picked[order] = act
            for d, more in enumerate(change):
                load[d] += more
                if load[d] > capacity[d]:
                    yield f"overloaded at order {names[order]}"
            begun.setdefault(order, act)
            ended[order] = act
            x, y, now, last = self.x[s], self.y[s], act + self.leave_ms[s], (kind, place)
        for offer in offers:
            order = self._row_of(offer.order_id)
            if (offer.pickup_ms, offer.done_ms) != (begun.get(order), ended.get(order)):
                yield f"order {offer.order_id} is planned at other times than its route gives"


def _numbers(column: Any) -> Any:
    return memoryview(column)
