"""A dispatcher over a long run: nothing comes back, nothing piles up, nobody silent is hidden."""

import numpy as np

from dispatch import commands as c
from dispatch.columns import CLOCK_SLACK_MS
from dispatch.dispatcher import ENDED_MAX, Decide, Fixes
from dispatch.engine import decide
from dispatch.model import Party
from dispatch.plan import WaitReason
from dispatch.policy import Policy
from dispatch.referee import check_plan
from dispatch.tables import Places


def reasons(plan):
    return {w.order_id: w.reason for w in plan.waits}


def test_a_repeated_placement_of_an_ended_order_revives_nothing(kit, scene):
    scene.place("o")
    scene.do("o", c.Cancel(at_ms=kit.T0, by=Party.CUSTOMER))
    assert scene.dispatcher.counts()["orders_live"] == 0
    for event in list(scene.events):
        scene.dispatcher.receive(event)
    assert scene.dispatcher.counts()["orders_live"] == 0
    assert kit.view(scene.dispatcher)["waiting"] == set()
    scene.dispatcher.tick(kit.T0 + 10_000)
    assert scene.dispatcher.outbox() == []


def test_nor_one_of_an_order_that_is_done_or_completed(kit, scene):
    scene.rider("r")
    scene.place("o")
    scene.give("o", "r")
    for stop in (0, 1):
        scene.serve("o", stop, kit.T0 + 1)
    for _ in ("done", "completed"):
        for event in [x for x in scene.events if getattr(x, "order_id", "") == "o"]:
            scene.dispatcher.receive(event)
        assert scene.dispatcher.counts()["orders_live"] == 0
        if scene.orders["o"].state != "completed":
            scene.do("o", c.Complete(at_ms=kit.T0 + scene.policy.complete_after_ms + 2))


def test_the_memory_of_ended_orders_is_bounded(kit, scene):
    for n in range(ENDED_MAX + 50):
        scene.dispatcher._end(f"o{n}")
    assert len(scene.dispatcher._ended) == ENDED_MAX
    assert "o49" not in scene.dispatcher._ended
    assert "o50" in scene.dispatcher._ended


def test_the_number_of_a_door_that_no_order_has_is_given_again(kit, scene):
    """Thousands of merchants come and go; at any time two orders are live."""
    seen = set()
    for n in range(300):
        scene.place(f"o{n}", pickup={"place_id": f"shop{n // 2}"})
        columns = scene.dispatcher.columns
        places = {i: columns.stops["place"][columns.stop_row(i, 0)] for i in columns.order_row}
        seen |= set(places.values())
        if n % 2:
            assert places[f"o{n - 1}"] == places[f"o{n}"], "one door"
        if n > 1:
            scene.do(f"o{n - 2}", c.Cancel(at_ms=kit.T0, by=Party.CUSTOMER))
    assert seen <= {0, 1, 2}
    assert len(scene.dispatcher.columns._places._number) <= 2


def test_places_by_row():
    places = Places()
    numbers = [places.at(row, name) for row, name in enumerate(("a", "b", "a", ""))]
    assert numbers == [0, 1, 0, -1]
    assert places.at(0, "a") == 0
    assert places.at(0, "b") == 1
    assert places.at(2, "") == -1, "the last row of a"
    assert places.at(4, "c") == 0, "its number is free"
    assert places.at(5, "b") == 1
    assert places.at(6, "d") == 2


def test_riders_who_are_being_asked_are_on_shift_all_the_same(kit, scene):
    scene.rider("r", skills=("ice",))
    scene.place("first")
    scene.offer("first", "r")
    scene.place("second")
    scene.place("cold", skills=("ice",))
    scene.place("tall", skills=("tall",))
    plan = decide(scene.snapshot(), scene.policy)
    assert reasons(plan) == {
        "second": WaitReason.RIDERS_TAKEN,
        "cold": WaitReason.RIDERS_TAKEN,
        "tall": WaitReason.NO_RIDER_WITH_SKILLS,
    }
    scene.off("r")
    plan = decide(scene.snapshot(), scene.policy)
    assert set(reasons(plan).values()) == {WaitReason.NO_RIDER_ON_SHIFT}


def test_nobody_is_offered_anything_past_the_end_of_his_shift(kit, scene):
    """He has not said that he goes home, and his phone still sends."""
    end_ms = kit.T0 + 300_000
    scene.rider("r", end_ms=end_ms)
    scene.place("o")
    assert decide(scene.snapshot(kit.T0), scene.policy).offers, "in time"
    plan = decide(scene.snapshot(end_ms), scene.policy)
    assert plan.offers == ()
    assert reasons(plan) == {"o": WaitReason.NO_RIDER_ON_SHIFT}


def stale_scene(kit, **policy):
    scene = kit.Scene(Policy(stale_after_ms=CLOCK_SLACK_MS + 30_000, **policy))
    scene.rider("silent", 0, 0)
    scene.rider("speaks", 900, 0)
    at_ms = kit.T0 + 60_000
    lat, lon = kit.PLANE.lat_lon(900.0, 0.0)
    fix = Fixes(
        rider_id=("speaks",),
        lat=np.array([lat]),
        lon=np.array([lon]),
        at_ms=np.array([at_ms], np.int64),
    )
    scene.dispatcher.receive(fix)
    scene.place("o", at_ms=at_ms)
    return scene, at_ms


def test_a_silent_rider_is_used_where_he_was_last_seen_and_the_plan_says_so(kit):
    scene, at_ms = stale_scene(kit)
    scene.dispatcher.tick(at_ms)
    (effect,) = scene.dispatcher.outbox()
    assert isinstance(effect, Decide)
    assert dict(zip(effect.snapshot.riders.id, effect.snapshot.riders.stale, strict=True)) == {
        "silent": True,
        "speaks": False,
    }
    plan = decide(effect.snapshot, scene.policy)
    (offer,) = plan.offers
    assert (offer.rider_id, offer.stale) == ("silent", True)
    assert not check_plan(effect.snapshot, plan, scene.policy)


def test_a_policy_may_let_silence_cost_something(kit):
    scene, at_ms = stale_scene(kit, stale_penalty_ms=600_000)
    snapshot, plan = scene.decide(at_ms)
    (offer,) = plan.offers
    assert (offer.rider_id, offer.stale) == ("speaks", False)
    assert not check_plan(snapshot, plan, scene.policy)
