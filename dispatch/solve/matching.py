"""Which order goes to which rider: a sparse assignment with a private dummy for every order."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from dispatch.snapshot import I8
from dispatch.solve.insertion import INFEASIBLE
from dispatch.solve.terms import Pairs


def match(pairs: Pairs, cost: I8, dummy: I8) -> tuple[I8, int]:
    """The pairs (rows) of a cheapest matching of at most one order a rider, and its points.

    `dummy` is (n,) by order row: what leaving the order over costs. An order whose pairs all cost
    more stays over. Exact: costs below 2^53 are exact in the solver's float64.
    """
    good = np.flatnonzero(cost < INFEASIBLE)
    orders, o = np.unique(pairs.order[good], return_inverse=True)
    if not len(orders):
        return np.empty(0, np.int64), 0
    riders, r = np.unique(pairs.rider[good], return_inverse=True)
    n, m = len(orders), len(riders)
    rows = np.concatenate([o, np.arange(n)])
    columns = np.concatenate([r, m + np.arange(n)])
    points = np.concatenate([cost[good], dummy[orders]])
    least = points.min()
    # The sparse solver takes no stored zeros; a constant a row changes no choice.
    weights = coo_array(((points - least + 1).astype(np.float64), (rows, columns)), (n, m + n))
    row, column = min_weight_full_bipartite_matching(weights.tocsr())
    chosen = dict(zip(zip(o.tolist(), r.tolist(), strict=True), good.tolist(), strict=True))
    picked = [chosen[i, j] for i, j in zip(row.tolist(), column.tolist(), strict=True) if j < m]
    total = sum(int(cost[p]) for p in picked)
    over = set(range(n)) - {int(np.searchsorted(orders, pairs.order[p])) for p in picked}
    return np.array(sorted(picked), np.int64), total + sum(int(dummy[orders[i]]) for i in over)


def match_greedily(pairs: Pairs, cost: I8, dummy: I8) -> tuple[I8, int]:
    """Like `match`, taking the cheapest pair again and again: what a late solver falls back to."""
    taken_orders: set[int] = set()
    taken_riders: set[int] = set()
    picked: list[int] = []
    for p in np.argsort(cost, kind="stable").tolist():
        order, rider = int(pairs.order[p]), int(pairs.rider[p])
        if cost[p] >= min(INFEASIBLE, dummy[order]):
            continue
        if order not in taken_orders and rider not in taken_riders:
            taken_orders.add(order)
            taken_riders.add(rider)
            picked.append(p)
    left = set(pairs.order[cost < INFEASIBLE].tolist()) - taken_orders
    total = sum(int(cost[p]) for p in picked) + sum(int(dummy[o]) for o in left)
    return np.array(sorted(picked), np.int64), total
