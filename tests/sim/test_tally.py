"""Several cities as one: what is counted in each, put together, gives the figures of all."""

import time
from dataclasses import replace

import numpy as np
import pytest

from sim.run import simulate
from sim.scenario import load_scenario
from sim.tally import figures, together

SMALL = load_scenario("small")
QUARTER = replace(
    SMALL,
    duration_s=1_200,
    orders=replace(SMALL.orders, count=60, peaks=()),
    riders=replace(SMALL.riders, count=12),
)


@pytest.fixture(scope="module")
def two():
    return [simulate(QUARTER, seed, stopwatch=time.perf_counter) for seed in (1, 2)]


def test_one_city_alone_is_itself(two):
    out = two[0]
    refused = out.kpis["refused_plans"]
    assert figures(together([out.tally]), out.round_ms, refused) == out.kpis


def test_two_cities_count_together(two):
    both = figures(together([out.tally for out in two]))
    a, b = (out.kpis for out in two)
    for name in ("orders_created", "orders_delivered", "offers_made", "riders", "online_h"):
        assert both[name] == pytest.approx(a[name] + b[name])
    assert both["km"] == pytest.approx(a["km"] + b["km"])
    shares = [out["on_time_share"] * out["orders_delivered"] for out in (a, b)]
    assert both["on_time_share"] == pytest.approx(sum(shares) / both["orders_delivered"])
    door = np.concatenate([out.tally.parts_ms.sum(axis=1) for out in two]) / 60_000
    assert both["click_to_door_p95_min"] == pytest.approx(np.percentile(door, 95))
    assert both["click_to_door_p95_min"] != pytest.approx(
        (a["click_to_door_p95_min"] + b["click_to_door_p95_min"]) / 2
    )
