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
    same in both arms of every seed. `seeds` is how many seeds a draw took on average."""

    draws: int
    seeds: float
    share: dict[str, float | None]


def false_alarms(table: SeedTable, design: Design, draws: int, rng: np.random.Generator) -> Alarms:
    """Each draw deals the arms' labels anew, seed by seed, takes the seeds in a new order, and
    runs the two-stage procedure: how many seeds, then every figure's interval.

    No arm is better under labels dealt by chance, so each share should be one less the level.
    Raises InvalidValue for a table with fewer seeds than the first stage has, or with gaps in a
    figure that the design asks for.
    """
    n, m = len(table.seeds), design.seeds_min
    if n < m:
        raise InvalidValue("table", n, f"{m} (seeds_min) seeds or more")
    for kpi in design.kpis:
        if np.isnan(table.differences[:, table.column(kpi)]).any():
            raise InvalidValue("kpi", kpi, "a figure that every run of the table has")
    asked = replace(design, seeds_max=min(design.seeds_max, n))
    whole = ~np.isnan(table.differences).any(axis=0)
    alarms: NDArray[np.int64] = np.zeros(len(table.names), np.int64)
    taken = 0
    for _ in range(draws):
        dealt = _dealt(table, rng)
        count = asked.seeds_for(dealt)
        found = intervals(dealt.differences[:count], m, design.level)
        alarms += found.excludes_zero
        taken += count
    told = whole & (table.differences != 0.0).any(axis=0)
    share = {
        name: float(alarms[i] / draws) if told[i] else None for i, name in enumerate(table.names)
    }
    return Alarms(draws, taken / draws, share)


def _dealt(table: SeedTable, rng: np.random.Generator) -> SeedTable:
    order = rng.permutation(len(table.seeds))
    swapped = (rng.random(len(order)) < 0.5)[:, np.newaxis]
    a, b = table.a[order], table.b[order]
    return replace(
        table,
        seeds=tuple(table.seeds[i] for i in order),
        a=np.where(swapped, b, a),
        b=np.where(swapped, a, b),
    )
