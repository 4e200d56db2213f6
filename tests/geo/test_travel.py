"""Travel times: the compiled law, the models, and that they are one."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.arcs import arc_ms
from geo.errors import InvalidValue, UnknownName
from geo.travel import (
    EUCLID,
    MANHATTAN,
    Manhattan,
    StraightLine,
    TravelLaw,
    travel_model,
)

METRES = st.floats(-60_000, 60_000)
SPEED = st.floats(0.5, 35.0)
MODELS = st.one_of(
    st.builds(
        StraightLine,
        st.floats(1.0, 3.0),
        st.sampled_from([1, 7, 1000, 60_000]),
    ),
    st.builds(Manhattan, st.sampled_from([1, 7, 1000, 60_000])),
)


@given(MODELS, st.lists(st.tuples(METRES, METRES, METRES, METRES), min_size=1), SPEED)
def test_a_model_is_its_law_to_the_millisecond(model, arcs, speed):
    law = model.law
    columns = np.array(arcs).T
    said = model.pair_ms(*columns, speed)
    assert said.dtype == np.int64
    assert said.tolist() == [
        arc_ms(*arc, law.metric, law.ms_per_m(speed), law.quantum_ms) for arc in arcs
    ]


@given(MODELS, st.tuples(METRES, METRES, METRES, METRES), SPEED)
def test_a_time_is_the_smallest_multiple_of_the_quantum_that_is_enough(model, arc, speed):
    time = int(model.pair_ms(*arc, speed))
    exact = float(model.metres(*arc)) / speed * 1000
    quantum = model.law.quantum_ms
    assert time % quantum == 0
    assert time >= exact * (1 - 1e-9)
    assert time - quantum < exact * (1 + 1e-9) or time == 0


@given(st.integers(0, 40_000), st.integers(0, 40_000), st.sampled_from([320, 300, 333, 457]))
def test_the_rule_of_the_published_instances(dx, dy, metres_per_minute):
    """ceil(sqrt(dx² + dy²) / v) minutes, against exact integers."""
    square = dx * dx + dy * dy
    minutes = math.isqrt(square) // metres_per_minute
    while (minutes * metres_per_minute) ** 2 < square:
        minutes += 1
    speed = metres_per_minute / 60
    model = StraightLine(detour=1.0, quantum_ms=60_000)
    assert model.pair_ms(0.0, 0.0, float(dx), float(dy), speed) == minutes * 60_000


@given(st.integers(1, 10_000), st.integers(1, 40), st.sampled_from([1, 1000, 60_000]))
def test_an_exact_multiple_is_not_rounded_up(quanta, speed_tenths, quantum):
    speed = Fraction(speed_tenths, 10)
    metres = float(speed * quanta * quantum / 1000)
    law = TravelLaw(MANHATTAN, 1.0, quantum)
    rate = law.ms_per_m(float(speed))
    assert arc_ms(0.0, 0.0, metres, 0.0, MANHATTAN, rate, quantum) == quanta * quantum


def test_known_arcs():
    assert arc_ms(0.0, 0.0, 3.0, 4.0, EUCLID, 1000.0, 1) == 5000
    assert arc_ms(0.0, 0.0, 3.0, -4.0, MANHATTAN, 1000.0, 1) == 7000
    assert arc_ms(1.0, 1.0, 1.0, 1.0, EUCLID, 1000.0, 60_000) == 0
    assert arc_ms(0.0, 0.0, 0.0, 0.1, EUCLID, 1000.0, 60_000) == 60_000
    assert StraightLine(1.3).law.ms_per_m(6.5) == pytest.approx(200.0)
    assert StraightLine(1.3).metres(0.0, 0.0, 300.0, 400.0) == pytest.approx(650.0)
    assert Manhattan().metres(0.0, 0.0, 300.0, 400.0) == 700.0


def test_a_matrix_is_its_pairs_with_one_speed_or_one_a_row():
    rng = np.random.default_rng(2)
    x1, y1, x2, y2 = rng.uniform(0, 9000, 4), rng.uniform(0, 9000, 4), *rng.uniform(0, 9000, (2, 6))
    speeds = np.array([3.0, 4.0, 5.0, 6.0])
    model = StraightLine()
    matrix = model.matrix_ms(x1, y1, x2, y2, speeds)
    assert matrix.shape == (4, 6)
    assert matrix.dtype == np.int64
    for i in range(4):
        row = model.pair_ms(x1[i], y1[i], x2, y2, float(speeds[i]))
        assert matrix[i].tolist() == row.tolist()
    assert model.matrix_ms(x1, y1, x2, y2, 4.0)[1].tolist() == matrix[1].tolist()
    assert model.matrix_ms(x1, y1, x2[:0], y2[:0], 4.0).shape == (4, 0)


@pytest.mark.parametrize(
    ("metric", "detour", "quantum"),
    [
        (2, 1.0, 1),
        (0, 0.9, 1),
        (0, math.nan, 1),
        (0, math.inf, 1),
        (0, 1.0, 0),
        (0, 1.0, -5),
        (0, 1.0, 1.5),
        (0, 1.0, True),
    ],
)
def test_a_law_that_no_road_obeys_is_refused(metric, detour, quantum):
    with pytest.raises(InvalidValue):
        TravelLaw(metric, detour, quantum)


def test_models_are_validated_when_they_are_made():
    with pytest.raises(InvalidValue, match="detour"):
        StraightLine(detour=0.5)
    with pytest.raises(InvalidValue, match="quantum_ms"):
        Manhattan(quantum_ms=0)


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_a_speed_that_never_arrives_is_refused(speed):
    with pytest.raises(InvalidValue, match="speed_mps"):
        Manhattan().law.ms_per_m(speed)
    with pytest.raises(InvalidValue, match="speed_mps"):
        Manhattan().pair_ms(0.0, 0.0, 1.0, 1.0, np.array([3.0, speed]))


def test_the_registry():
    assert travel_model("straight_line", detour=1.5) == StraightLine(1.5)
    assert travel_model("manhattan", quantum_ms=1000) == Manhattan(1000)
    with pytest.raises(UnknownName, match="straight_line, manhattan"):
        travel_model("teleport")
    with pytest.raises(UnknownName, match=r"'detour'.*quantum_ms"):
        travel_model("manhattan", detour=2.0)
