"""What changes demand (tables, days, rain, bursts, merchants), and what each leaves as it was."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.snapshot import NEVER
from geo.cells import cell_of, cells_of, of_text, to_text
from geo.distance import haversine_m
from geo.errors import InvalidValue
from sim.city import build_city
from sim.crew import draw_crew
from sim.day import draw_day
from sim.demand import draw_demand
from sim.scenario import (
    ANY,
    HOUR_MS,
    Burst,
    CongestionKnobs,
    CustomerKnobs,
    DemandKnobs,
    Doors,
    KnownMerchant,
    MerchantKind,
    OrderKnobs,
    Promise,
    RainKnobs,
    Rate,
    SpecialDay,
    Spell,
    Vehicle,
    load_scenario,
)

SMALL = load_scenario("small")
COLUMNS = ("at_ms", "merchant", "door_lat", "door_lon", "prep_ms", "late_ms", "cancel_after_ms")
HERE = (SMALL.city.lat, SMALL.city.lon)
CELL, OTHER = to_text(cell_of(*HERE)), to_text(cell_of(HERE[0] + 0.02, HERE[1]))


def changed(scenario=SMALL, **knobs):
    """The scenario with other knobs, by table: `riders={...}` or a whole new value."""
    new = {
        name: dataclasses.replace(getattr(scenario, name), **value)
        if isinstance(value, dict)
        else value
        for name, value in knobs.items()
    }
    return dataclasses.replace(scenario, **new)


def orders(scenario, seed=3):
    """Everything about each order, by its id."""
    demand = draw_day(scenario, seed).demand
    rows = zip(*(getattr(demand, name).tolist() for name in COLUMNS), strict=True)
    return dict(zip(demand.ids, rows, strict=True))


def by_table(*rates, **knobs):
    demand = DemandKnobs(rates=rates, **knobs)
    return changed(
        orders=OrderKnobs(),
        demand=demand,
        city={"hot_spots": 1},
        merchants={"count": 0 if demand.merchants else SMALL.merchants.count},
        start_ms=1_780_243_200_000,
    )


TABLE = by_table(Rate(cell=CELL, per_h=(60.0,)), Rate(cell=OTHER, per_h=(30.0,)), factor=4.0)


@given(seed=st.integers(0, 50), share=st.floats(0.1, 0.9), more=st.integers(1, 40))
@settings(max_examples=8, deadline=None)
def test_riders_knobs_leave_the_orders_as_they_were(seed, share, more):
    vehicles = (Vehicle(vehicle="bicycle", share=share, speed_mps=4.0),)
    other = changed(riders={"accept_share": share, "more": more, "vehicles": vehicles})
    assert orders(other, seed) == orders(SMALL, seed)


@given(seed=st.integers(0, 50), more=st.integers(1, 60), again=st.integers(1, 60))
@settings(max_examples=8, deadline=None)
def test_more_riders_leave_the_former_ones_as_they_were(seed, more, again):
    vehicles = (Vehicle(vehicle="car", share=0.4, speed_mps=9.0),)
    city = build_city(SMALL, seed)
    base = changed(riders={"vehicles": vehicles})
    few = draw_crew(base, city, seed)
    some = draw_crew(changed(base, riders={"more": more}), city, seed)
    many = draw_crew(changed(base, riders={"more": more + again}), city, seed)
    assert some[: len(few)] == few
    assert many[: len(some)] == some
    assert len(many) == len(few) + more + again


@given(seed=st.integers(0, 50), share=st.floats(0.05, 0.5))
@settings(max_examples=8, deadline=None)
def test_one_more_kind_of_merchant_leaves_the_others_draws(seed, share):
    quick = MerchantKind(name="quick", share=0.3, prep_s=120.0, prep_law="gamma")
    slow = MerchantKind(name="slow", share=share, prep_s=1500.0, prep_law="lognormal")
    one = changed(merchants={"kinds": (quick,)})
    two = changed(merchants={"kinds": (quick, slow)})
    kind = build_city(two, seed).kind
    before, after = orders(one, seed), orders(two, seed)
    assert before.keys() == after.keys()
    its = {name: kind[row[1]] == 2 for name, row in before.items()}
    assert all((before[name] == after[name]) == (not slow_one) for name, slow_one in its.items())
    assert any(its.values())


@given(seed=st.integers(0, 50), start=st.floats(0.0, 1.0), factor=st.floats(1.1, 3.0))
@settings(max_examples=8, deadline=None)
def test_rain_days_and_bursts_add_orders_and_change_none(seed, start, factor):
    base = orders(SMALL, seed)
    rain = RainKnobs(spells=(Spell(from_h=start, to_h=start + 0.4, demand_factor=factor),))
    wet = orders(changed(rain=rain), seed)
    assert wet.items() >= base.items()
    from_ms = SMALL.start_ms + start * HOUR_MS
    new = [row[0] for name, row in wet.items() if name not in base]
    assert all(from_ms <= at < from_ms + 0.4 * HOUR_MS for at in new)
    burst = Burst(at_h=start, lat=HERE[0], lon=HERE[1], orders=25)
    both = orders(changed(rain=rain, bursts=(burst,)), seed)
    assert both.items() >= wet.items()
    assert len(both) == len(wet) + 25


RAIN = Spell(from_h=0.2, to_h=0.6, demand_factor=1.5)
LATER = Spell(from_h=1.0, to_h=1.3, demand_factor=2.5)
MEETS = Spell(from_h=0.5, to_h=0.9, demand_factor=2.5)
WET = RainKnobs(spells=(RAIN,))
MONDAY = SpecialDay(factor=1.5, weekday="mon")
BURST = Burst(at_h=0.5, lat=HERE[0], lon=HERE[1], orders=50)
EARLIER = dataclasses.replace(BURST, at_h=0.1)


@pytest.mark.parametrize("scenario", [SMALL, TABLE], ids=["bells", "table"])
@pytest.mark.parametrize(
    ("one", "more"),
    [
        ({"rain": WET}, {"rain": RainKnobs(spells=(LATER, RAIN))}),
        ({"rain": WET}, {"rain": RainKnobs(spells=(MEETS, RAIN))}),
        ({"rain": RainKnobs(spells=(MEETS,))}, {"rain": RainKnobs(spells=(MEETS, RAIN))}),
        ({"rain": WET}, {"rain": RainKnobs(spells=(RAIN, RAIN))}),
        ({"days": (MONDAY,)}, {"days": (MONDAY,), "rain": WET}),
        ({"rain": WET}, {"days": (MONDAY,), "rain": WET}),
        ({"bursts": (BURST,)}, {"bursts": (EARLIER, BURST)}),
        ({"bursts": (BURST,)}, {"bursts": (BURST, BURST)}),
    ],
)
def test_one_more_cause_of_orders_leaves_those_of_the_others(scenario, one, more):
    scenario = changed(scenario, city={"zone": "Asia/Shanghai"})  # on a Monday
    bare, before, after = (orders(changed(scenario, **knobs)) for knobs in ({}, one, more))
    assert before.items() > bare.items()
    assert after.items() > before.items()


@given(seed=st.integers(0, 50), factor=st.floats(0.1, 0.9))
@settings(max_examples=8, deadline=None)
def test_a_cause_of_fewer_orders_only_takes_some_away(seed, factor):
    rain = RainKnobs(spells=(RAIN,))
    quiet = changed(days=(SpecialDay(factor=factor, weekday="mon"),), rain=rain)
    assert orders(quiet, seed).items() < orders(changed(rain=rain), seed).items()


def test_causes_at_the_same_time_multiply():
    spells = tuple(Spell(from_h=0, to_h=1.5, demand_factor=f) for f in (1.5, 2.0, 0.5))
    rain = RainKnobs(spells=spells)
    both = changed(orders={"count": 20_000}, days=(MONDAY,), rain=rain)
    # 1.5 * 1.5 * 2 * 0.5 times as many, within 4 standard deviations of a Poisson number.
    assert len(orders(both)) == pytest.approx(45_000, abs=850)


@given(seed=st.integers(0, 50), factor=st.floats(0.1, 0.9))
@settings(max_examples=8, deadline=None)
def test_a_quiet_day_only_takes_orders_away(seed, factor):
    quiet = changed(days=(SpecialDay(factor=factor, weekday="mon"),))  # 1 June 2026 is one
    assert orders(quiet, seed).items() < orders(SMALL, seed).items()
    assert orders(changed(days=(SpecialDay(factor=factor, date="2026-06-02"),)), seed) == orders(
        SMALL, seed
    )


@given(seed=st.integers(0, 50))
@settings(max_examples=5, deadline=None)
def test_one_cells_rate_is_no_other_cells_concern(seed):
    first, second = TABLE.demand.rates
    louder = dataclasses.replace(second, per_h=(90.0,))
    before = orders(TABLE, seed)
    after = orders(changed(TABLE, demand={"rates": (first, louder)}), seed)
    mine = {name: row for name, row in before.items() if CELL in name}
    assert mine
    assert {name: row for name, row in after.items() if CELL in name} == mine


def test_a_special_day_has_as_many_orders_more():
    busy = changed(orders={"count": 20_000}, days=(SpecialDay(factor=1.5, weekday="mon"),))
    # 10,000 more on average, Poisson: within 4 standard deviations.
    assert len(orders(busy)) == pytest.approx(30_000, abs=400)


def test_rain_is_drawn_as_often_as_told():
    rain = RainKnobs(per_day=3.0, hours=0.5, demand_factor=2.0)
    day = changed(load_scenario("city"), orders={"count": 1_000, "peaks": ()}, rain=rain)
    # In 1.5 of 24 hours twice as many: 1,062 on average, with the spells' own chance on top.
    counts = [len(draw_day(day, seed).demand) for seed in range(20)]
    assert np.mean(counts) == pytest.approx(1_062, abs=30)


def test_a_burst_comes_from_around_its_place_in_its_time():
    burst = Burst(at_h=0.5, lat=HERE[0], lon=HERE[1], orders=40, radius_m=900.0, over_min=20.0)
    city = build_city(SMALL, 3)
    demand = draw_demand(changed(bursts=(burst,)), city, 3)
    mine = np.array([name.startswith("b") for name in demand.ids])
    assert mine.sum() == 40
    away = haversine_m(demand.pickup_lat[mine], demand.pickup_lon[mine], *HERE)
    nearest = np.hypot(city.x, city.y).min()
    assert np.max(away) <= max(900.0, nearest) * 1.01
    minutes = (demand.at_ms[mine] - SMALL.start_ms) / 60_000
    assert minutes.min() >= 30
    assert minutes.max() < 50


# --- tables ---


def test_rates_are_kept_by_cell_hour_and_weekday():
    local = tuple(120.0 if hour == 12 else 6.0 for hour in range(24))
    monday, sunday = (dataclasses.replace(Rate(cell=CELL, per_h=local), weekday=day) for day in
                      ("mon", "sun"))  # fmt: skip
    week = changed(
        by_table(monday, dataclasses.replace(sunday, per_h=(0.0,))),
        city={"zone": "Asia/Shanghai"},
        start_ms=1_780_243_200_000,  # Monday 1 June 2026, 00:00 in Shanghai
        duration_s=2 * 86_400,
        horizon_s=3 * 86_400,
    )
    at_ms = np.concatenate([draw_day(week, seed).demand.at_ms for seed in range(20)])
    hours = (at_ms - week.start_ms) / HOUR_MS
    by_hour = np.bincount(hours.astype(int), minlength=48) / 20
    assert by_hour[12] == pytest.approx(120.0, abs=4 * np.sqrt(120 / 20))
    assert by_hour[:12].sum() == pytest.approx(72.0, abs=4 * np.sqrt(72 / 20))
    assert by_hour[24:].sum() == 0  # a weekday without rows, where other weekdays have some


def test_any_weekday_is_one_without_rows():
    rates = (Rate(cell=CELL, per_h=(50.0,)), Rate(cell=CELL, per_h=(0.0,), weekday="tue"))
    two = changed(by_table(*rates), duration_s=2 * 86_400, horizon_s=3 * 86_400)
    hours = (draw_day(two, 1).demand.at_ms - two.start_ms) / HOUR_MS
    # 1 June 2026 00:00 in Shanghai is Sunday 16:00 UTC: Tuesday begins 32 hours later.
    assert hours.max() < 32
    assert (hours < 32).sum() == pytest.approx(1600, abs=160)


def test_orders_come_from_the_known_merchants_of_their_cell():
    known = (
        KnownMerchant(id="a", lat=HERE[0], lon=HERE[1], weight=3.0, prep_s=60.0),
        KnownMerchant(id="b", lat=HERE[0] + 1e-4, lon=HERE[1], weight=1.0),
    )
    table = changed(TABLE, merchants={"count": 0}, demand={"merchants": known})
    demand = draw_day(table, 3).demand
    names = np.array(demand.merchants)[demand.merchant]
    in_cell = cells_of(demand.pickup_lat, demand.pickup_lon) == of_text(CELL)
    assert set(names[in_cell].tolist()) == {"a", "b"}
    assert (names[in_cell] == "a").mean() == pytest.approx(0.75, abs=0.1)
    assert set(names[~in_cell].tolist()) == {f"cell-{OTHER}"}
    assert demand.prep_ms[names == "a"].mean() == pytest.approx(60_000, rel=0.1)
    assert demand.prep_ms[names == "b"].mean() == pytest.approx(480_000, rel=0.1)


def test_doors_lie_in_the_cells_of_the_table_and_the_rest_where_doors_are():
    there = to_text(cell_of(HERE[0] + 0.01, HERE[1], 9))
    west = to_text(cell_of(HERE[0], HERE[1] - 0.012, 9))
    doors = (
        Doors(cell=CELL, door_cell=there, share=0.6),
        Doors(cell=ANY, door_cell=west, share=1.0),
    )
    burst = Burst(at_h=0.5, lat=HERE[0], lon=HERE[1], orders=400, radius_m=5_000.0)  # of both cells
    table = changed(TABLE, demand={"doors": doors, "factor": 20.0}, bursts=(burst,))
    demand = draw_day(table, 3).demand
    mine = cells_of(demand.pickup_lat, demand.pickup_lon) == of_text(CELL)
    door = cells_of(demand.door_lat, demand.door_lon, 9)
    n = int(mine.sum())
    assert (door[mine] == of_text(there)).mean() == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / n))
    assert (door[~mine] == of_text(there)).mean() < 0.04  # the table says nothing of that cell
    # Of the rest those go west that are as far away as the doors there.
    assert (door[mine] == of_text(west)).mean() > 5 * (door[~mine] == of_text(west)).mean() > 0


# --- laws ---


@pytest.mark.parametrize("law", ["normal", "lognormal", "gamma"])
def test_preparation_has_the_mean_and_the_spread_of_its_law(law):
    knobs = {"prep_law": law, "prep_s": 600.0, "prep_spread": 0.3}
    drawn = draw_day(changed(orders={"count": 20_000}, merchants=knobs), 3).demand.prep_ms / 1000
    assert drawn.mean() == pytest.approx(600, rel=0.01)
    assert drawn.std() == pytest.approx(180, rel=0.04)
    skew = ((drawn - drawn.mean()) ** 3).mean() / drawn.std() ** 3
    assert skew == pytest.approx({"normal": 0.0, "lognormal": 0.93, "gamma": 0.6}[law], abs=0.12)


def test_an_hour_may_be_slower():
    by_hour = tuple(2.0 if hour == 3 else 1.0 for hour in range(24))  # 11:00 in Chengdu is 03:00Z
    slow, usual = orders(changed(merchants={"prep_by_hour": by_hour})), orders(SMALL)
    first = [name for name, row in usual.items() if row[0] < SMALL.start_ms + HOUR_MS]
    assert all(abs(slow[name][4] - 2 * usual[name][4]) <= 2 for name in first)
    assert all(slow[name] == usual[name] for name in usual if name not in first)


def test_a_busy_kitchen_is_slower_by_the_orders_that_it_still_prepares():
    busy = CongestionKnobs(share_per_order=0.5, free=1, told_share=0.25)
    alone, together = orders(SMALL), orders(changed(merchants={"congestion": busy}))
    ready: dict[int, list[int]] = {}
    slower = 0
    for name, row in sorted(alone.items(), key=lambda item: item[1][0]):
        at_ms, merchant, prep, late = row[0], row[1], row[4], row[5]
        open_orders = sum(1 for t in ready.get(merchant, []) if t > at_ms)
        more = min(0.5 * max(0, open_orders - 1), 3.0) * prep
        new = together[name]
        assert new[4] == pytest.approx(prep + 0.25 * more, abs=1)
        assert new[5] == pytest.approx(late + 0.75 * more, abs=1)
        ready.setdefault(merchant, []).append(at_ms + new[4] + new[5])
        slower += new[4] > prep
    assert slower > 20


def test_customers_are_away_tip_and_are_promised_as_told():
    knobs = CustomerKnobs(
        unreachable_share=0.1,
        wait_s=200.0,
        tip_share=0.25,
        tip_fen=500.0,
        promises=(Promise(minutes=30.0, share=0.5),),
    )
    demand = draw_day(changed(orders={"count": 10_000}, customers=knobs), 3).demand
    away = demand.no_answer_ms < NEVER
    assert away.mean() == pytest.approx(0.1, abs=0.012)
    assert set(demand.no_answer_ms[away].tolist()) == {200_000}
    tips = demand.tip_fen[demand.tip_fen > 0]
    assert len(tips) / 10_000 == pytest.approx(0.25, abs=0.018)
    assert tips.mean() == pytest.approx(500, rel=0.08)
    told = demand.promise_ms < NEVER
    assert told.mean() == pytest.approx(0.5, abs=0.02)
    assert set((demand.promise_ms - demand.at_ms)[told].tolist()) == {1_800_000}
    assert demand.request(int(np.flatnonzero(away)[0])).no_answer_ms == 200_000


@pytest.mark.parametrize(
    ("knobs", "field"),
    [
        (lambda: Rate(cell="nowhere", per_h=(1.0,)), "demand.rates.cell"),
        (lambda: Rate(cell=CELL, per_h=(1.0, 2.0)), "demand.rates.per_h"),
        (lambda: Rate(cell=CELL, per_h=(-1.0,)), "demand.rates.per_h"),
        (lambda: Rate(cell=CELL, per_h=(1.0,), weekday="Monday"), "demand.rates.weekday"),
        (lambda: DemandKnobs(rates=(Rate(cell=CELL, per_h=(1.0,)),) * 2), "demand.rates"),
        (lambda: DemandKnobs(doors=(Doors(cell=CELL, door_cell=CELL, share=1.0),)),
         "demand.rates"),
        (lambda: changed(demand=TABLE.demand), "orders.count"),
        (lambda: changed(orders=OrderKnobs()), "orders.count"),
        (lambda: SpecialDay(factor=2.0), "days"),
        (lambda: SpecialDay(factor=2.0, date="1 June"), "days.date"),
        (lambda: changed(days=(SpecialDay(factor=2.0, weekday="mon", job_type="walks"),)),
         "days.0.job_type"),
        (lambda: Spell(from_h=2.0, to_h=1.0), "rain.spells.to_h"),
        (lambda: Vehicle(vehicle="scooter", share=1.0, speed_mps=9.0),
         "riders.vehicles.speed_mps"),
        (lambda: MerchantKind(name="x", share=0.5, popularity=0.0), "merchants.kinds.popularity"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(knobs, field):
    with pytest.raises(InvalidValue) as caught:
        knobs()
    assert caught.value.field == field


def test_the_requests_before_an_instant_are_the_same_ones():
    demand = draw_day(changed(), 3).demand
    middle = int(demand.at_ms[len(demand) // 2])
    first = demand.before(middle)
    assert 0 < len(first) < len(demand)
    assert first.at_ms[-1] < middle <= demand.at_ms[len(first)]
    assert [first.request(i) for i in range(len(first))] == [
        demand.request(i) for i in range(len(first))
    ]
