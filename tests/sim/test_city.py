"""The town, its demand and its crew: shaped as the scenario says, each from its own stream."""

import dataclasses

import numpy as np
import pytest

from dispatch.registry import job_type
from geo.cells import center_of
from geo.errors import InvalidValue
from sim.city import build_city
from sim.crew import draw_crew
from sim.demand import NEVER, draw_demand
from sim.scenario import HOUR_MS, SPEED_LIMIT_MPS, Peak, load_scenario

CITY = load_scenario("city")
BIG = dataclasses.replace(CITY, orders=dataclasses.replace(CITY.orders, count=50_000))


@pytest.fixture(scope="module")
def town():
    return build_city(BIG, 3)


@pytest.fixture(scope="module")
def demand(town):
    return draw_demand(BIG, town, 3)


def test_hot_spots_are_different_cells_within_the_town(town):
    assert len(set(town.hot_cell.tolist())) == BIG.city.hot_spots
    away = [np.hypot(*town.plane.xy(*center_of(int(c)))) for c in town.hot_cell]
    assert max(away) <= BIG.city.radius_m
    assert town.hot_weight.sum() == pytest.approx(1.0)


def test_merchants_are_near_hot_spots_and_within_the_town(town):
    assert len(town.x) == BIG.merchants.count
    assert np.hypot(town.x, town.y).max() <= BIG.city.radius_m + 1e-6
    spots = np.array([town.plane.xy(*center_of(int(c))) for c in town.hot_cell])
    nearest = np.hypot(
        town.x[:, None] - spots[None, :, 0], town.y[:, None] - spots[None, :, 1]
    ).min(axis=1)
    assert np.percentile(nearest, 95) < 3 * BIG.city.hot_spot_m
    assert town.popular.sum() == pytest.approx(1.0)


def test_more_hot_spots_than_cells_are_refused():
    tight = dataclasses.replace(
        CITY, city=dataclasses.replace(CITY.city, radius_m=800.0, hot_spots=50)
    )
    with pytest.raises(InvalidValue, match=r"city\.hot_spots"):
        build_city(tight, 1)


def test_demand_has_as_many_orders_as_asked_and_follows_the_curve(demand):
    assert len(demand) == 50_000
    assert (np.diff(demand.at_ms) >= 0).all()
    hours = (demand.at_ms - BIG.start_ms) / HOUR_MS
    assert hours.min() >= 0
    assert hours.max() < BIG.duration_s / 3600
    counted = np.histogram(hours, bins=24, range=(0, 24))[0] / len(demand)
    edges = np.arange(25.0)
    told = np.full(24, (1 - sum(p.share for p in BIG.orders.peaks)) / 24)
    for peak in BIG.orders.peaks:
        told += peak.share * np.diff(_normal_cdf((edges - peak.at_h) / peak.width_h))
    assert np.abs(counted - told).max() < 0.004
    assert counted[11:13].sum() > 4 * counted[8:10].sum()


def _normal_cdf(z):
    from math import erf

    return np.array([0.5 * (1 + erf(v / 2**0.5)) for v in z])


def test_a_bell_beyond_the_window_loses_no_order():
    lunch = load_scenario("lunch")
    knobs = dataclasses.replace(lunch.orders, peaks=(Peak(at_h=9.0, width_h=0.1, share=1.0),))
    late = dataclasses.replace(lunch, orders=knobs)
    drawn = draw_demand(late, build_city(late, 1), 1)
    assert len(drawn) == 5_000
    assert drawn.at_ms.max() < late.start_ms + late.duration_s * 1000


def test_doors_keep_the_ways_of_the_scenario(demand, town):
    x, y = town.x[demand.merchant], town.y[demand.merchant]
    door_x, door_y = town.plane.xy(demand.door_lat, demand.door_lon)
    way_m = np.hypot(door_x - x, door_y - y)
    assert np.median(way_m) == pytest.approx(BIG.city.door_m, rel=0.05)
    assert way_m.max() <= BIG.city.door_max_m + 1e-6
    assert np.hypot(door_x, door_y).max() <= BIG.city.radius_m + 1e-6


def test_shares_of_the_scenario_hold(demand):
    assert (demand.cancel_after_ms < NEVER).mean() == pytest.approx(0.02, abs=0.004)
    assert (demand.late_ms > 0).mean() == pytest.approx(BIG.merchants.late_share, abs=0.01)
    assert demand.prep_ms.mean() / 1000 == pytest.approx(BIG.merchants.prep_s, rel=0.03)
    assert set(demand.items.tolist()) == {1, 2}


def test_a_request_is_a_form_that_its_job_type_takes(demand, town):
    request = demand.request(7)
    order = job_type(request.job_type).order(
        request.order_id,
        "chengdu",
        request.form,
        job_type(request.job_type).quote(request.form, request.at_ms),
        request.at_ms,
    )
    assert order.stops[0].earliest_ms == request.at_ms + demand.prep_ms[7] <= request.ready_ms
    door = order.stops[1].place
    assert (door.lat, door.lon) == (demand.door_lat[7], demand.door_lon[7])


def test_the_same_seed_draws_the_same_orders_and_another_seed_others(demand, town):
    assert [demand.request(i) for i in (0, 9)] == [
        draw_demand(BIG, town, 3).request(i) for i in (0, 9)
    ]
    assert draw_demand(BIG, town, 4).request(0) != demand.request(0)


def test_other_prep_times_leave_everything_else_as_it_was(demand, town):
    slow = dataclasses.replace(BIG, merchants=dataclasses.replace(BIG.merchants, prep_s=999.0))
    other = draw_demand(slow, town, 3)
    for column in ("at_ms", "merchant", "door_lat", "late_ms", "cancel_after_ms", "items"):
        assert (getattr(other, column) == getattr(demand, column)).all()
    assert (other.prep_ms != demand.prep_ms).any()


def test_the_crew_has_its_shifts_and_legal_speeds(town):
    crew = draw_crew(BIG, town, 3)
    assert len(crew) == len({m.rider.id for m in crew}) == BIG.riders.count
    assert max(m.rider.speed_mps for m in crew) <= SPEED_LIMIT_MPS
    starts = np.array([(m.shift_start_ms - BIG.start_ms) / HOUR_MS for m in crew])
    shares = {s.start_h: s.share for s in BIG.riders.shifts}
    begins = ((starts >= 10) & (starts < 11)).mean()
    assert begins == pytest.approx(shares[10] / sum(shares.values()), abs=0.03)
    assert all(m.shift_end_ms > m.shift_start_ms for m in crew)
    here = crew[5]
    assert town.plane.xy(here.place.lat, here.place.lon) == pytest.approx(
        (here.x, here.y), abs=1e-6
    )
