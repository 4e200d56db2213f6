"""The bench of growth: a size is so many towns of one density."""

from bench.speed.sim import measure, sized
from sim.scenario import load_scenario


def test_a_size_keeps_the_citys_density():
    city = load_scenario("city")
    town = sized(city, city.orders.count // 100)
    assert town.riders.count * 100 == city.riders.count
    assert town.city.radius_m * 10 == city.city.radius_m


def test_a_line_is_the_mean_of_its_towns():
    one, two = (measure(100, 1, days) for days in (1, 2))
    assert (one["seeds"], two["seeds"]) == (1, 2)
    assert one["on_time_share"] == two["on_time_share"][:1]
    assert two["events"] > one["events"] > 1_000
