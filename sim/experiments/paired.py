"""Intervals of paired differences, and the number of seeds that a precision takes.

Stein's two-stage procedure (C. Stein, "A two-sample test for a linear hypothesis whose power is
independent of the variance", Annals of Mathematical Statistics 16, 1945): m first seeds say how
much a difference spreads, that alone says how many seeds there will be in all, and the interval
takes its width from the first stage's spread. For normal differences the mean of all seeds does
not depend on the first stage's spread, so (mean - truth) / (s_m / sqrt(n)) has Student's t
distribution with m - 1 degrees of freedom whatever n came out: the interval is exact, though n was
chosen by looking at data. The same holds for every other figure of the same runs. Looking at the
interval after each seed until it is narrow would not be exact: it stops where the spread happens
to look small.

Uses numpy and scipy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

F8 = NDArray[np.float64]

LEVEL = 0.95
RARE = 3.0
"""Above this ratio of the whole's spread to the first stage's, that has missed something rare.

Normal differences come there once in 500 times with 8 first seeds, more rarely with more.
"""


@dataclass(frozen=True, slots=True)
class Intervals:
    """k columns: the mean difference, and how far the interval reaches to either side of it."""

    mean: F8
    half: F8

    @property
    def excludes_zero(self) -> NDArray[np.bool_]:
        return np.abs(self.mean) > self.half


def seeds_needed(first: F8, half_width: float, level: float = LEVEL) -> float:
    """How many seeds in all until the interval reaches `half_width` to either side.

    `first` are the m >= 2 differences of the first stage. At least m; infinity where a width of 0
    is asked of differences that spread.
    """
    m = len(first)
    spread = float(first.std(ddof=1))
    if spread == 0.0:
        return m
    if half_width <= 0.0:
        return math.inf
    return max(m, math.ceil((_t(m - 1, level) * spread / half_width) ** 2))


def intervals(differences: F8, first: int, level: float = LEVEL) -> Intervals:
    """Of the columns of `differences` (n x k, by seed), of which the first `first` were stage one.

    A column that the first stage saw next to nothing of (see RARE), a count of what is rare, gets
    the usual interval of all n where that is wider. Raises ValueError for fewer than 2 rows.
    """
    n = len(differences)
    m = min(first, n)
    if m < 2:
        raise ValueError(f"{m} rows of the first stage: 2 or more make an interval")
    spread = differences[:m].std(axis=0, ddof=1)
    half = _t(m - 1, level) * spread / math.sqrt(n)
    whole = differences.std(axis=0, ddof=1)
    usual = _t(n - 1, level) * whole / math.sqrt(n)
    half = np.where(whole > RARE * spread, np.maximum(half, usual), half)
    return Intervals(mean=differences.mean(axis=0), half=half)


def _t(freedom: int, level: float) -> float:
    """How far Student's t lies from 0 in `level` of the cases."""
    return float(stdtrit(freedom, (1.0 + level) / 2.0))
