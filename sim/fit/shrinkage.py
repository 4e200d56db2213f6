"""Poisson rates of thin bins, drawn towards what is expected of them; uses numpy and scipy.

The gamma-Poisson model of D. Clayton and J. Kaldor, "Empirical Bayes estimates of age-standardized
relative risks for use in disease mapping", Biometrics 43 (1987): a bin in which e orders are
expected has a relative rate of its own, gamma with mean 1 and shape s, and n of them came. Its
posterior mean is (n + s) / (e + s): a bin with many orders keeps its own rate, a thin one takes
the expected rate. The shape is that under which all counts together are most likely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

F8 = NDArray[np.float64]

SHAPE_MIN, SHAPE_MAX = 1e-2, 1e5
_WIDTHS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


def relative_rates(counts: F8, expected: F8) -> tuple[F8, float]:
    """The relative rate of each bin, in the shape of the counts, and the shape s of their law.

    Bins in which nothing is expected are 1. At SHAPE_MAX the bins differ by chance alone.
    """
    open_bins = expected > 0
    n, e = counts[open_bins], expected[open_bins]
    out = np.ones(counts.shape)
    if not len(n):
        return out, SHAPE_MAX

    def unlikelihood(log_shape: float) -> float:
        s = np.exp(log_shape)
        return -float(np.sum(_log_likelihood(n, e, s)))

    bounds = (np.log(SHAPE_MIN), np.log(SHAPE_MAX))
    found = minimize_scalar(unlikelihood, bounds=bounds, method="bounded")
    s = float(np.exp(found.x))
    out[open_bins] = (n + s) / (e + s)
    return out, s


def _log_likelihood(n: F8, e: F8, s: float) -> F8:
    """Of counts that are negative binomial with means e and shape s, but for what s leaves."""
    return np.asarray(gammaln(n + s) - gammaln(s) - s * np.log1p(e / s) - n * np.log(e + s))


def smoothed_day(counts: F8) -> tuple[F8, float]:
    """The share of each part of a day, by a Gaussian kernel that goes round midnight, and the
    kernel's width (standard deviation in parts).

    The width is that under which each order is most likely as told by all others (J. Habbema,
    J. Hermans and K. van den Broek, "A stepwise discriminant analysis program using density
    estimation", 1974). All zero where there are no orders.
    """
    total = float(counts.sum())
    if total < 2:  # nobody to leave out
        return counts / max(total, 1.0), 0.0
    best = (-np.inf, 0.0, counts / total)
    for width in _WIDTHS:
        kernel = _kernel(len(counts), width)
        spread = kernel @ counts
        others = np.maximum(spread - kernel.diagonal(), 0.0) / (total - 1.0)
        some = counts > 0
        with np.errstate(divide="ignore"):
            likelihood = float(np.sum(counts[some] * np.log(others[some])))
        if likelihood > best[0]:
            best = (likelihood, width, spread / total)
    return best[2], best[1]


def _kernel(parts: int, width: float) -> F8:
    if width == 0:
        return np.eye(parts)
    away = np.arange(parts)
    away = np.minimum(away, parts - away)
    row = np.exp(-0.5 * (away / width) ** 2)
    row /= row.sum()
    return np.asarray([np.roll(row, shift) for shift in range(parts)])
