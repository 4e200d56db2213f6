"""Each feature fills its own columns and no others."""

from dataclasses import replace

import numpy as np
import pytest

from dispatch import commands as c
from dispatch.features import declines, ends, freshness, promptness
from dispatch.policy import Policy
from dispatch.snapshot import NEVER
from dispatch.solve.terms import Pairs, Terms, waiting_cost

POLICY = Policy(door_weight=7, late_weight=11, fresh_weight=13, end_weight=17)


@pytest.fixture
def town(kit, scene):
    """An order on board of a rider, one that waits, ready later."""
    scene.rider("r", 0, 0)
    scene.place("aboard", (0, 0), (1000, 0))
    scene.give("aboard", "r")
    scene.serve("aboard", 0, kit.T0 + 5)
    scene.place("waits", (300, 0), (600, 0), pickup={"earliest_ms": kit.T0 + 90_000})
    scene.place("ready", (0, 300), (0, 600))
    return scene


def filled(feature, scene, policy=POLICY):
    snapshot = scene.snapshot()
    terms = Terms.blank(snapshot)
    feature.fill(terms, snapshot, policy)
    return terms


def row(scene, order_id, stop):
    return scene.dispatcher.columns.stop_row(order_id, stop)


def test_promptness_fills_both_hinges_of_the_last_stops(kit, town):
    terms = filled(promptness, town)
    last = [row(town, name, 1) for name in ("aboard", "waits", "ready")]
    assert set(np.flatnonzero(terms.slope.any(axis=1))) == set(last)
    for at in last:
        assert terms.due_ms[at].tolist() == [kit.T0, kit.T0 + 35 * kit.MINUTE]
        assert terms.slope[at].tolist() == [7, 11]
    assert not terms.end_value.any()


def test_freshness_counts_from_ready_to_picked_up(kit, town):
    """Only where something is still to be picked up, and only where it is known to be ready."""
    terms = filled(freshness, town)
    assert terms.due_ms[row(town, "waits", 0), 0] == kit.T0 + 90_000
    assert terms.due_ms[row(town, "ready", 0), 0] == NEVER
    assert terms.slope[row(town, "waits", 0)].tolist() == [13, 0]
    for name in ("aboard", "waits", "ready"):
        assert not terms.slope[row(town, name, 1)].any()


def test_the_end_of_a_route_is_worth_its_way_to_recent_pickups(town):
    """One pickup is recent, at the origin: 5 m/s and the detour of 1.3."""
    terms = filled(ends, town)
    here = terms.end_value[row(town, "waits", 0)]
    assert here == pytest.approx(300 * 1.3 / 5 * 1000 * 17, rel=1e-6)
    assert terms.end_value[row(town, "waits", 1)] == pytest.approx(2 * here, rel=1e-6)
    assert not filled(ends, town, replace(POLICY, end_weight=0)).end_value.any()


def test_no_end_is_better_where_no_pickup_is_recent(scene):
    scene.place("o")
    assert not filled(ends, scene).end_value.any()


def test_ends_follow_the_metric(town):
    snapshot = town.snapshot()
    values = []
    for metric in (0, 1):
        terms = Terms.blank(snapshot)
        recent = np.array([[400.0, 300.0]])
        other = replace(snapshot, law=replace(snapshot.law, metric=metric), recent=recent)
        ends.fill(terms, other, POLICY)
        values.append(terms.end_value[row(town, "aboard", 0)])
    assert values[1] / values[0] == pytest.approx(700 / 500, rel=1e-6)


def test_a_decline_makes_the_pair_dearer_and_no_other(kit, town):
    for name in ("s", "t"):
        town.rider(name, 10, 0)
    town.offer("waits", "t")
    town.do("waits", c.Decline(at_ms=kit.T0, rider_id="t", number=1))
    snapshot, _ = town.decide()
    orders = np.array([1, 1, 2, 2], np.int32)
    riders = np.array([1, 2, 1, 2], np.int32)
    pairs = Pairs.of(orders, riders)
    declines.fill(pairs, snapshot, POLICY)
    assert [snapshot.orders.id[o] for o in orders] == ["waits", "waits", "ready", "ready"]
    assert pairs.extra.tolist() == [0, POLICY.decline_penalty_ms * 7, 0, 0]
    assert not pairs.forbidden.any()


def test_nobody_declined(town):
    pairs = Pairs.of(np.array([1], np.int32), np.array([0], np.int32))
    declines.fill(pairs, town.snapshot(), POLICY)
    assert pairs.extra.tolist() == [0]


def test_what_leaving_an_order_over_costs(kit, town):
    snapshot = town.snapshot(kit.T0 + 1000)
    policy = replace(POLICY, unassigned_ms=40 * kit.MINUTE)
    waits = snapshot.orders.id.index("waits")
    then = 40 * kit.MINUTE + 1000
    expected = then * 7 + (then - 35 * kit.MINUTE) * 11
    assert waiting_cost(snapshot, policy)[waits] == expected
    early = replace(policy, unassigned_ms=30 * kit.MINUTE)
    assert waiting_cost(snapshot, early)[waits] == (30 * kit.MINUTE + 1000) * 7
