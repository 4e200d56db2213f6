"""The benchmark's measures of a day, in minutes and the currency of its files; imports numpy."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sim.mdrp.instance import Instance
from sim.mdrp.solution import MINUTE_MS, Solution


def measure(instance: Instance, solution: Solution) -> dict[str, object]:
    """Means and 90th percentiles over delivered orders; None where there is nothing to average.

    Utilisation is riding and service over the length of the shift, the mean of all couriers. Cost
    is the pay of all couriers, each `max(per order * orders, guarantee * hours)`, over the orders
    delivered.
    """
    order = {o.id: o for o in instance.orders}
    done = [(order[d.order], d) for d in solution.deliveries]
    click_to_door = [d.dropoff_ms / MINUTE_MS - o.placed_min for o, d in done]
    ready_to_door = [d.dropoff_ms / MINUTE_MS - o.ready_min for o, d in done]
    ready_to_pickup = [d.pickup_ms / MINUTE_MS - o.ready_min for o, d in done]
    overage = [max(0.0, minutes - instance.target_min) for minutes in click_to_door]
    return {
        "instance": instance.name,
        "orders": len(order),
        "couriers": len(instance.couriers),
        "undelivered": len(order) - len(done),
        "undelivered_share": (len(order) - len(done)) / len(order) if order else 0.0,
        "click_to_door_mean": _mean(click_to_door),
        "click_to_door_p90": _p90(click_to_door),
        "click_to_door_overage_mean": _mean(overage),
        "ready_to_door_mean": _mean(ready_to_door),
        "ready_to_door_p90": _p90(ready_to_door),
        "ready_to_pickup_mean": _mean(ready_to_pickup),
        "ready_to_pickup_p90": _p90(ready_to_pickup),
        "courier_utilisation": _mean(_utilisation(instance, solution)),
        "cost_per_order": _pay(instance, solution) / len(done) if done else None,
        "orders_per_bundle": _mean([len(b.orders) for b in solution.bundles]),
    }


def _utilisation(instance: Instance, solution: Solution) -> list[float]:
    busy: Counter[str] = Counter()
    for move in solution.moves:
        busy[move.courier] += move.ride_ms
    for bundle in solution.bundles:
        busy[bundle.courier] += instance.pickup_min * MINUTE_MS
    for delivery in solution.deliveries:
        busy[delivery.courier] += instance.dropoff_min * MINUTE_MS
    return [busy[c.id] / ((c.off_min - c.on_min) * MINUTE_MS) for c in instance.couriers]


def _pay(instance: Instance, solution: Solution) -> float:
    served = Counter(d.courier for d in solution.deliveries)
    return sum(
        max(instance.pay_order * served[c.id], instance.pay_hour * (c.off_min - c.on_min) / 60)
        for c in instance.couriers
    )


def _mean(values: list[float] | list[int]) -> float | None:
    return float(np.mean(values)) if values else None


def _p90(values: list[float]) -> float | None:
    return float(np.percentile(values, 90)) if values else None
