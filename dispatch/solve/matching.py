"""Which order goes to which rider: a sparse assignment with a private dummy for every order.

Shortest augmenting paths, compiled (R. Jonker and A. Volgenant, Computing 38, 1987, without their
initialisation): order by order, the cheapest way to place one more by moving those placed before.
Orders far apart never meet on such a way, so a city costs what its quarters cost. Costs are
integers and no sum is rounded.
"""

from __future__ import annotations

import numpy as np

from dispatch.snapshot import I4, I8, NEVER
from dispatch.solve.board import INFEASIBLE
from dispatch.solve.terms import Pairs
from geo.compiled import compiled

_UNSEEN, _SEEN, _NEAREST = 0, 1, 2  # what a search knows of a column


def match(pairs: Pairs, cost: I8, dummy: I8) -> tuple[I8, int]:
    """The pairs (rows) of a cheapest matching of at most one order a rider, and its points.

    `dummy` is (n,) by order row: what leaving the order over costs. An order whose pairs all cost
    more stays over. Of equally cheap matchings it is always the same one: orders are placed by
    their row, and among columns equally far a free one goes first, then the lower rider.
    """
    chosen, points = _match(pairs.order, pairs.rider, cost, dummy)
    return chosen, int(points)


@compiled(
    "void(int64, int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1],"
    " int64[::1], int64[::1], int8[::1], int64[::1], int64[::1], int64[::1])"
)
def _place(  # noqa: C901 - one search: look around, go on to the nearest, turn back along the way
    new: int,
    first: I8,
    column: I8,
    points: I8,
    taken: I8,
    holder: I8,
    price: I8,
    away: I8,
    by: I8,
    known: I8,
    seen: I8,
    stack: I8,
    passed: I8,
) -> None:
    """Places row `new` along a shortest augmenting path and sets the prices anew."""
    row, to_row = new, np.int64(0)  # looking around from this row, so far away
    nearest = np.int64(-NEVER)
    seen_size, tied, done = 0, 0, 0
    end = -1
    while end < 0:
        for e in range(first[row], first[row + 1]):
            c = column[e]
            if known[c] == _NEAREST:
                continue
            d = to_row + points[e] - price[c]
            if known[c] == _SEEN and d >= away[c]:
                continue
            if known[c] == _UNSEEN:
                known[c] = _SEEN
                seen[seen_size] = c
                seen_size += 1
            away[c], by[c] = d, e
            if d == nearest:
                if holder[c] < 0:
                    end = c
                    break
                known[c] = _NEAREST
                stack[tied] = c
                tied += 1
        if end >= 0:
            break
        if tied == 0:
            # The nearest of the columns that are seen and not passed, all equals, lowest first.
            nearest = np.int64(NEVER)
            for k in range(seen_size):
                c = seen[k]
                if known[c] == _SEEN and away[c] <= nearest:
                    if away[c] < nearest:
                        nearest, tied = away[c], 0
                    at = tied
                    while at > 0 and stack[at - 1] > c:
                        stack[at] = stack[at - 1]
                        at -= 1
                    stack[at] = c
                    tied += 1
            for k in range(tied):
                if holder[stack[k]] < 0:
                    end = stack[k]
                    break
                known[stack[k]] = _NEAREST
            if end >= 0:
                break
        tied -= 1
        c = stack[tied]
        passed[done] = c
        done += 1
        row = holder[c]
        to_row = nearest - (points[taken[row]] - price[c])

    for k in range(done):
        price[passed[k]] += away[passed[k]] - nearest
    for k in range(seen_size):
        known[seen[k]] = _UNSEEN
    # Back along the way: each row takes the column by which it was left.
    c = end
    while True:
        e = by[c]
        row = np.searchsorted(first, e, side="right") - 1
        before = taken[row]
        taken[row], holder[c] = e, row
        if row == new:
            break
        c = column[before]


@compiled("Tuple((int64[::1], int64))(int32[::1], int32[::1], int64[::1], int64[::1])")
def _match(order: I4, rider: I4, cost: I8, dummy: I8) -> tuple[I8, int]:
    """Rows are the orders with a feasible pair; columns their riders by row, then the dummies."""
    good = np.flatnonzero(cost < INFEASIBLE)
    if not good.size:
        return np.empty(0, np.int64), 0
    column_of = np.full(rider[good].max() + 1, -1, np.int64)
    for p in good:
        column_of[rider[p]] = 0
    width = 0
    for r in range(column_of.size):
        if column_of[r] == 0:
            column_of[r] = width
            width += 1
    # The entries of row i are first[i] to first[i + 1]; the last of them is the dummy.
    n = 1
    for e in range(1, good.size):
        n += order[good[e]] != order[good[e - 1]]
    first = np.zeros(n + 1, np.int64)
    column, points = np.empty(good.size + n, np.int64), np.empty(good.size + n, np.int64)
    pair = np.full(good.size + n, -1, np.int64)
    row, size = 0, 0
    for e in range(good.size):
        p = good[e]
        column[size], points[size], pair[size] = column_of[rider[p]], cost[p], p
        size += 1
        if e + 1 == good.size or order[good[e + 1]] != order[p]:
            column[size], points[size] = width + row, dummy[order[p]]
            size += 1
            row += 1
            first[row] = size

    taken = np.full(n, -1, np.int64)  # by row: the entry that it is matched by
    holder = np.full(width + n, -1, np.int64)  # by column: the row that it is matched with
    price = np.zeros(width + n, np.int64)  # by column: its dual
    away = np.empty(width + n, np.int64)
    by = np.empty(width + n, np.int64)
    known = np.zeros(width + n, np.int8)
    seen, stack = np.empty(width + n, np.int64), np.empty(width + n, np.int64)
    passed = np.empty(width + n, np.int64)
    for row in range(n):
        _place(
            row, first, column, points, taken, holder, price, away, by, known, seen, stack, passed
        )

    total, size = 0, 0
    chosen = np.empty(n, np.int64)
    for row in range(n):
        total += points[taken[row]]
        if pair[taken[row]] >= 0:
            chosen[size] = pair[taken[row]]
            size += 1
    return chosen[:size].copy(), total


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
