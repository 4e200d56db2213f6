"""Coverage of the two-stage intervals, by simulation: what they promise, and what peeking costs."""

import math

import numpy as np
import pytest
from scipy import stats

from sim.experiments.paired import intervals, seeds_needed

DRAWS = 6_000
# Half-widths by the spread of one difference: reached by the first stage, near it, far beyond.
HALF_WIDTHS = (2.0, 0.8, 0.35)
SEEDS_MAX = 500
QUANTILES = stats.t.ppf(0.975, np.arange(1, SEEDS_MAX))


def covered(draw, truth, half_width, first, peeking=False):
    """The share of draws whose interval holds the truth, and of those as narrow as asked."""
    hits = narrow = 0
    for _ in range(DRAWS):
        pool = draw(SEEDS_MAX)
        if peeking:
            n = np.arange(1, len(pool) + 1)
            means = pool.cumsum() / n
            spread = np.sqrt(((pool**2).cumsum() - n * means**2)[1:] / n[:-1])
            half = QUANTILES * spread / np.sqrt(n[1:])
            count = first + int(np.argmax(half[first - 2 :] <= half_width))
            found = intervals(pool[:count, np.newaxis], count)
        else:
            count = seeds_needed(pool[:first], half_width)
            found = intervals(pool[:count, np.newaxis], first)
        hits += abs(found.mean[0] - truth) <= found.half[0]
        narrow += found.half[0] <= half_width * (1 + 1e-12)
    return hits / DRAWS, narrow / DRAWS


@pytest.mark.parametrize("half_width", HALF_WIDTHS)
def test_of_normal_differences_95_of_100_intervals_hold_the_truth(half_width):
    rng = np.random.default_rng(1)
    share, narrow = covered(lambda n: rng.normal(3.0, 1.0, n), 3.0, half_width, 8)
    assert share == pytest.approx(0.95, abs=0.009)  # three standard errors
    assert narrow > 0.99


def test_looking_until_it_is_narrow_is_found_out():
    rng = np.random.default_rng(2)
    share, _ = covered(lambda n: rng.normal(0.0, 1.0, n), 0.0, 0.6, 4, peeking=True)
    assert share < 0.93


@pytest.mark.parametrize(
    ("draw", "truth", "least"),
    [
        (lambda rng, n: rng.standard_t(5, n), 0.0, 0.94),
        (lambda rng, n: rng.uniform(-1, 1, n), 0.0, 0.94),
        (lambda rng, n: rng.exponential(1.0, n) - rng.exponential(1.0, n), 0.0, 0.94),
        (lambda rng, n: rng.gamma(4.0, 1.0, n), 4.0, 0.92),
    ],
    ids=["heavy tails", "no tails", "two-sided exponential", "skewed"],
)
def test_of_other_differences_nearly_as_many(draw, truth, least):
    rng = np.random.default_rng(3)
    spread = draw(rng, 100_000).std()
    share, _ = covered(lambda n: draw(rng, n), truth, 0.8 * spread, 8)
    assert least <= share <= 0.975


def test_another_figure_of_the_same_runs_is_covered_as_well():
    """How many seeds there are is chosen by the first figure, with which the second goes along."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(DRAWS):
        both = rng.normal(0.0, 1.0, (300, 2))
        both[:, 1] = 0.8 * both[:, 0] + 0.6 * both[:, 1] + 5.0
        count = seeds_needed(both[:8, 0], 0.6)
        found = intervals(both[:count], 8)
        hits += abs(found.mean[1] - 5.0) <= found.half[1]
    assert hits / DRAWS == pytest.approx(0.95, abs=0.009)


def test_what_the_first_stage_saw_nothing_of_has_the_usual_interval():
    rare = np.zeros((60, 1))
    rare[[20, 40, 59]] = 1.0
    found = intervals(rare, 8)
    assert found.half[0] == pytest.approx(stats.t.ppf(0.975, 59) * rare.std(ddof=1) / math.sqrt(60))
    assert not found.excludes_zero[0]
    spread = np.random.default_rng(5).normal(size=(60, 1))
    first = stats.t.ppf(0.975, 7) * spread[:8].std(ddof=1) / math.sqrt(60)
    assert intervals(spread, 8).half[0] == pytest.approx(first)


def test_the_number_of_seeds():
    first = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    spread, t = first.std(ddof=1), stats.t.ppf(0.975, 7)
    assert seeds_needed(first, 0.1) == math.ceil((t * spread / 0.1) ** 2)
    assert seeds_needed(first, 5.0) == 8
    assert seeds_needed(first, 0.0) == math.inf
    assert seeds_needed(np.full(8, 3.0), 0.0) == 8
    with pytest.raises(ValueError, match="2 or more"):
        intervals(np.zeros((1, 1)), 8)
