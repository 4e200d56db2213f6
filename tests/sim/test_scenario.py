"""Scenarios: what ships loads; what is wrong is refused by its name and path."""

import dataclasses
import pickle
from importlib.resources import files

import pytest

from dispatch.policy import Policy
from geo.errors import InvalidValue, MissingFile, UnknownKey, UnknownName
from geo.travel import Manhattan, StraightLine
from sim.country import load
from sim.experiments.arms import read_arm
from sim.scenario import Scenario, load_scenario, parse_scenario, shipped

SMALL = (files("sim") / "scenarios" / "small.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_scenario_loads_under_its_own_name(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    assert pickle.loads(pickle.dumps(scenario)) == scenario


def test_what_ships():
    orders = {name: load_scenario(name).orders.count for name in shipped()}
    assert orders["small"] == 600
    assert orders["lunch"] == 5_000
    assert orders["city"] == 100_000
    assert load_scenario("city").riders.count == 4_000
    assert load_scenario("demo").riders.count == 300


def test_values_are_of_the_types_they_say():
    scenario = parse_scenario(SMALL)
    assert scenario.orders.peaks[0].width_h == 0.35
    assert isinstance(scenario.riders.shifts, tuple)
    assert isinstance(scenario.city.radius_m, float)
    assert scenario.policy == dataclasses.replace(Policy(), version="small", tick_ms=5_000)


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        (("count: 110", "cuont: 110"), UnknownKey, "riders.cuont"),
        (("start_h: 0", "begin_h: 0"), UnknownKey, "riders.shifts.0.begin_h"),
        (("tick_ms: 5_000", "tock_ms: 1"), UnknownKey, "policy.tock_ms"),
        (("name: small", "nmae: small"), UnknownKey, "nmae"),
        (("jobs:", "travel: {model: manhattan, detour: 1.2}\njobs:"), UnknownKey, "travel.detour"),
        (("count: 110", "count: 0"), InvalidValue, "riders.count"),
        (("count: 110", "count: '110'"), InvalidValue, "riders.count"),
        (("count: 110", "count: 110.5"), InvalidValue, "riders.count"),
        (("count: 110", "count: true"), InvalidValue, "riders.count"),
        (("count: 110", "count: 110\n  speed_mps: 9"), InvalidValue, "riders.speed_mps"),
        (("count: 110", "count: 110\n  accept_share: 0.99\n  ignore_share: 0.02"), InvalidValue,
         "riders.accept_share"),
        (("hours: 3", "hours: 0"), InvalidValue, "riders.shifts.0.hours"),
        (("lat: 30.6586", "lat: .nan"), InvalidValue, "city.lat"),
        (("lat: 30.6586", "lat: 91"), InvalidValue, "city.lat"),
        (("door_m: 1200", "door_m: 9000"), InvalidValue, "city.door_m"),
        (("share: 0.6", "share: 1.6"), InvalidValue, "orders.peaks.0.share"),
        (("merchants: {count: 60}", ""), InvalidValue, "merchants"),
        (("horizon_s: 14_400", "horizon_s: 60"), InvalidValue, "horizon_s"),
        (("tick_ms: 5_000", "tick_ms: 0"), InvalidValue, "policy.tick_ms"),
        (("jobs:", "travel: {detour: 0.5}\njobs:"), InvalidValue, "travel.detour"),
        (("jobs:", "travel: {model: broom}\njobs:"), UnknownName, "travel.model"),
        (("jobs: {delivery: 1.0}", "jobs: {flying: 1.0}"), UnknownName, "job_type"),
        (("jobs: {delivery: 1.0}", "jobs: {delivery: 0}"), InvalidValue, "jobs.delivery"),
        (("jobs: {delivery: 1.0}", "jobs: {}"), InvalidValue, "jobs"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change, error, field):
    assert change[0] in SMALL
    with pytest.raises(error) as caught:
        parse_scenario(SMALL.replace(*change, 1))
    assert type(caught.value) is error
    assert caught.value.field == field


CELL, FAR = "8840e3ce8dfffff", "885e695001fffff"  # the latter lies in the South Pacific
TABLE = SMALL.replace("hot_spots: 6, ", "").replace(
    SMALL[SMALL.index("orders:") : SMALL.index("riders:")],
    f"demand: {{rates: [{{cell: {CELL}, per_h: [9]}}]}}\n",
)
SHOPS = TABLE.replace(
    "per_h: [9]}]", "per_h: [9]}], merchants: [{id: a, lat: 30.66, lon: 104.06}]"
).replace("{count: 60}", "{}")
BURST = "at_h: 0.5, lat: 30.66, lon: 104.06, orders: 9"


@pytest.mark.parametrize(
    ("text", "more", "field"),
    [
        (TABLE, ((f"cell: {CELL}", f"cell: {FAR}"),), "demand.rates.0.cell"),
        (SHOPS, (("lat: 30.66,", "lat: -30.66,"),), "demand.merchants.0"),
        (SMALL, (("jobs:", f"bursts: [{{{BURST.replace('30', '-30')}}}]\njobs:"),), "bursts.0"),
        (SMALL, (("jobs:", f"bursts: [{{{BURST.replace('0.5', '1.5')}}}]\njobs:"),),
         "bursts.0.at_h"),
        (SMALL, (("jobs:", "rain: {spells: [{from_h: 4, to_h: 5}]}\njobs:"),),
         "rain.spells.0.from_h"),
        (SMALL, (("jobs:", "faults: {clocks: {riders: [109, 110]}}\njobs:"),),
         "faults.clocks.riders"),
        (SMALL, (("start_h: 0,", "start_h: 90,"),), "riders.shifts.0.start_h"),
        (SMALL, (("delivery: 1.0", "delivery: 0.5"),), "jobs"),
        (SMALL, (("merchants: {count: 60}", "merchants: {}"),), "merchants.count"),
        (SHOPS, (("merchants: {}", "merchants: {count: 60}"),), "merchants.count"),
        (SHOPS, (("radius_m: 4000", "radius_m: 4000, hot_spot_m: 100"),), "city.hot_spot_m"),
        (TABLE, (("radius_m: 4000", "radius_m: 4000, hot_spots: 6"),), "city.hot_spots"),
        (TABLE, (("per_h: [9]}]",
                  f"per_h: [9]}}], doors: [{{cell: {FAR}, door_cell: {CELL}, share: 1}}]"),),
         "demand.doors.0.cell"),
    ],
)  # fmt: skip
def test_what_would_change_nothing_is_refused(text, more, field):
    parse_scenario(text)
    for change in more:
        assert change[0] in text
        text = text.replace(*change)
    with pytest.raises(InvalidValue) as caught:
        parse_scenario(text)
    assert caught.value.field == field


def test_shares_that_people_have_rounded_are_all():
    assert parse_scenario(SMALL.replace("delivery: 1.0", "delivery: 0.99"))


def test_an_unknown_key_lists_the_valid_ones():
    with pytest.raises(UnknownKey, match=r"one of count, shifts, speed_mps"):
        parse_scenario(SMALL.replace("count: 110", "cuont: 110"))


@pytest.mark.parametrize("text", ["[1, 2]", "7", "", "a: [", "a: !!python/object:x {}"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(InvalidValue, match="scenario"):
        parse_scenario(text)


def test_an_unknown_name_lists_what_ships():
    with pytest.raises(UnknownName, match="city, demo, faults, lunch, small"):
        load_scenario("big")


def test_a_scenario_from_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL.replace("name: small", "name: mine"), encoding="utf-8")
    assert load_scenario(path).name == "mine"
    with pytest.raises(MissingFile, match=r"other\.yaml"):
        load_scenario(tmp_path / "other.yaml")


def test_bytes_that_are_no_text_are_refused_wherever_they_stand(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: x\ncity: {name: Chengdu \xe9}\n")
    small = load_scenario("small")
    for read in (load_scenario, load, lambda p: read_arm(str(p), small)):
        with pytest.raises(InvalidValue, match=r"mine\.yaml line 2: .*YAML in UTF-8"):
            read(path)
    path.write_text(SMALL.replace("{count: 600", "{count: 0") + "demand: {rates: r.csv}\n")
    (tmp_path / "r.csv").write_bytes(b"job_type,weekday,cell,00:00\n\xe9,any,x,1\n")
    with pytest.raises(InvalidValue, match=r"r\.csv line 2: .*CSV in UTF-8"):
        load_scenario(path)


def test_the_travel_model_is_built_from_its_knobs():
    grid = SMALL.replace("jobs:", "travel: {model: manhattan, quantum_ms: 1000}\njobs:")
    assert parse_scenario(grid).travel.build() == Manhattan(quantum_ms=1000)
    assert load_scenario("small").travel.build() == StraightLine()


def test_a_scenario_built_in_code_is_checked_too():
    small = load_scenario("small")
    with pytest.raises(InvalidValue, match="decide_ms"):
        dataclasses.replace(small, decide_ms=-1)
    assert isinstance(small, Scenario)


@pytest.mark.parametrize("twice", ["name: again\n", "city: {name: a, name: b}\n"])
def test_a_key_that_stands_twice_is_refused(twice):
    with pytest.raises(InvalidValue, match=r"line \d: 'the key \w+ for a second time'"):
        parse_scenario(f"name: mine\n{twice}")
