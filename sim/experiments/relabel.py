"""How often the comparison cries wolf: its own procedure on labels that chance has dealt.

Uses numpy; randomness comes from a generator that the caller hands in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geo.errors import InvalidValue
from sim.experiments.compare import Design
from sim.experiments.paired import intervals
from sim.experiments.table import SeedTable


@dataclass(frozen=True, slots=True, eq=False)
class Alarms:
    """By figure, the share of draws in which its interval excludes 0; None for one that is the
    same in both arms of every seed, or is missing in one. `seeds` is how many seeds a draw took on
    average."""

    draws: int
    seeds: float
    share: dict[str, float | None]


def false_alarms(
    table: SeedTable,
    design: Design,
    draws: int,
    rng: np.random.Generator,
    *,
    across: bool = False,
) -> Alarms:
    """Each draw takes seeds out of the table, with replacement, deals the arms' labels anew for
    each, and runs the two-stage procedure: how many seeds, then every figure's interval.

    No arm is better under labels dealt by chance, so each share should be one less the level.
    `across` deals the labels among the runs of A alone, each pair two different seeds: one policy
    against itself, without the help of common random numbers. (Without replacement a small table
    would run dry: after a calm first stage only restless seeds would be left.) Raises InvalidValue
    for a table of less than 2 seeds, and for gaps in a figure that the design asks for.
    """
    if len(table.seeds) < 2:
        raise InvalidValue("table", len(table.seeds), "2 seeds or more")
    for kpi in design.kpis:
        if np.isnan(table.differences[:, table.column(kpi)]).any():
            raise InvalidValue("kpi", kpi, "a figure that every run of the table has")
    whole = ~np.isnan(table.differences).any(axis=0)
    alarms: NDArray[np.int64] = np.zeros(len(table.names), np.int64)
    taken = 0
    for _ in range(draws):
        dealt = (_dealt_across if across else _dealt)(table, design.seeds_max, rng)
        count = design.seeds_for(dealt)
        found = intervals(dealt.differences[:count], design.seeds_min, design.level)
        alarms += found.excludes_zero
        taken += count
    varies = (table.a != table.a[0]) if across else (table.differences != 0.0)
    told = whole & varies.any(axis=0)
    share = {
        name: float(alarms[i] / draws) if told[i] else None for i, name in enumerate(table.names)
    }
    return Alarms(draws, taken / draws, share)


def _dealt(table: SeedTable, count: int, rng: np.random.Generator) -> SeedTable:
    rows = rng.integers(len(table.seeds), size=count)
    swapped = (rng.random(count) < 0.5)[:, np.newaxis]
    a, b = table.a[rows], table.b[rows]
    return replace(
        table,
        seeds=tuple(rows.tolist()),
        a=np.where(swapped, b, a),
        b=np.where(swapped, a, b),
    )


def _dealt_across(table: SeedTable, count: int, rng: np.random.Generator) -> SeedTable:
    n = len(table.seeds)
    one = rng.integers(n, size=count)
    other = (one + rng.integers(1, n, size=count)) % n
    return replace(table, seeds=tuple(one.tolist()), a=table.a[one], b=table.a[other])
