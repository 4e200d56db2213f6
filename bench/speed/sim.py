"""How the simulator's time grows: `city` in four sizes at one density, in space and in time.

A size is the city's shape with so many orders: riders, merchants and hot spots in proportion, the
area too. So an order meets as many riders around it, and as many orders before and after it, in
every size. How busy its riders are depends on how its few hot spots lie to each other, most in a
small town: so a size is as many towns, each of a seed of its own, as have the orders of a large
one. Each size runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from dataclasses import replace
from math import sqrt

from sim.commands import peak_rss_mib
from sim.run import simulate
from sim.scenario import Scenario, load_scenario

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
ORDERS_A_LINE = 100_000


def sized(city: Scenario, orders: int) -> Scenario:
    """The city with so many orders, everything else in proportion."""
    by = orders / city.orders.count
    return replace(
        city,
        name=f"{city.name}-{orders}",
        city=replace(
            city.city,
            radius_m=city.city.radius_m * sqrt(by),
            hot_spots=max(1, round(city.city.hot_spots * by)),
        ),
        orders=replace(city.orders, count=orders),
        riders=replace(city.riders, count=max(1, round(city.riders.count * by))),
        merchants=replace(city.merchants, count=max(1, round(city.merchants.count * by))),
    )


def measure(orders: int, seed: int, days: int) -> dict[str, object]:
    """The towns of one size, in processor time, which other work on the machine is not in. The
    whole is measured and split as the real time was: to ask for processor time thrice a round
    takes longer than the rest of the round."""
    whole_s = decide_s = 0.0
    events = rounds = 0
    on_time, logs = [], hashlib.sha256()
    for day in range(days):
        began = time.process_time()
        town = sized(load_scenario("city"), orders)
        out = simulate(town, seed + day, stopwatch=time.perf_counter)
        took_s = time.process_time() - began
        whole_s += took_s
        decide_s += took_s * out.decide_s / out.total_s
        events, rounds = events + out.events, rounds + out.rounds
        on_time.append(out.kpis["on_time_share"])
        logs.update(out.event_log_sha256.encode())
    other_s, placed = whole_s - decide_s, orders * days
    return {
        "orders": orders,
        "seeds": days,
        "events": events,
        "rounds": rounds,
        "cpu_s": round(whole_s, 2),
        "ms_per_order": round(whole_s * 1e3 / placed, 4),
        "decide_ms_per_order": round(decide_s * 1e3 / placed, 4),
        "other_ms_per_order": round(other_s * 1e3 / placed, 4),
        "other_us_per_event": round(other_s * 1e6 / events, 2),
        "on_time_share": [round(share, 3) for share in on_time],
        "peak_rss_mib": round(peak_rss_mib()),
        "event_logs_sha256": logs.hexdigest(),
    }


def run(largest: int, seed: int, as_json: bool) -> None:
    """Prints a line a size, the last with the growth from the smallest to the largest."""
    simulate(sized(load_scenario("small"), 50), 0, stopwatch=time.perf_counter)  # compiles
    by_order = []
    for orders in SIZES:
        if orders > largest:
            break
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            line = pool.apply(measure, (orders, seed, max(1, ORDERS_A_LINE // orders)))
        by_order.append(float(str(line["ms_per_order"])))
        line["by_smallest"] = round(by_order[-1] / by_order[0], 3)
        print(json.dumps(line) if as_json else line, flush=True)
