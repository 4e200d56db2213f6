"""pytest-benchmark, run by `make bench`: exact insertion for one round's candidate pairs."""

import numpy as np

from bench.instances import lunch_peak
from dispatch.policy import Policy
from dispatch.solve.board import INFEASIBLE
from dispatch.solve.candidates import eligible_riders, nearest_pairs
from dispatch.solve.routes import Routes
from dispatch.solve.terms import Terms


def test_insertions_of_a_round(benchmark):
    policy = Policy()
    snapshot = lunch_peak(200, 800, 1, policy)
    terms = Terms.blank(snapshot)
    orders = np.flatnonzero(snapshot.orders.waiting).astype(np.int32)
    riders = eligible_riders(snapshot, policy.route_stops_max)
    pairs = nearest_pairs(snapshot, orders, riders, policy.candidates)
    cost, _ = benchmark(lambda: Routes.of(snapshot, terms, policy).insertions(pairs))
    benchmark.extra_info["pairs"] = len(pairs.order)
    assert (cost < INFEASIBLE).any()
