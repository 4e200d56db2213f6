"""Who is tried for what: masks, and the k nearest against brute force."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch import commands as c
from dispatch.solve.candidates import eligible_riders, nearest_pairs


def busy_town(kit, seed, riders=14, orders=10):
    """Riders of all kinds, some with routes, and orders that wait."""
    rng = np.random.default_rng(seed)
    scene = kit.Scene()
    for i in range(riders):
        scene.rider(
            f"r{i}", *rng.uniform(-3000, 3000, 2),
            skills=tuple(s for s in ("ice", "tall") if rng.random() < 0.5),
        )  # fmt: skip
        if rng.random() < 0.5:
            scene.place(f"held{i}", tuple(rng.uniform(-3000, 3000, 2)),
                        tuple(rng.uniform(-3000, 3000, 2)))  # fmt: skip
            scene.give(f"held{i}", f"r{i}")
    for i in range(orders):
        scene.place(
            f"o{i}", tuple(rng.uniform(-3000, 3000, 2)), tuple(rng.uniform(-3000, 3000, 2)),
            skills=tuple(s for s in ("ice", "tall") if rng.random() < 0.3),
        )  # fmt: skip
    return scene.snapshot()


@pytest.fixture
def town(kit):
    return busy_town(kit, 1)


def waiting(snapshot):
    return np.flatnonzero(snapshot.orders.waiting).astype(np.int32)


def brute(snapshot, orders, riders, k):
    """(order row, rider row) of the riders among the k nearest points that may serve the order.

    A rider is a point where he is and, with a route, one where it ends; ties go to the lower point,
    and the points of positions come before those of ends.
    """
    st_, rd, found = snapshot.stops, snapshot.riders, set()
    for o in orders:
        s = snapshot.orders.first_stop[o]
        need = int(snapshot.orders.skills[o])
        points = []
        for at_end in (False, True):
            for r in riders:
                if int(rd.skills[r]) & need != need or (at_end and not rd.route_len[r]):
                    continue
                x, y = rd.x[r], rd.y[r]
                if at_end:
                    last = rd.route[r, rd.route_len[r] - 1]
                    x, y = st_.x[last], st_.y[last]
                away = (x - st_.x[s]) ** 2 + (y - st_.y[s]) ** 2
                points.append((away, len(points), int(r)))
        found |= {(int(o), r) for _, _, r in sorted(points)[:k]}
    return sorted(found)


@given(st.integers(0, 2**31), st.integers(1, 30))
def test_the_nearest_are_those_of_brute_force(kit, seed, k):
    snapshot = busy_town(kit, seed)
    riders = eligible_riders(snapshot, 8)
    pairs = nearest_pairs(snapshot, waiting(snapshot), riders, k)
    made = list(zip(pairs.order.tolist(), pairs.rider.tolist(), strict=True))
    assert made == brute(snapshot, waiting(snapshot), riders, k)
    assert not pairs.extra.any()
    assert not pairs.forbidden.any()


def test_a_rider_about_to_end_nearby_is_found_though_far_away(kit, scene):
    scene.rider("far", 9000, 0)
    scene.rider("near", 2000, 0)
    scene.place("held", (8000, 0), (100, 0))
    scene.give("held", "far")
    scene.place("o", (0, 0))
    snapshot = scene.snapshot()
    pairs = nearest_pairs(snapshot, waiting(snapshot), eligible_riders(snapshot, 8), 1)
    assert [snapshot.riders.id[r] for r in pairs.rider] == ["far"]


def test_a_pair_is_tried_once(kit, scene):
    """A busy rider can be among the nearest twice."""
    scene.rider("r", 10, 0)
    scene.place("held", (0, 0), (20, 0))
    scene.give("held", "r")
    scene.place("o", (0, 0))
    snapshot = scene.snapshot()
    pairs = nearest_pairs(snapshot, waiting(snapshot), eligible_riders(snapshot, 8), 5)
    assert len(pairs.order) == 1


def test_closed_riders_are_not_eligible(town):
    assert len(eligible_riders(town, 8)) == len(town.riders.id)
    open_ = town.riders.open.copy()
    open_[3] = False
    closed = replace(town, riders=replace(town.riders, open=open_))
    assert 3 not in eligible_riders(closed, 8)
    assert len(eligible_riders(closed, 8)) == len(town.riders.id) - 1


@pytest.mark.parametrize(("left_ms", "there"), [(1, True), (0, False), (-1, False)])
def test_a_shift_that_is_over_is_over(town, left_ms, there):
    end = town.riders.shift_end_ms.copy()
    end[3] = town.at_ms + left_ms
    late = replace(town, riders=replace(town.riders, shift_end_ms=end))
    assert (3 in eligible_riders(late, 8)) == there


def test_a_full_route_takes_nothing(town):
    lengths = town.riders.route_len
    assert set(lengths.tolist()) == {0, 2}
    able = eligible_riders(town, 2)
    assert able.tolist() == np.flatnonzero(lengths == 0).tolist()


def test_skills_are_all_needed(town):
    pairs = nearest_pairs(town, waiting(town), eligible_riders(town, 8), 50)
    made = set(zip(pairs.order.tolist(), pairs.rider.tolist(), strict=True))
    for o in waiting(town).tolist():
        for r in eligible_riders(town, 8).tolist():
            need, has = int(town.orders.skills[o]), int(town.riders.skills[r])
            assert ((o, r) in made) == all(has >> b & 1 for b in range(8) if need >> b & 1)
    assert 0 < len(made) < len(waiting(town)) * len(eligible_riders(town, 8))


def test_nobody_to_pair(town):
    none = np.empty(0, np.int32)
    assert not len(nearest_pairs(town, none, eligible_riders(town, 8), 5).order)
    assert not len(nearest_pairs(town, waiting(town), none, 5).order)


def test_riders_with_an_offer_are_left_alone(kit, scene):
    scene.rider("r")
    scene.place("a")
    assert len(eligible_riders(scene.snapshot(), 8)) == 1
    scene.offer("a", "r")
    assert not len(eligible_riders(scene.snapshot(), 8))
    scene.do("a", c.Decline(at_ms=kit.T0, rider_id="r", number=1))
    assert len(eligible_riders(scene.snapshot(), 8)) == 1
