"""Files of several cities: what is read, what is refused, and what the results come to together."""

import hashlib
import time

import pytest

from geo.errors import InvalidValue, MissingFile, UnknownKey, UnknownName
from sim.commands import run_scenario
from sim.country import Country, load, shipped_countries
from sim.merge import country_figures
from sim.scenario import Scenario, load_scenario, shipped

PAIR = """
name: pair
cities:
  - like: small
    city: {name: east, lat: 31.0}
    duration_s: 900
    orders: {count: 30, peaks: []}
    riders: {count: 8}
  - {like: small, name: west, duration_s: 900, orders: {count: 20, peaks: []}, riders: {count: 6}}
"""


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return load(written(tmp_path_factory.mktemp("pair"), PAIR))


def test_a_city_is_as_the_one_it_is_like_but_for_its_own_keys(pair):
    small = load_scenario("small")
    east, west = pair.cities
    assert (east.name, east.city.name, east.city.lat) == ("east", "east", 31.0)
    assert (east.city.radius_m, east.riders.shifts) == (small.city.radius_m, small.riders.shifts)
    assert (east.orders.count, east.orders.peaks) == (30, ())
    assert (west.name, west.city) == ("west", small.city)


def test_the_shipped_country():
    country = load("country")
    assert isinstance(country, Country)
    assert sum(city.orders.count for city in country.cities) == 1_000_000
    assert sum(city.riders.count for city in country.cities) == 40_000
    like = load_scenario("city")
    for city in country.cities:
        assert city.orders.peaks == like.orders.peaks
        area = (city.city.radius_m / like.city.radius_m) ** 2
        assert area == pytest.approx(city.orders.count / like.orders.count, rel=0.02)
        assert city.riders.count * 25 == city.orders.count
    assert not set(shipped()) & set(shipped_countries())
    assert isinstance(load("small"), Scenario)


def test_a_seed_is_named_by_its_city_alone(pair):
    east, west = pair.cities
    alone = Country(name="other", cities=(west,))
    assert alone.seed_of(west, 7) == pair.seed_of(west, 7)
    assert len({pair.seed_of(city, seed) for city in (east, west) for seed in (1, 2)}) == 4


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("name: x\ncities: []", InvalidValue, "cities: .* a list of 1 to"),
        ("name: x\ncities: [small]\nodd: 1", UnknownKey, "odd: .* one of name, cities"),
        ("cities: [small]", InvalidValue, "name: None .* a name"),
        ("name: x\ncities: [small, small]", InvalidValue, "cities: 'small' .* of its own"),
        ("name: x\ncities: [small, 3]", InvalidValue, r"cities\.1: 3 .* mapping"),
        ("name: x\ncities: [{like: smal}]", UnknownName, r"cities\.0\.like: 'smal' .* small"),
        (
            "name: x\ncities: [lunch, {like: small, orders: {count: 0}}]",
            InvalidValue,
            r"cities\.1\.orders\.count: 0",
        ),
        (
            "name: x\ncities: [{like: small, riders: {cuont: 3}}]",
            UnknownKey,
            r"cities\.0\.riders\.cuont: .* one of count",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_city(tmp_path, text, error, told):
    with pytest.raises(error, match=told):
        load(written(tmp_path, text))


def test_a_city_in_a_file_of_its_own(tmp_path):
    path = written(tmp_path, "name: x\ncities: [{like: one.yaml, name: first}]")
    with pytest.raises(MissingFile, match=r"one\.yaml"):
        load(path)
    (tmp_path / "one.yaml").write_text("cities: [small]\nname: y")
    with pytest.raises(UnknownKey, match=r"cities\.0\.cities"):
        load(path)


def test_results_together_are_those_of_one_after_the_other(pair):
    results = [
        run_scenario(city, pair.seed_of(city, 3), stopwatch=time.perf_counter)
        for city in pair.cities
    ]
    shown = country_figures("pair", 3, results, total_s=2.0, peak_rss_mib=100.0)
    digests = "\n".join(one.event_log_sha256 for one in results)
    assert shown["event_log_sha256"] == hashlib.sha256(digests.encode()).hexdigest()
    assert shown["orders_created"] == 50
    assert shown["orders_per_s"] == 25.0
    assert shown["rounds"] == sum(one.rounds for one in results)
    assert [city["city"] for city in shown["cities"]] == ["east", "west"]
    assert "interrupted" not in shown


def test_a_country_that_was_ended_is_marked_with_its_earliest_instant(pair):
    asked = []
    city = pair.cities[0]
    cut = run_scenario(
        city,
        1,
        stopwatch=time.perf_counter,
        stop=lambda: asked.append(1) or len(asked) == 5,
    )
    whole = run_scenario(pair.cities[1], 1, stopwatch=time.perf_counter)
    shown = country_figures("pair", 1, [cut, whole], total_s=1.0, peak_rss_mib=1.0)
    assert shown["interrupted"] is True
    assert "2026-06-01T03:05" <= shown["until"] < "2026-06-01T03:10"
    assert ["interrupted" in row for row in shown["cities"]] == [True, False]
