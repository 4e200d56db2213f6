"""Round trips: what is drawn from a known city, and fitted, lies near it; how near, by theory."""

import dataclasses
import os

import numpy as np
import pytest

from dispatch.snapshot import NEVER
from geo.errors import CannotWrite, InvalidValue
from sim.arrivals import expected_orders
from sim.day import draw_day
from sim.fit.counts import counted, of_day, rounded_shares
from sim.fit.goodness import goodness, jensen_shannon
from sim.fit.laws import fit_doors, fit_merchants, likeliest_law
from sim.fit.riders import fit_riders
from sim.fit.scenario import fit_scenario, write_scenario
from sim.hours import local_time
from sim.logs.table import CourierLog
from sim.scenario import load_scenario

ZONE = "Asia/Shanghai"
START_MS = 1_780_243_200_000  # Monday 1 June 2026, 00:00 in Shanghai
DAY_S = 86_400


@pytest.fixture(scope="session")
def fitted(one_week):
    return fit_scenario(one_week, name="fitted")


def week(scenario, quarters=False):
    """Expected orders by (weekday, part of the day, cell); cells in their order."""
    span = dataclasses.replace(
        scenario, start_ms=START_MS, duration_s=7 * DAY_S, horizon_s=8 * DAY_S
    )
    local = local_time(START_MS, START_MS + 7 * DAY_S * 1000, ZONE)
    rows = [row for _, _, row in expected_orders(span, local)]
    hours = np.array(rows).reshape(len(rows), 7, 24, 4).sum(axis=3)
    return hours.transpose(1, 2, 0)


def test_volume_by_weekday_is_that_of_the_log(known, fitted, one_week):
    truth, found = week(known), week(fitted.scenario)
    assert found.shape == truth.shape
    assert found.sum() == pytest.approx(len(one_week), rel=0.002)
    # Each day was seen once: a Poisson count, four standard deviations.
    of_day = truth.sum(axis=(1, 2))
    assert (np.abs(found.sum(axis=(1, 2)) - of_day) < 4 * np.sqrt(of_day)).all()


def test_cells_have_their_share(known, fitted, one_week):
    truth = week(known).sum(axis=(0, 1))
    found = week(fitted.scenario).sum(axis=(0, 1))
    assert (np.abs(found - truth) < 4 * np.sqrt(truth)).all()


def test_rates_are_nearer_to_the_truth_than_the_log_itself(known, fitted, one_week):
    truth, found = week(known), week(fitted.scenario)
    counts = counted(one_week).orders.reshape(7, 24, 4, -1).sum(axis=2)
    raw = np.sum((counts - truth) ** 2 / truth)  # a chi-square: one a bin
    assert raw == pytest.approx(truth.size, rel=0.1)
    assert np.sum((found - truth) ** 2 / truth) < 0.4 * raw


def test_cells_that_dine_are_told_from_those_that_lunch(known, fitted):
    found = week(fitted.scenario).sum(axis=0)
    lunch, dinner = found[11:13].sum(axis=0), found[17:20].sum(axis=0)
    assert (lunch[1::2] > dinner[1::2]).all()
    assert (dinner[::2] > lunch[::2]).all()
    assert fitted.rates["delivery"].cell_hour_shape < 50
    assert fitted.rates["delivery"].cell_weekday_shape > 50


def test_one_weekday_stands_for_any(known, log_of):
    fit = fit_scenario(log_of(known, 1, seed=9))
    assert {rate.weekday for rate in fit.scenario.demand.rates} == {"any"}
    assert fit.days == 1


def test_preparation_is_that_of_each_merchant_and_its_law(known, fitted):
    assert fitted.prep.law == "lognormal"
    assert fitted.prep.spread == pytest.approx(0.25, rel=0.05)
    truth = {m.id: m.prep_s for m in known.demand.merchants}
    for merchant in fitted.scenario.demand.merchants:
        # At least 170 orders each: a standard error of 0.25 / sqrt(n), four of them.
        error = 4 * 0.25 / np.sqrt(merchant.weight)
        assert merchant.prep_s == pytest.approx(truth[merchant.id], rel=error)
    hours = np.array(fitted.prep.by_hour)
    assert hours == pytest.approx(1.0, abs=0.12)


def test_doors_and_promises_are_those_of_the_log(known, fitted):
    assert fitted.doors.median_m == pytest.approx(known.city.door_m, rel=0.02)
    assert fitted.doors.spread == pytest.approx(known.city.door_spread, rel=0.05)
    promises = {p.minutes: p.share for p in fitted.scenario.customers.promises}
    assert promises == {30.0: pytest.approx(0.7, abs=0.02), 45.0: pytest.approx(0.3, abs=0.02)}


def test_a_held_out_day_is_like_the_fitted_ones(known, fitted, log_of):
    held_out = log_of(known, 1, seed=77, first=1)
    good = goodness(fitted.scenario, held_out)
    assert good.day == "2026-06-02"
    assert good.orders == pytest.approx(good.expected, abs=4 * np.sqrt(2 * good.expected))
    by_name = {m.name: m for m in good.measures}
    quarters = by_name["quarter_hours_deviance_per_df"]
    assert quarters.fitted < 1.6
    assert quarters.rival > 10 * quarters.fitted
    assert by_name["pickup_cells_js_bits"].fitted < 4 * by_name["pickup_cells_js_bits"].perfect
    assert by_name["prep_s_ks"].fitted < 2 * by_name["prep_s_ks"].perfect
    assert by_name["beeline_m_ks"].fitted < 0.06
    for measure in good.measures:
        assert measure.rival > 2 * measure.fitted, measure.name


def test_the_true_city_passes_as_often_as_it_should(known, log_of):
    found = [goodness(known, log_of(known, 1, seed=100 + n), orders=30_000) for n in range(8)]
    p = np.array([good.measures[0].p for good in found])
    assert (p < 0.05).sum() <= 2  # 0.4 of 8 on average; more than 2 once in 170 times
    assert p.mean() == pytest.approx(0.5, abs=0.41)  # four standard errors
    chance = [m for good in found for m in good.measures if m.name == "pickup_cells_js_bits"]
    ratio = np.mean([m.fitted / m.perfect for m in chance])
    assert ratio == pytest.approx(1.0, abs=0.4)


def test_another_city_does_not_pass(known, fitted, log_of):
    turned = dataclasses.replace(
        known,
        demand=dataclasses.replace(
            known.demand,
            rates=tuple(
                dataclasses.replace(rate, per_h=rate.per_h[24:] + rate.per_h[:24])
                for rate in known.demand.rates
            ),
        ),
    )
    good = goodness(fitted.scenario, log_of(turned, 1, seed=5), orders=1)
    assert good.measures[0].p < 1e-9


def test_what_is_written_is_what_is_read(fitted, tmp_path):
    files = write_scenario(fitted.scenario, tmp_path / "fitted.yaml")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(f.name for f in files)
    assert len(files) == 4
    again = load_scenario(files[0])
    assert again.demand.merchants == fitted.scenario.demand.merchants
    assert dataclasses.replace(again, demand=fitted.scenario.demand) == fitted.scenario
    first, second = draw_day(fitted.scenario, 4).demand, draw_day(again, 4).demand
    assert first.ids == second.ids
    assert (first.at_ms == second.at_ms).all()


def test_a_scenario_that_cannot_be_written_leaves_the_last_one_whole(fitted, one_week, tmp_path):
    """Rates of one fit beside the doors of another would run all the same."""
    path = tmp_path / "town.yaml"
    write_scenario(fitted.scenario, path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    other = fit_scenario(one_week.take(np.arange(300)), name="other").scenario
    (tmp_path / f".town.yaml.{os.getpid()}.draft").mkdir()  # the last of the drafts cannot be
    with pytest.raises(CannotWrite):
        write_scenario(other, path)
    (tmp_path / f".town.yaml.{os.getpid()}.draft").rmdir()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_day_of_the_log_can_be_left_out(one_week):
    tuesday = 739_769  # 2 June 2026
    mine = of_day(one_week, tuesday)
    left = one_week.take(~mine)
    assert 0 < mine.sum() < len(one_week)
    counts = counted(left, without=tuesday)
    assert counts.days.tolist() == [1, 0, 1, 1, 1, 1, 1]
    assert counts.orders[1].sum() == 0


def after(first, second):
    """Two logs as one; all columns are tuples or arrays but the zone."""
    columns = {}
    for name in (f.name for f in dataclasses.fields(first) if f.name != "zone"):
        a, b = getattr(first, name), getattr(second, name)
        columns[name] = a + b if isinstance(a, tuple) else np.concatenate([a, b])
    columns["id"] = tuple(f"{i}" for i in range(len(columns["id"])))
    return dataclasses.replace(first, **columns)


def test_a_day_left_out_is_no_day_on_which_nobody_ordered(known, log_of):
    """Any of the dates: its weekday is expected as on the other one of it."""
    weeks = after(log_of(known, 7, seed=3), log_of(known, 7, seed=4, first=7))
    for ordinal in (739_768, 739_777, 739_781):  # 1, 10 and 14 June 2026
        mine = of_day(weeks, ordinal)
        fit = fit_scenario(weeks.take(~mine), without=ordinal)
        good = goodness(fit.scenario, weeks.take(mine), orders=1)
        assert fit.days == 13
        assert good.orders / good.expected == pytest.approx(1.0, abs=0.2)


def test_a_held_out_log_of_several_days_is_refused(known, one_week):
    with pytest.raises(InvalidValue, match="orders of 7 days, 2026-06-01 to 2026-06-07"):
        goodness(known, one_week)


def test_riders_have_the_shifts_and_vehicles_of_their_log(known):
    n = 4_000
    rng = np.random.default_rng(8)
    start_h = np.where(rng.random(n) < 0.25, rng.uniform(7, 8, n), rng.uniform(10, 11, n))
    hours = np.where(start_h < 9, 9.0, rng.choice([4.0, 8.0], n))
    on_ms = START_MS + (start_h * 3_600_000).astype(np.int64)
    couriers = CourierLog(
        zone=ZONE,
        id=tuple(f"{i}" for i in range(n)),
        vehicle=tuple(rng.choice(["walking", "scooter", "car"], n, p=[0.1, 0.7, 0.2]).tolist()),
        lat=np.full(n, known.city.lat),
        lon=np.full(n, known.city.lon),
        on_ms=on_ms,
        off_ms=on_ms + (hours * 3_600_000).astype(np.int64),
    )
    knobs = fit_riders(couriers, known.plane, np.array([100.0]), np.array([0.0]))
    assert knobs.count == n
    assert sum(s.share for s in knobs.shifts if s.start_h == 7.0) == pytest.approx(0.25, abs=0.03)
    assert sum(s.share for s in knobs.shifts) == pytest.approx(1.0)
    mean_h = sum(s.share * s.hours for s in knobs.shifts)
    assert mean_h == pytest.approx(float(hours.mean()), rel=0.01)
    shares = {v.vehicle: v.share for v in knobs.vehicles}
    assert shares == {
        "foot": pytest.approx(0.1, abs=0.02),
        "scooter": pytest.approx(0.7, abs=0.03),
        "car": pytest.approx(0.2, abs=0.03),
    }
    assert knobs.start_m == pytest.approx(100 / 1.1774, rel=0.01)


def test_a_log_without_times_or_doors_is_fitted_as_far_as_it_goes(one_week):
    n = len(one_week)
    bare = dataclasses.replace(
        one_week,
        ready_ms=np.full(n, NEVER),
        promise_ms=np.full(n, NEVER),
        merchant=("",) * n,
        door_lat=np.full(n, np.nan),
        door_lon=np.full(n, np.nan),
    )
    fit = fit_scenario(bare)
    assert fit.prep.orders == 0
    assert fit.scenario.customers.promises == ()
    assert fit.scenario.demand.doors == ()
    assert len(fit.scenario.demand.merchants) == len(set(bare.pickup_lat.tolist()))
    with pytest.raises(InvalidValue, match="2 or more"):
        fit_scenario(one_week.take(np.arange(1)))


@pytest.mark.filterwarnings("error")
def test_goods_that_are_ready_at_once_take_a_second(one_week):
    fit = fit_scenario(dataclasses.replace(one_week, ready_ms=one_week.placed_ms))
    assert fit.prep.mean_s == fit.scenario.merchants.prep_s == 1.0
    assert {m.prep_s for m in fit.scenario.demand.merchants} == {1.0}


def test_an_order_far_out_makes_the_town_larger(one_week):
    """A cell beyond any door could not be simulated."""
    lat = one_week.pickup_lat.copy()
    lat[7] += 0.36  # 40 km
    far = dataclasses.replace(one_week, pickup_lat=lat)
    city = fit_scenario(far).scenario.city
    assert city.radius_m > fit_scenario(one_week).scenario.city.radius_m
    assert 25_000 < city.radius_m <= 50_000


def test_shares_sum_to_one_and_laws_are_told_apart():
    assert sum(rounded_shares([1, 1, 1])) == pytest.approx(1.0, abs=1e-12)
    rng = np.random.default_rng(2)
    drawn = {
        "gamma": rng.gamma(4.0, 0.25, 5_000),
        "lognormal": rng.lognormal(-0.125, 0.5, 5_000),
        "normal": 1 + 0.2 * rng.standard_normal(5_000),
    }
    for law, ratio in drawn.items():
        assert likeliest_law(ratio, float(ratio.std())) == law


def test_divergence_is_zero_for_the_same_and_one_bit_for_nothing_in_common():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(p, q) == pytest.approx(1.0)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(
        0.3113, abs=1e-4
    )


def test_merchants_and_doors_of_few_orders_do_not_break(one_week):
    two = one_week.take(np.arange(2))
    merchants, prep = fit_merchants(two)
    assert sum(m.weight for m in merchants) == 2
    assert prep.orders == 2
    doors, fit = fit_doors(two)
    assert all(0 < row.share <= 1 for row in doors)
    assert fit.median_m > 0
