"""Checks a plan against every hard rule, sharing no code with the solver; imports the values only.

Whatever decided, this says in plain Python whether it may be written. It drives each changed route
once more, in its own words, from the snapshot's columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from dispatch.plan import Plan, PlannedOffer
from dispatch.policy import Policy
from dispatch.snapshot import DROPOFF, NEVER, PICKUP, Snapshot


def check_plan(snapshot: Snapshot, plan: Plan, policy: Policy) -> list[str]:
    """Every broken rule in words, or an empty list."""
    return list(_broken(snapshot, plan, policy))


def _broken(snapshot: Snapshot, plan: Plan, policy: Policy) -> Iterator[str]:
    orders, riders = snapshot.orders, snapshot.riders
    row_of_order = {name: row for row, name in enumerate(orders.id)}
    row_of_rider = {name: row for row, name in enumerate(riders.id)}
    if plan.at_ms != snapshot.at_ms:
        yield f"plan is of {plan.at_ms}, the snapshot of {snapshot.at_ms}"
    told = [o.order_id for o in plan.offers] + [w.order_id for w in plan.waits]
    asked = sorted(orders.id[row] for row in range(len(orders.id)) if orders.waiting[row])
    if sorted(told) != asked:
        lost = sorted(set(asked) - set(told))
        yield f"orders not answered exactly once: lost {lost[:5]}, {len(told)} for {len(asked)}"
    by_rider: dict[str, list[PlannedOffer]] = {}
    for offer in plan.offers:
        if offer.order_id not in row_of_order or offer.rider_id not in row_of_rider:
            yield f"{offer.order_id} to {offer.rider_id}: not in the snapshot"
            return
        row = row_of_order[offer.order_id]
        if offer.order_version != orders.version[row]:
            yield f"{offer.order_id}: version {offer.order_version} is not the snapshot's"
        need = int(orders.skills[row])
        if int(riders.skills[row_of_rider[offer.rider_id]]) & need != need:
            yield f"{offer.order_id}: {offer.rider_id} lacks a skill"
        by_rider.setdefault(offer.rider_id, []).append(offer)
    for name, offers in by_rider.items():
        for problem in _route_broken(snapshot, policy, row_of_rider[name], offers, row_of_order):
            yield f"rider {name}: {problem}"


def _route_broken(  # noqa: C901 - a list of rules, one after the other
    snapshot: Snapshot,
    policy: Policy,
    rider: int,
    offers: list[PlannedOffer],
    row_of_order: dict[str, int],
) -> Iterator[str]:
    orders, riders = snapshot.orders, snapshot.riders
    if not riders.open[rider]:
        yield "is not open to orders"
    if len({offer.route for offer in offers}) != 1:
        yield "is told several routes"
        return
    route = []
    for told in offers[0].route:
        order = row_of_order.get(told.order_id, -1)
        index = told.stop - int(orders.first_index[order])
        if order < 0 or not 0 <= index < orders.stop_count[order]:
            yield f"stop {told.stop} of {told.order_id} does not exist"
            return
        route.append(int(orders.first_stop[order]) + index)
    if len(route) > policy.route_stops_max:
        yield f"{len(route)} stops, {policy.route_stops_max} are allowed"
    if len(set(route)) != len(route):
        yield "a stop stands twice in the route"
    for order in sorted({int(snapshot.stops.order[s]) for s in route}):
        own = [s for s in route if snapshot.stops.order[s] == order]
        if own != sorted(own):
            yield f"the stops of order {orders.id[order]} stand in another order"
    before = riders.route[rider, : riders.route_len[rider]].tolist()
    if [s for s in route if s in set(before)] != before:
        yield "stops of the route were lost or put in another order"
    lock = int(riders.locked[rider])
    if route[:lock] != before[:lock]:
        yield "a locked stop was moved"
    offered_rows = {row_of_order[offer.order_id] for offer in offers}
    wanted = {
        int(orders.first_stop[o]) + k for o in offered_rows for k in range(orders.stop_count[o])
    }
    if set(route) - set(before) != wanted:
        yield "the new stops are not those of the offered orders"
    yield from _drive_broken(snapshot, policy, rider, route, offers, row_of_order)


def _ride_ms(snapshot: Snapshot, rider: int, a: tuple[float, float], b: tuple[float, float]) -> int:
    law = snapshot.law
    across, up = abs(a[0] - b[0]), abs(a[1] - b[1])
    metres = math.sqrt(across * across + up * up) if law.metric == 0 else across + up
    exact = metres * (1000.0 * law.detour / float(snapshot.riders.speed_mps[rider]))
    return math.ceil(exact / law.quantum_ms * (1.0 - 1e-12)) * law.quantum_ms


def _drive_broken(  # noqa: C901 - a list of rules, one after the other
    snapshot: Snapshot,
    policy: Policy,
    rider: int,
    route: list[int],
    offers: list[PlannedOffer],
    row_of_order: dict[str, int],
) -> Iterator[str]:
    stops, orders, riders = snapshot.stops, snapshot.orders, snapshot.riders
    here = (float(riders.x[rider]), float(riders.y[rider]))
    now = int(riders.free_ms[rider])
    load = [int(n) for n in riders.load[rider]]
    picked: dict[int, int] = {}
    acted: dict[int, list[int]] = {}
    aboard = {
        int(stops.order[s])
        for s in route
        if stops.kind[s] == DROPOFF
        and not any(stops.order[p] == stops.order[s] and stops.kind[p] == PICKUP for p in route)
    }
    handing_over = bool(aboard)
    last: int | None = None
    for s in route:
        kind, order = int(stops.kind[s]), int(stops.order[s])
        there = (float(stops.x[s]), float(stops.y[s]))
        shared = (
            last is not None
            and stops.kind[last] == kind
            and stops.place[last] == stops.place[s]
            and stops.place[s] >= 0
        )
        if shared:
            ready = acted[int(stops.order[last])][-1]
        else:
            ready = now + _ride_ms(snapshot, rider, here, there) + int(stops.approach_ms[s])
        act = max(ready, int(stops.earliest_ms[s]))
        if act > stops.latest_ms[s]:
            yield f"order {orders.id[order]} is served after its window"
        if kind == DROPOFF:
            if order not in aboard:
                yield f"order {orders.id[order]} is dropped off before it is picked up"
            aboard.discard(order)
            handing_over = True
            start = picked.get(order)
            if start is not None and act - start > orders.ride_max_ms[order]:
                yield f"order {orders.id[order]} rides too long"
        else:
            if act > riders.shift_end_ms[rider]:
                yield f"order {orders.id[order]} begins after the end of the shift"
            if kind == PICKUP:
                handing_over = handing_over and bool(aboard)
                if aboard and policy.bundles_in_sequence and handing_over:
                    yield "a bundle begins before the one before is handed over"
                if aboard and policy.one_merchant_a_bundle and not shared:
                    yield "a bundle from two merchants"
                aboard.add(order)
                picked[order] = act
        load = [have + int(change) for have, change in zip(load, stops.load[s], strict=True)]
        if any(have > most for have, most in zip(load, riders.capacity[rider], strict=True)):
            yield f"overloaded at order {orders.id[order]}"
        acted.setdefault(order, []).append(act)
        here, now, last = there, act + int(stops.leave_ms[s]), s
    for offer in offers:
        moments = acted.get(row_of_order[offer.order_id], [NEVER])
        if (offer.pickup_ms, offer.done_ms) != (moments[0], moments[-1]):
            yield f"order {offer.order_id} is planned at other times than its route gives"
