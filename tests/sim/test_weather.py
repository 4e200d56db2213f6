"""Rain: the same hours for riders and for demand, whatever they are."""

import dataclasses

import numpy as np
import pytest

from geo.errors import InvalidValue
from sim.hours import local_time
from sim.scenario import RainKnobs, Spell, load_scenario
from sim.weather import Causes, conditions, draw_rain

SMALL = load_scenario("small")
HOUR_MS = 3_600_000


def drawn(**rain):
    return dataclasses.replace(SMALL, rain=RainKnobs(**rain))


@pytest.mark.parametrize("seed", range(30))
def test_riders_are_slower_while_less_is_ordered_and_at_no_other_time(seed):
    wet = drawn(per_day=20.0, demand_factor=0.5, speed_factor=0.5, accept_factor=0.5)
    spells, start_ms = draw_rain(wet, seed), wet.start_ms
    found = conditions(wet, spells)
    if found is None:
        assert not spells
        return
    end_ms = start_ms + wet.horizon_s * 1000
    local = local_time(start_ms, end_ms, "UTC")
    turns = np.array(found.from_ms, np.int64)
    at_ms = np.unique(np.clip(np.concatenate([turns - 1, turns, turns + 1]), start_ms, end_ms))
    fewer = Causes(wet, spells, local).kept(at_ms, "delivery")
    assert {found.speed_at(at) for at in at_ms.tolist()} > {1.0}
    for at, factor in zip(at_ms.tolist(), fewer.tolist(), strict=True):
        assert found.speed_at(at) == found.accept_at(at) == factor
    assert found.speed_at(start_ms + 100 * HOUR_MS) == 1.0


@pytest.mark.parametrize(("from_h", "to_h"), [(0.57, 0.94), (0.2, 0.57), (0.29, 1.16)])
def test_spells_of_hundredths_of_hours_begin_and_end_as_told(from_h, to_h):
    wet = drawn(spells=(Spell(from_h=from_h, to_h=to_h, speed_factor=0.5),))
    found = conditions(wet, draw_rain(wet, 1))
    first, last = (SMALL.start_ms + round(h * HOUR_MS) for h in (from_h, to_h))
    speeds = [found.speed_at(at) for at in (first - 1, first, last - 1, last)]
    assert speeds == [1.0, 0.5, 0.5, 1.0]


def test_spells_without_factors_of_their_own_have_those_of_rain():
    spells = (Spell(from_h=0, to_h=1), Spell(from_h=2, to_h=3, speed_factor=0.7))
    told = drawn(spells=spells, demand_factor=2.0, speed_factor=0.5, accept_factor=0.25)
    first, second = draw_rain(told, 1)
    assert (first.demand, first.speed, first.accept) == (2.0, 0.5, 0.25)
    assert (second.demand, second.speed, second.accept) == (2.0, 0.7, 0.25)
    usual = draw_rain(drawn(spells=spells), 1)[0]
    assert (usual.demand, usual.speed, usual.accept) == (1.2, 0.85, 0.95)


@pytest.mark.parametrize(
    ("knobs", "field"),
    [
        ({"speed_factor": 0.5}, "rain.speed_factor"),
        ({"demand_factor": 2.0}, "rain.demand_factor"),
        ({"accept_factor": 0.5}, "rain.accept_factor"),
        ({"hours": 2.0}, "rain.hours"),
        ({"hours": 2.0, "spells": (Spell(from_h=0, to_h=1),)}, "rain.hours"),
    ],
)
def test_knobs_of_a_rain_that_never_comes_are_refused(knobs, field):
    with pytest.raises(InvalidValue) as refused:
        RainKnobs(**knobs)
    assert refused.value.field == field
