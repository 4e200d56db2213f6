"""What a dispatcher counts, for Prometheus; imports prometheus_client and the events."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from dispatch import events as e

ROUNDS = Counter("hexrun_rounds_total", "rounds by who decided them", ["city", "solver"])
ROUND_SECONDS = Histogram(
    "hexrun_round_seconds",
    "from the snapshot to the plan that the referee has seen",
    ["solver"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20),
)
REFUSED = Counter("hexrun_plans_refused_total", "plans that the referee refused", ["city"])
DROPPED = Counter(
    "hexrun_offers_dropped_total", "planned offers that were not written, by reason",
    ["city", "reason"],
)  # fmt: skip
UNWRITABLE = Counter(
    "hexrun_order_failures_total",
    "writes of one order that failed by an error of its own",
    ["city"],
)
WAITING = Gauge("hexrun_orders_waiting", "orders that asked the last round for a rider", ["city"])
ON_SHIFT = Gauge("hexrun_riders_on_shift", "riders on shift at the last round", ["city"])
STALE = Gauge(
    "hexrun_riders_stale", "riders on shift who are taken to be where they were last seen", ["city"]
)
OWNED = Gauge("hexrun_cities_owned", "cities that this process dispatches")
FAILED = Counter("hexrun_city_failures_total", "times that a city's driver failed", ["city"])

_OFFERS = Counter("hexrun_offers_total", "offers by what became of them", ["city", "outcome"])
_OUTCOMES: dict[type[e.Fact], str] = {
    e.Offered: "made",
    e.Accepted: "accepted",
    e.Declined: "declined",
    e.TimedOut: "timed_out",
}


def count_event(city: str, event: e.Event | e.RiderEvent) -> None:
    """Count what has become of an offer, if the event says so."""
    outcome = None if isinstance(event, e.RiderEvent) else _OUTCOMES.get(type(event.fact))
    if outcome is not None:
        _OFFERS.labels(city, outcome).inc()


def forget_city(city: str) -> None:
    """The gauges of a city that another process has now."""
    for gauge in (WAITING, ON_SHIFT, STALE):
        gauge.labels(city).set(0)
