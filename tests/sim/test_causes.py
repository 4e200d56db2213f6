"""The causes of a difference add up to it exactly, for delivered orders and for the others."""

from dataclasses import replace
from fractions import Fraction

import pytest

from dispatch.model import OrderState
from geo.arcs import arc_ms
from sim.causes import PARTS, difference, parts
from sim.lives import Life, Lives, lives_kpis, snapshot_at
from sim.run import simulate
from sim.scenario import load_scenario


def lived(scenario, seed=3):
    lives = Lives(1 << 60)
    simulate(scenario, seed, stopwatch=lambda: 0.0, on_event=lives.add)
    return lives.by_id


@pytest.fixture(scope="module")
def town():
    found = load_scenario("faults")
    return replace(
        found, duration_s=2_400, orders=replace(found.orders, count=150, peaks=()),
        riders=replace(found.riders, count=35),
        customers=replace(found.customers, cancel_share=0.3, patience_s=900),
    )  # fmt: skip


@pytest.fixture(scope="module")
def was(town):
    return lived(town)


@pytest.fixture(scope="module")
def now(town):
    slow = replace(town.policy, tick_ms=30_000, offer_ms=8_000, commit_ahead_ms=120_000)
    return lived(replace(town, policy=slow))


def ready_ms(order):
    return order.stops[0].earliest_ms


@pytest.fixture(scope="module")
def direct(town):
    law, plane = town.travel.build().law, town.plane

    def of(order, rider_id):
        here, there = order.stops[0].place, order.stops[-1].place
        ends = (*plane.xy(here.lat, here.lon), *plane.xy(there.lat, there.lon))
        way_ms = arc_ms(*ends, law.metric, law.ms_per_m(6.0), law.quantum_ms)
        return order.stops[0].leave_ms + int(way_ms)

    return of


def test_the_parts_of_every_order_add_up_and_none_is_negative(was, direct):
    done = [life for life in was.values() if life.done_ms is not None]
    assert len(done) > 100
    seen = set()
    for life in done:
        cut = parts(life, ready_ms(life.order), direct(life.order, life.rider_id))
        assert list(cut) == list(PARTS)
        assert sum(cut.values()) == life.click_to_door_ms
        assert min(cut.values()) >= 0
        seen |= {name for name, ms in cut.items() if ms}
    assert seen == set(PARTS), "every part happens in this town"


def test_the_causes_add_up_to_the_difference_exactly(was, now, direct):
    found = difference(was, now, ready_ms, direct)
    doors = [
        [life.click_to_door_ms for life in lives.values() if life.click_to_door_ms is not None]
        for lives in (was, now)
    ]
    first, second = (Fraction(sum(door), len(door)) for door in doors)
    assert found.total == second - first != 0
    assert sum(found.causes.values()) == found.total
    assert sum(change.adds for change in found.changes) == found.total
    only = [name for name in found.causes if name.startswith(("won_", "lost_"))]
    assert only, "some order is delivered by one of the two alone"


def test_a_dispatch_does_not_differ_from_itself(was, direct):
    found = difference(was, was, ready_ms, direct)
    assert found.total == 0
    assert set(found.causes.values()) == {0}
    assert set(found.changed.values()) == {0}


def order_life(was, done_ms, **more):
    order = next(iter(was.values())).order
    at = order.created_at_ms
    moments = dict.fromkeys(("first_ms", "offered_ms", "accepted_ms", "headed_ms"), at + 100)
    moments |= {"arrived_ms": at + 200, "picked_ms": at + 300, "at_door_ms": at + 400}
    done = None if done_ms is None else at + done_ms
    return Life(order=order, placed_ms=at, **(moments | {"done_ms": done, "ended_ms": done} | more))


def test_an_order_that_one_alone_delivers_moves_the_mean(was):
    both, rest = order_life(was, 1_000), order_life(was, 4_000)
    expired = order_life(was, None, state=OrderState.EXPIRED)
    found = difference(
        {"a": both, "b": rest}, {"a": order_life(was, 1_200), "b": expired},
        lambda order: 0, lambda order, rider: 0,
    )  # fmt: skip
    # 2,500 ms before, 1,200 now: the one that is left takes 200 more, the slow one is gone.
    assert found.total == -1_300
    assert found.causes["hand_over"] == 200
    assert found.causes["lost_expired"] == -1_500
    assert found.changed["delivered_no_more"] == 1
    back = difference(
        {"a": order_life(was, 1_200), "b": expired}, {"a": both, "b": rest},
        lambda order: 0, lambda order, rider: 0,
    )  # fmt: skip
    assert (back.total, back.causes["won_expired"]) == (1_300, 1_500)


def test_without_a_common_order_the_whole_difference_is_that_of_others(was):
    expired = order_life(was, None, state=OrderState.EXPIRED)
    one, other = order_life(was, 1_000), order_life(was, 3_000)
    found = difference(
        {"a": one, "b": expired}, {"a": expired, "b": other},
        lambda order: 0, lambda order, rider: 0,
    )  # fmt: skip
    assert found.total == found.causes["other_orders"] == 2_000
    nothing = difference({"a": expired}, {"a": one}, lambda order: 0, lambda order, rider: 0)
    assert nothing.total is None


def test_lives_give_the_figures_of_the_book(town, was):
    told = simulate(town, 3, stopwatch=lambda: 0.0).kpis
    found = lives_kpis(was.values())
    for name in (
        "orders_delivered", "orders_expired", "orders_cancelled_customer", "on_time_share",
        "click_to_door_mean_min", "click_to_door_p95_min", "lateness_mean_min", "bundled_share",
        "offers_made", "offers_declined", "offers_timed_out",
    ):  # fmt: skip
        assert found[name] == pytest.approx(told[name]), name
    assert found["orders"] == told["orders_created"]


def test_a_cut_forgets_what_came_later(town, was):
    middle = town.start_ms + 1_200_000
    cut = snapshot_at(was, middle)
    assert len(cut) == sum(life.placed_ms < middle for life in was.values())
    done = [life for life in cut if life.done_ms is not None]
    assert 0 < len(done) < len(cut)
    assert all(life.done_ms < middle for life in done)
    assert lives_kpis(cut)["orders_live"] == sum(life.ended_ms is None for life in cut)
