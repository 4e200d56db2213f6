"""The figures of every run of a comparison, by seed and arm; as CSV for other programs.

Uses numpy. A figure with nothing to measure is NaN, an empty field in CSV.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.errors import InvalidValue
from sim.tally import Kpis

F8 = NDArray[np.float64]

OF_THE_MACHINE = ("round_ms_p95",)
"""Figures that differ between two runs of the same."""
_HEAD = ("arm", "seed")


@dataclass(frozen=True, slots=True, eq=False)
class SeedTable:
    """n seeds, k figures: `a` and `b` (n x k) are those of the two arms, row by row on one seed."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    a: F8
    b: F8

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            shape = getattr(self, name).shape
            if shape != (len(self.seeds), len(self.names)):
                raise InvalidValue(
                    f"table.{name}", shape, "as many rows as seeds, columns as names"
                )

    @property
    def differences(self) -> F8:
        """B less A, n x k."""
        return self.b - self.a

    def column(self, name: str) -> int:
        """Where a figure stands. Raises InvalidValue for one that there is not."""
        if name not in self.names:
            raise InvalidValue("kpi", name, "one of " + ", ".join(self.names))
        return self.names.index(name)


def table_of(seeds: Sequence[int], pairs: Sequence[tuple[Kpis, Kpis]]) -> SeedTable:
    """The table of the runs of each seed, at least one."""
    names = tuple(name for name in pairs[0][0] if name not in OF_THE_MACHINE)
    a, b = (np.array([_row(pair[arm], names) for pair in pairs]) for arm in (0, 1))
    return SeedTable(names, tuple(seeds), a, b)


def write_csv(table: SeedTable) -> str:
    """One line a run, `arm` first; numbers as Python writes them, so that nothing is rounded."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow((*_HEAD, *table.names))
    for i, seed in enumerate(table.seeds):
        for arm, values in (("a", table.a[i]), ("b", table.b[i])):
            rows.writerow((arm, seed, *("" if math.isnan(v) else repr(float(v)) for v in values)))
    return out.getvalue()


def read_csv(text: str) -> SeedTable:
    """What `write_csv` wrote. Raises InvalidValue naming the line."""
    rows = list(csv.DictReader(io.StringIO(text)))
    head = tuple(rows[0]) if rows else ()
    if head[:2] != _HEAD or len(rows) % 2:
        raise InvalidValue("table", head[:2], "the columns arm, seed and figures, two lines a seed")
    names = head[2:]
    seeds: list[int] = []
    values: list[list[float]] = []
    for i, row in enumerate(rows):
        arm = "ab"[i % 2]
        try:
            seed = int(row["seed"])
            values.append([_number(row[name]) for name in names])
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"table, line {i + 2}", str(error), "numbers") from None
        if row["arm"] != arm or (arm == "b" and seed != seeds[-1]):
            raise InvalidValue(f"table, line {i + 2}", row["arm"], "a, then b of the same seed")
        if arm == "a":
            seeds.append(seed)
    both = np.array(values)
    return SeedTable(names, tuple(seeds), both[0::2], both[1::2])


def _number(text: str | None) -> float:
    if text is None:
        raise ValueError("a line that is too short")
    return float(text or "nan")


def _row(kpis: Mapping[str, int | float | None], names: Sequence[str]) -> list[float]:
    return [math.nan if (value := kpis[name]) is None else float(value) for name in names]
