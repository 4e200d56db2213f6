"""Rides in the engine's plane are the benchmark's whole minutes, exactly."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.mdrp.couriers import PLANE, TRAVEL
from sim.mdrp.instance import read_instance

MINUTE_MS = 60_000


def _there_and_back(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres -> degrees, as the dispatcher is given them -> metres, as its columns hold them."""
    lat, lon = PLANE.lat_lon(xy[:, 0], xy[:, 1])
    return PLANE.xy(lat, lon)


def test_every_pair_of_a_day_in_whole_numbers(day: Path, checker: ModuleType) -> None:
    instance = read_instance(day)
    spots = [*instance.restaurants.values(), *instance.orders, *instance.couriers]
    whole = np.array([(s.x, s.y) for s in spots], np.int64)
    x, y = _there_and_back(whole.astype(float))
    speed = instance.metres_per_min / 60
    for n in range(len(whole)):
        ours = TRAVEL.pair_ms(x[n], y[n], x, y, speed) // MINUTE_MS
        square = ((whole - whole[n]) ** 2).sum(axis=1)
        # The least k with (k v)^2 >= d^2: from k - 1 below to k above, without a root.
        v = int(instance.metres_per_min)
        assert (np.square(ours * v) >= square).all()
        assert ((np.square((ours - 1) * v) < square) | (ours == 0)).all()
    some = np.random.default_rng(0).integers(0, len(whole), (200, 2)).tolist()
    for a, b in some:
        exact = checker.ride_minutes(tuple(whole[a].tolist()), tuple(whole[b].tolist()), v)
        assert TRAVEL.pair_ms(x[a], y[a], x[b], y[b], speed) == exact * MINUTE_MS


@given(
    st.integers(-50_000, 50_000),
    st.integers(-50_000, 50_000),
    st.sampled_from([(3, 4), (4, 3), (5, 12), (8, 15), (20, 21), (1, 0)]),
    st.integers(1, 40),
    st.sampled_from([320, 427, 400, 241]),
    st.sampled_from([-1, 0, 1]),
)
def test_exact_multiples_and_their_neighbours(
    x: int, y: int, sides: tuple[int, int], times: int, speed: int, off: int
) -> None:
    """A whole number of minutes stays it, and one metre more is one minute more."""
    a, b = sides  # of a right triangle in whole numbers
    k = speed * times  # hence a ride of whole minutes, or just below or above
    here = np.array([[x, y], [x + a * k + off, y + b * k]], float)
    px, py = _there_and_back(here)
    ours = int(TRAVEL.pair_ms(px[0], py[0], px[1], py[1], speed / 60)) // MINUTE_MS
    square = (a * k + off) ** 2 + (b * k) ** 2
    assert (ours * speed) ** 2 >= square
    assert ((ours - 1) * speed) ** 2 < square


def test_the_way_through_degrees_moves_nothing_by_a_tenth_of_a_micrometre() -> None:
    xy = np.random.default_rng(3).uniform(-20_000, 20_000, (100_000, 2))
    x, y = _there_and_back(xy)
    assert np.abs(x - xy[:, 0]).max() < 1e-7
    assert np.abs(y - xy[:, 1]).max() < 1e-7


@pytest.mark.parametrize("metres", [0, 1])
def test_staying_takes_no_time_and_a_metre_takes_a_minute(metres: int) -> None:
    x, y = _there_and_back(np.array([[13_041.0, 977.0], [13_041.0 + metres, 977.0]]))
    assert TRAVEL.pair_ms(x[0], y[0], x[1], y[1], 320 / 60) == metres * MINUTE_MS
