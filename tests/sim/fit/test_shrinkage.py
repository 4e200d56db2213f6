"""Thin bins are drawn towards what is expected of them, as far as the counts bear it out."""

import numpy as np
import pytest

from sim.fit.shrinkage import SHAPE_MAX, relative_rates, smoothed_day

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("shape", [1.0, 4.0, 20.0])
def test_the_shape_of_known_rates_is_found(shape):
    expected = RNG.uniform(0.5, 30.0, 20_000)
    counts = RNG.poisson(expected * RNG.gamma(shape, 1 / shape, len(expected))).astype(float)
    _, found = relative_rates(counts, expected)
    # The information of 20,000 bins is worth a standard error below 3 % at these shapes.
    assert found == pytest.approx(shape, rel=0.1)


def test_shrunk_rates_are_nearer_to_the_truth_than_counts_or_means():
    expected = RNG.uniform(0.5, 8.0, 5_000)
    truth = RNG.gamma(3.0, 1 / 3.0, len(expected))
    counts = RNG.poisson(expected * truth).astype(float)
    shrunk, _ = relative_rates(counts, expected)
    error = np.mean(expected * (shrunk - truth) ** 2)
    assert error < 0.8 * np.mean(expected * (counts / expected - truth) ** 2)
    assert error < 0.8 * np.mean(expected * (1.0 - truth) ** 2)


def test_bins_that_differ_by_chance_alone_take_what_is_expected():
    expected = RNG.uniform(1.0, 10.0, 5_000)
    rates, shape = relative_rates(RNG.poisson(expected).astype(float), expected)
    assert shape > 200
    assert np.abs(rates - 1.0).max() < 0.1


def test_nothing_expected_is_nothing_said():
    rates, shape = relative_rates(np.zeros(3), np.zeros(3))
    assert rates.tolist() == [1.0, 1.0, 1.0]
    assert shape == SHAPE_MAX


def test_a_smoothed_day_is_nearer_to_the_truth_and_goes_round_midnight():
    at = np.arange(96)
    truth = 1.0 + np.cos(2 * np.pi * (at - 2) / 96)
    truth /= truth.sum()
    counts = RNG.poisson(800 * truth).astype(float)
    day, width = smoothed_day(counts)
    assert width > 1.0
    assert day.sum() == pytest.approx(1.0)
    raw = counts / counts.sum()
    assert np.abs(day - truth).sum() < 0.5 * np.abs(raw - truth).sum()
    spike = np.zeros(96)
    spike[48] = 500.0
    assert smoothed_day(spike)[1] == 0.0
    assert smoothed_day(np.zeros(96))[0].sum() == 0.0
