"""Which order goes to which rider: a sparse assignment with a private dummy for every order.

Shortest augmenting paths, compiled (R. Jonker and A. Volgenant, Computing 38, 1987, without their
initialisation): order by order, the cheapest way to place one more by moving those placed before.
Orders far apart never meet on such a way, so a city costs what its quarters cost. Costs are
integers and no sum is rounded.
"""

from __future__ import annotations

import numpy as np

from dispatch.snapshot import I1, I4, I8, NEVER
from dispatch.solve.board import INFEASIBLE
from dispatch.solve.terms import Pairs
from geo.compiled import compiled, core, inlined

_UNSEEN, _SEEN, _NEAREST = 0, 1, 2  # what a search knows of a column


def match(pairs: Pairs, cost: I8, dummy: I8) -> tuple[I8, int]:
    """The pairs (rows) of a cheapest matching of at most one order a rider, and its points.

    `dummy` is (n,) by order row: what leaving the order over costs. An order whose pairs all cost
    more stays over. Of equally cheap matchings it is always the same one: orders are placed by
    their row, and among columns equally far a free one goes first, then the lower rider.
    """
    chosen, points = _match(pairs.order, pairs.rider, cost, dummy)
    return chosen, int(points)


# A search's columns: `away`, how far, by the entry `by`, as far as is `known`; `seen` are those
# that are not _UNSEEN, `stack` those as near as the nearest that are still to be passed.


@inlined
def _look_around(
    row: int,
    to_row: int,
    nearest: int,
    sizes: I8,
    first: I8,
    column: I8,
    points: I8,
    holder: I8,
    price: I8,
    away: I8,
    by: I8,
    known: I1,
    seen: I8,
    stack: I8,
) -> int:
    """Sees what can be reached from a row that is `to_row` away; a free column as near as the
    nearest ends the search and is given, else -1. `sizes` are those of `seen` and `stack`."""
    for e in range(first[row], first[row + 1]):
        c = column[e]
        d = to_row + points[e] - price[c]
        if known[c] == _NEAREST or (known[c] == _SEEN and d >= away[c]):
            continue
        if known[c] == _UNSEEN:
            known[c] = _SEEN
            seen[sizes[0]] = c
            sizes[0] += 1
        away[c], by[c] = d, e
        if d == nearest:
            if holder[c] < 0:
                return int(c)
            known[c] = _NEAREST
            stack[sizes[1]] = c
            sizes[1] += 1
    return -1


@inlined
def _go_on(sizes: I8, holder: I8, away: I8, known: I1, seen: I8, stack: I8) -> int:
    """Puts the nearest of the columns that are seen and not passed into `stack`, lowest first; the
    first free one of them ends the search and is given, else -1."""
    nearest, tied = NEVER, 0
    for k in range(sizes[0]):
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
    sizes[1] = tied
    for k in range(tied):
        if holder[stack[k]] < 0:
            return int(stack[k])
        known[stack[k]] = _NEAREST
    return -1


@core(
    "void(int64, int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1],"
    " int64[::1], int64[::1], int64[::1], int8[::1], int64[::1], int64[::1], int64[::1],"
    " int64[::1])"
)
def _place(
    new: int,
    first: I8,
    column: I8,
    row_of: I8,
    points: I8,
    taken: I8,
    holder: I8,
    price: I8,
    away: I8,
    by: I8,
    known: I1,
    seen: I8,
    stack: I8,
    passed: I8,
    sizes: I8,
) -> None:
    """Places row `new` along a shortest augmenting path and sets the prices anew."""
    sizes[0] = sizes[1] = 0
    row, to_row, nearest, done = new, 0, -NEVER, 0
    while True:
        end = _look_around(
            row, to_row, nearest, sizes, first, column, points, holder, price, away, by, known,
            seen, stack,
        )  # fmt: skip
        if end < 0 and sizes[1] == 0:
            end = _go_on(sizes, holder, away, known, seen, stack)
            nearest = away[stack[0]]
        if end >= 0:
            break
        sizes[1] -= 1
        c = stack[sizes[1]]
        passed[done] = c
        done += 1
        row = holder[c]
        to_row = nearest - (points[taken[row]] - price[c])

    for k in range(done):
        price[passed[k]] += away[passed[k]] - nearest
    for k in range(sizes[0]):
        known[seen[k]] = _UNSEEN
    # Back along the way: each row takes the entry by which it was left.
    c = end
    while True:
        row = row_of[by[c]]
        before = taken[row]
        taken[row], holder[c] = by[c], row
        if row == new:
            break
        c = column[before]


@inlined
def _number_riders(good: I8, rider: I4, column_of: I8) -> int:
    """Numbers the riders of the good pairs by their row, and gives how many they are."""
    for p in good:
        column_of[rider[p]] = 0
    width = 0
    for r in range(column_of.size):
        if column_of[r] == 0:
            column_of[r] = width
            width += 1
    return width


@compiled("Tuple((int64[::1], int64))(int32[::1], int32[::1], int64[::1], int64[::1])")
def _match(order: I4, rider: I4, cost: I8, dummy: I8) -> tuple[I8, int]:
    """Rows are the orders with a feasible pair; columns their riders by row, then the dummies."""
    good = np.flatnonzero(cost < INFEASIBLE)
    if not good.size:
        return np.empty(0, np.int64), 0
    column_of = np.full(rider[good].max() + 1, -1, np.int64)
    width = _number_riders(good, rider, column_of)
    # The entries of row i are first[i] to first[i + 1]; the last of them is the dummy.
    size, n = 0, 0
    most = 2 * good.size
    first, row_of = np.zeros(good.size + 1, np.int64), np.empty(most, np.int64)
    column, points, pair = np.empty(most, np.int64), np.empty(most, np.int64), np.full(most, -1)
    for e in range(good.size):
        p = good[e]
        column[size], points[size], pair[size] = column_of[rider[p]], cost[p], p
        row_of[size] = n
        size += 1
        if e + 1 == good.size or order[good[e + 1]] != order[p]:
            column[size], points[size], row_of[size] = width + n, dummy[order[p]], n
            size += 1
            n += 1
            first[n] = size

    taken = np.full(n, -1, np.int64)  # by row: the entry that it is matched by
    holder = np.full(width + n, -1, np.int64)  # by column: the row that it is matched with
    price = np.zeros(width + n, np.int64)  # by column: its dual
    away, by = np.empty(width + n, np.int64), np.empty(width + n, np.int64)
    known, sizes = np.zeros(width + n, np.int8), np.empty(2, np.int64)
    seen, stack = np.empty(width + n, np.int64), np.empty(width + n, np.int64)
    passed = np.empty(width + n, np.int64)
    for row in range(n):
        _place(
            row, first, column, row_of, points, taken, holder, price, away, by, known, seen, stack,
            passed, sizes,
        )  # fmt: skip
    chosen = pair[taken]
    return chosen[chosen >= 0], points[taken].sum()


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
