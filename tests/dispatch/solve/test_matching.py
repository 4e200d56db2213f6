"""The matching against scipy's, dense and sparse, and the greedy one against both."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from dispatch.solve.board import INFEASIBLE
from dispatch.solve.matching import match, match_greedily
from dispatch.solve.terms import Pairs

FAR = 10**13


def instance(seed, orders, riders, share, least=-2_000_000, most=2_000_000):
    """Sparse pairs over scattered rows, some of them infeasible, dummies of all sizes."""
    rng = np.random.default_rng(seed)
    there = rng.random((orders, riders)) < share
    o, r = np.nonzero(there)
    spread = 1 + int(rng.integers(3))  # rows that nobody asks about lie between
    cost = rng.integers(least, most, len(o))
    cost[rng.random(len(o)) < 0.2] = INFEASIBLE
    dummy = rng.integers(0, most, orders * spread)
    pairs = Pairs.of((o * spread).astype(np.int32), (r * spread).astype(np.int32))
    return pairs, cost.astype(np.int64), dummy.astype(np.int64)


def densely(pairs, cost, dummy):
    """Points of the cheapest assignment, every asked order having a dummy of its own."""
    good = cost < INFEASIBLE
    orders, riders = sorted(set(pairs.order[good])), sorted(set(pairs.rider[good]))
    table = np.full((len(orders), len(riders) + len(orders)), FAR, np.int64)
    for o, r, points in zip(pairs.order[good], pairs.rider[good], cost[good], strict=True):
        table[orders.index(o), riders.index(r)] = points
    for i, o in enumerate(orders):
        table[i, len(riders) + i] = dummy[o]
    rows, columns = linear_sum_assignment(table)
    return int(table[rows, columns].sum())


def worth(pairs, cost, dummy, chosen):
    """Points of a choice, counted again: chosen pairs, and dummies of the other askable orders."""
    askable = set(pairs.order[cost < INFEASIBLE].tolist())
    over = askable - set(pairs.order[chosen].tolist())
    return int(cost[chosen].sum()) + sum(int(dummy[o]) for o in over)


def is_matching(pairs, cost, chosen):
    assert (cost[chosen] < INFEASIBLE).all(), "a forbidden pair is never chosen"
    assert len(set(pairs.order[chosen].tolist())) == len(chosen)
    assert len(set(pairs.rider[chosen].tolist())) == len(chosen)
    assert chosen.tolist() == sorted(chosen.tolist())


shapes = given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.05, 0.3, 1.0]),
)


@shapes
@example(0, 12, 1, 1.0)
@example(0, 1, 12, 1.0)
def test_the_matching_is_the_cheapest(seed, orders, riders, share):
    pairs, cost, dummy = instance(seed, orders, riders, share)
    chosen, points = match(pairs, cost, dummy)
    is_matching(pairs, cost, chosen)
    assert points == worth(pairs, cost, dummy, chosen) == densely(pairs, cost, dummy)


def sparsely(pairs, cost, dummy):
    """The pairs (rows) that scipy chooses, every asked order having a dummy of its own."""
    good = np.flatnonzero(cost < INFEASIBLE)
    orders, o = np.unique(pairs.order[good], return_inverse=True)
    riders, r = np.unique(pairs.rider[good], return_inverse=True)
    n, m = len(orders), len(riders)
    rows, columns = np.append(o, np.arange(n)), np.append(r, m + np.arange(n))
    points = np.append(cost[good], dummy[orders])
    table = coo_array(((points - points.min() + 1).astype(float), (rows, columns)), (n, m + n))
    row, column = min_weight_full_bipartite_matching(table.tocsr())
    chosen = {(i, j) for i, j in zip(row.tolist(), column.tolist(), strict=True) if j < m}
    made = zip(good.tolist(), zip(o.tolist(), r.tolist(), strict=True), strict=True)
    return [p for p, pair in made if pair in chosen]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.05, 0.2, 1.0]),
    st.sampled_from([2, 5, 20, 1000]),
)
def test_of_equally_cheap_matchings_it_is_the_one_that_scipy_gives(
    seed, orders, riders, share, most
):
    """Costs are small numbers, so that there are many."""
    pairs, cost, dummy = instance(seed, orders, riders, share, least=0, most=most)
    assert not (cost < INFEASIBLE).any() or (
        match(pairs, cost, dummy)[0].tolist() == sparsely(pairs, cost, dummy)
    )


@shapes
def test_greed_is_feasible_and_never_better(seed, orders, riders, share):
    pairs, cost, dummy = instance(seed, orders, riders, share)
    chosen, points = match_greedily(pairs, cost, dummy)
    is_matching(pairs, cost, chosen)
    assert points == worth(pairs, cost, dummy, chosen)
    assert points >= match(pairs, cost, dummy)[1]
    assert all(cost[p] < dummy[pairs.order[p]] for p in chosen), "waiting is not worse"


def test_greed_is_worse_where_it_should_be():
    pairs = Pairs.of(np.array([0, 0, 1], np.int32), np.array([0, 1, 0], np.int32))
    cost, dummy = np.array([1, 2, 5]), np.array([100, 100])
    assert match(pairs, cost, dummy)[1] == 7
    assert match_greedily(pairs, cost, dummy)[1] == 101


@pytest.mark.parametrize("solve", [match, match_greedily])
@pytest.mark.parametrize("cost", [[], [INFEASIBLE, INFEASIBLE]])
def test_nothing_to_choose(solve, cost):
    n = len(cost)
    pairs = Pairs.of(np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32))
    chosen, points = solve(pairs, np.array(cost, np.int64), np.array([5, 5]))
    assert (chosen.tolist(), points) == ([], 0)


@pytest.mark.parametrize("solve", [match, match_greedily])
def test_every_order_has_a_dummy_of_its_own(solve):
    """Three orders want the one rider: the other two wait, each at its own price."""
    pairs = Pairs.of(np.arange(3, dtype=np.int32), np.zeros(3, np.int32))
    chosen, points = solve(pairs, np.array([10, 10, 10]), np.array([20, 1_000, 30]))
    # Greed takes the first of equals; the matching leaves over what waits most cheaply.
    assert (chosen.tolist(), points) == (([1], 60) if solve is match else ([0], 1_040))


@pytest.mark.parametrize("solve", [match, match_greedily])
def test_an_order_whose_riders_all_cost_more_stays_over(solve):
    pairs = Pairs.of(np.array([0, 1], np.int32), np.array([0, 1], np.int32))
    chosen, points = solve(pairs, np.array([51, 49]), np.array([50, 50]))
    assert (chosen.tolist(), points) == ([1], 99)


def test_points_are_exact_where_floats_would_not_be():
    pairs = Pairs.of(np.array([0, 0], np.int32), np.array([0, 1], np.int32))
    big = 2**52
    chosen, points = match(pairs, np.array([big + 1, big]), np.array([2 * big]))
    assert (chosen.tolist(), points) == ([1], big)
