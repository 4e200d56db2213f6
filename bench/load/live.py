"""Orders through their whole life a second by the whole live system, as its clients see it.

HTTP, sockets, rounds, offers, webhooks: the system and the clients of `bench.chaos`, unbroken.
"""

from __future__ import annotations

import json
from typing import Any

from bench.chaos.run import Options, broken, in_folder

# Not of the product: clients with receivers, and the proxies between.
HARNESS = ("load", "proxy", "faults")


def measure(orders: int, riders: int, live_max: int) -> dict[str, Any]:
    """See the module. Raises RuntimeError when a promise was broken."""
    options = Options(
        seed=1, orders=orders, faults=0, riders=riders, live_max=live_max, rate=0.0, quiet_s=60.0
    )
    report, verdict = in_folder(options)
    if not verdict.kept:
        raise RuntimeError(broken(verdict))
    used = report["cpu_s"]
    ms = {name: round(1000 * used_s / orders, 2) for name, used_s in used.items()}
    return {
        "orders": orders,
        "riders": riders,
        "live_max": live_max,
        "orders_per_s": report["steady_per_s"],
        "events": report["events"],
        "fixes": report["fixes"],
        "webhooks": report["webhooks"],
        "cpu_ms_an_order": ms,
        "product_cpu_ms_an_order": round(
            sum(one for name, one in ms.items() if name not in HARNESS), 1
        ),
        "harness_cpu_ms_an_order": round(sum(ms.get(name, 0.0) for name in HARNESS), 1),
    }


def run(orders: int, riders: int, live_max: int, as_json: bool) -> None:
    found = measure(orders, riders, live_max)
    print(json.dumps(found) if as_json else found)
