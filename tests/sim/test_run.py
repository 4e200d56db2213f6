"""Whole runs of a small city: the same twice, sound all the way, nobody and nothing lost."""

import dataclasses
import gc
import io
import json
import time
from collections import defaultdict
from functools import cache

import pytest
from rich.console import Console

from dispatch import events as e
from dispatch.lifecycle import ORDER
from dispatch.model import OrderState
from dispatch.transitions import evolve
from geo.errors import InvalidValue
from sim.commands import run_scenario
from sim.kpi import kpis
from sim.report import figures, table, to_json_line
from sim.run import _Run, simulate
from sim.scenario import load_scenario

SMALL = load_scenario("small")
# Forty minutes in which everybody does as he should.
CALM = dataclasses.replace(
    SMALL,
    name="calm",
    duration_s=2_400,
    orders=dataclasses.replace(SMALL.orders, count=250, peaks=()),
)
# Riders that decline and forget, customers that leave, merchants that are late, few hands, and
# plans that take their time.
ROUGH = dataclasses.replace(
    SMALL,
    name="rough",
    duration_s=3_600,
    orders=dataclasses.replace(SMALL.orders, count=70),
    riders=dataclasses.replace(SMALL.riders, count=6, accept_share=0.5, ignore_share=0.2),
    merchants=dataclasses.replace(SMALL.merchants, late_share=0.8, late_s=600.0),
    customers=dataclasses.replace(SMALL.customers, cancel_share=0.4, patience_s=900.0),
    travel=dataclasses.replace(SMALL.travel, model="manhattan"),
    policy=dataclasses.replace(SMALL.policy, tick_ms=10_000),
    decide_ms=2_000,
    write_ms=2_000,
)


class Ran:
    def __init__(self, scenario, seed):
        self.scenario, self.seed = scenario, seed
        self.events, self.progress = [], []
        self.out = simulate(
            scenario,
            seed,
            stopwatch=time.perf_counter,
            progress=self.progress.append,
            on_event=self.events.append,
        )
        self.orders = self.fold()

    def fold(self):
        """Every order as its events make it; an illegal one raises."""
        orders = {}
        for event in self.events:
            if isinstance(event, e.Event):
                before = orders.get(event.order_id)
                if before is None:
                    assert isinstance(event.fact, e.Placed)
                    before = event.fact.order
                assert event.seq == before.version + 1
                orders[event.order_id] = evolve(before, event)
        return orders


@cache
def first(name):
    return Ran({"calm": CALM, "rough": ROUGH}[name], 1)


@pytest.fixture(params=["calm", "rough"])
def ran(request):
    return first(request.param)


def test_the_same_seed_gives_the_same_events_and_another_others(ran):
    again = simulate(ran.scenario, 1, stopwatch=lambda: 0.0)
    assert again.event_log_sha256 == ran.out.event_log_sha256
    assert again.kpis == ran.out.kpis | {"round_ms_p95": 0.0}
    if ran.scenario is ROUGH:
        other = simulate(ran.scenario, 2, stopwatch=lambda: 0.0)
        assert other.event_log_sha256 != ran.out.event_log_sha256


def test_the_referee_finds_nothing(ran):
    assert ran.out.rounds > 100
    assert ran.out.violations == ()
    assert ran.out.kpis["refused_plans"] == 0


def test_every_history_is_legal_and_no_report_is_refused(ran):
    assert len(ran.orders) == ran.scenario.orders.count  # folded without IllegalMove
    reports = {"Head", "Arrive", "FinishStop", "Accept", "Decline", "GoOffShift", "GoOnShift"}
    assert not [key for key in ran.out.refused if key[0] in reports]


def test_time_never_runs_back(ran):
    times = [event.at_ms for event in ran.events]
    assert times == sorted(times)


def test_orders_are_conserved(ran):
    figures, states = ran.out.kpis, defaultdict(int)
    for order in ran.orders.values():
        states[order.state] += 1
    assert all(ORDER.ended(state) or state is OrderState.DONE for state in states)
    done = states[OrderState.DONE] + states[OrderState.COMPLETED]
    assert done == figures["orders_delivered"]
    assert states[OrderState.CANCELLED_CUSTOMER] == figures["orders_cancelled_customer"]
    assert states[OrderState.EXPIRED] == figures["orders_expired"]
    assert sum(states.values()) == figures["orders_created"] == ran.scenario.orders.count
    assert figures["orders_live"] == 0


def test_an_order_has_one_rider_at_a_time(ran):
    live = {}
    for event in ran.events:
        fact, name = event.fact, getattr(event, "order_id", "")
        if isinstance(fact, e.Offered):
            assert name not in live
            live[name] = fact.rider_id
        elif isinstance(fact, e.Accepted | e.Heading | e.Arrived | e.StopDone | e.Finished):
            assert live[name] == fact.rider_id
        elif isinstance(
            fact, e.Declined | e.TimedOut | e.Withdrawn | e.Dropped | e.Cancelled | e.Expired
        ):
            live.pop(name, None)


def test_riders_work_within_their_shifts_and_go_home_empty(ran):
    on, held = set(), defaultdict(set)
    for event in ran.events:
        fact = event.fact
        if isinstance(fact, e.WentOnShift):
            on.add(event.rider_id)
        elif isinstance(fact, e.WentOffShift):
            assert not held[event.rider_id]
            on.remove(event.rider_id)
        elif isinstance(fact, e.Accepted):
            assert fact.rider_id in on
            held[fact.rider_id].add(event.order_id)
        elif isinstance(fact, e.Finished | e.Cancelled):
            held[fact.rider_id].discard(event.order_id)


def test_nobody_rides_faster_than_his_speed(ran):
    travel, plane = ran.scenario.travel.build(), ran.scenario.plane
    speed, place, since = {}, {}, {}
    for event in ran.events:
        fact = event.fact
        if isinstance(fact, e.WentOnShift):
            here = fact.rider.place
            speed[event.rider_id] = fact.rider.speed_mps
            place[event.rider_id] = plane.xy(here.lat, here.lon)
            since[event.rider_id] = event.at_ms
        elif isinstance(fact, e.Arrived):
            there = ran.orders[event.order_id].stops[fact.stop].place
            xy = plane.xy(there.lat, there.lon)
            name = fact.rider_id
            least_ms = travel.pair_ms(*place[name], *xy, speed[name])
            assert event.at_ms - since[name] >= least_ms - 1
            place[name], since[name] = xy, event.at_ms


def test_what_is_picked_up_was_ready(ran):
    for order in ran.orders.values():
        pickup = order.stops[0]
        if pickup.done_at_ms is not None:
            assert pickup.done_at_ms >= pickup.earliest_ms


def test_the_figures_are_those_of_the_log(ran):
    again = kpis(
        ran.events,
        plane=ran.scenario.plane,
        travel=ran.scenario.travel.build(),
        until_ms=ran.out.end_ms,
    )
    mine = dict(ran.out.kpis)
    assert again == mine | {"round_ms_p95": None}


def test_progress_is_told_to_the_end(ran):
    told = ran.progress
    assert [p.at_ms for p in told] == sorted(p.at_ms for p in told)
    assert told[-1].placed == told[-1].ended == told[-1].orders == ran.scenario.orders.count


def test_a_calm_city_serves_nearly_everybody():
    figures = first("calm").out.kpis
    assert figures["orders_delivered"] > 0.95 * 250
    assert figures["on_time_share"] > 0.9
    assert figures["bundled_share"] > 0.05


def test_rough_seas_leave_their_marks():
    """The rough city is only a test as long as everything happens in it."""
    out = first("rough").out
    for name in ("cancelled_customer", "expired", "delivered"):
        assert out.kpis[f"orders_{name}"] > 0
    assert out.kpis["offers_declined"] > 0
    assert out.kpis["offers_timed_out"] > 0
    assert out.kpis["wait_pickup_mean_min"] > 3


def test_offers_of_orders_that_have_gone_are_dropped_and_the_city_goes_on():
    fickle = dataclasses.replace(
        SMALL,
        duration_s=600,
        orders=dataclasses.replace(SMALL.orders, count=60, peaks=()),
        customers=dataclasses.replace(SMALL.customers, cancel_share=0.5, patience_s=8.0),
        decide_ms=1_000,
        write_ms=4_000,
    )
    out = simulate(fickle, 1, stopwatch=lambda: 0.0)
    dropped = {code: n for (kind, code), n in out.refused.items() if kind == "Offer"}
    assert dropped["no_such_order"] > 3
    assert out.kpis["orders_cancelled_customer"] > 15
    assert out.kpis["orders_delivered"] == 60 - out.kpis["orders_cancelled_customer"]


def test_other_habits_leave_the_orders_as_they_were():
    shy = dataclasses.replace(ROUGH, riders=dataclasses.replace(ROUGH.riders, accept_share=0.3))

    def placed(ran):
        return [ev for ev in ran.events if isinstance(ev.fact, e.Placed)]

    assert placed(Ran(shy, 1)) == placed(first("rough"))


def test_a_plan_that_the_referee_refuses_is_not_written_and_is_counted(monkeypatch):
    checked = []

    def strict(snapshot, plan, policy):
        checked.append(plan.at_ms)
        return [f"round {len(checked)} is one of the first ten"] if len(checked) <= 10 else []

    monkeypatch.setattr("sim.run.check_plan", strict)
    ran = Ran(dataclasses.replace(CALM, orders=dataclasses.replace(CALM.orders, count=20)), 1)
    offers = [ev.at_ms for ev in ran.events if isinstance(ev.fact, e.Offered)]
    assert min(offers) > checked[9]
    assert ran.out.kpis["refused_plans"] == len(ran.out.violations) == 10
    assert ran.out.kpis["orders_delivered"] >= 18


def test_the_horizon_ends_a_run():
    short = dataclasses.replace(ROUGH, duration_s=1_800, horizon_s=1_800)
    out = simulate(short, 1, stopwatch=lambda: 0.0)
    assert out.end_ms == short.start_ms + 1_800_000
    assert out.kpis["orders_live"] > 0


def test_a_result_prints_as_a_table_and_as_a_line():
    tiny = dataclasses.replace(SMALL, orders=dataclasses.replace(SMALL.orders, count=10))
    result = run_scenario(tiny, 1, stopwatch=time.perf_counter)
    assert result.orders_per_s > 0
    assert result.decide_s + result.referee_s + result.other_s > 0
    assert result.peak_rss_mib > 10
    shown = figures(result)
    outside_s = result.referee_s + result.other_s
    assert shown["other_us_per_event"] == pytest.approx(outside_s * 1e6 / result.events)
    line = to_json_line(shown)
    assert "\n" not in line
    assert json.loads(line) == shown
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table("tiny", shown))
    text = console.export_text()
    assert "on time share" in text
    assert result.event_log_sha256[:16] in text


def test_an_unknown_scenario_is_refused():
    with pytest.raises(InvalidValue, match="scenario"):
        run_scenario("big", 1, stopwatch=time.perf_counter)


def test_a_run_that_is_stopped_gives_its_figures_up_to_then():
    whole = first("calm")
    asked, events = [], []

    def stop():
        asked.append(len(events))
        return len(asked) == 20  # minutes

    out = simulate(CALM, 1, stopwatch=time.perf_counter, on_event=events.append, stop=stop)
    assert out.interrupted
    assert not whole.out.interrupted
    assert len(asked) == 20
    assert events == whole.events[: len(events)]
    minutes = (out.end_ms - CALM.start_ms) / 60_000
    assert 19 < minutes < 25
    plane, travel = CALM.plane, CALM.travel.build()
    seen = kpis(events, plane=plane, travel=travel, until_ms=out.end_ms)
    assert seen | {"round_ms_p95": None} == out.kpis | {"round_ms_p95": None}
    assert out.kpis["orders_live"] > 0
    assert out.violations == ()


def test_a_run_makes_nothing_for_the_cycle_collector():
    """Which is out of work meanwhile, and comes back as it was."""
    run = _Run(CALM, 1, None, time.perf_counter, None, None, None, None)
    gc.collect()
    gc.disable()
    try:
        run.to_the_end()
        assert gc.collect() == 0
        simulate(CALM, 1, stopwatch=time.perf_counter)
        assert not gc.isenabled()
    finally:
        gc.enable()
    during = set()
    simulate(CALM, 1, stopwatch=time.perf_counter, on_event=lambda _: during.add(gc.isenabled()))
    assert during == {False}
    assert gc.isenabled()
