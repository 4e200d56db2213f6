"""The working columns, and what a snapshot may see of them."""

import numpy as np
import pytest

from dispatch.columns import RECENT_PICKUPS, padded
from dispatch.messages import Fixes
from dispatch.model import LOAD_DIMENSIONS, RouteStop
from geo.errors import InvalidValue


def test_loads_are_padded_and_never_cut():
    assert padded((), "f") == (0,) * LOAD_DIMENSIONS
    assert padded((4,), "f") == (4, 0, 0)
    assert padded((1, 2, 3), "f") == (1, 2, 3)
    with pytest.raises(InvalidValue) as caught:
        padded((1, 2, 3, 4), "f")
    assert caught.value.field == "f"


def test_a_told_route_may_be_wider_than_the_policy_allows(kit, scene):
    """Riders may come to hold more than a round would give them."""
    scene.rider("r", capacity=(99,))
    told = []
    for i in range(9):
        scene.place(f"o{i}")
        told += [(f"o{i}", 0), (f"o{i}", 1)]
        scene.give(f"o{i}", "r", route=told)
    assert scene.route("r") == told
    snapshot = scene.snapshot()
    snapshot.check()
    assert snapshot.riders.route.shape[1] >= 18
    assert scene.orders["o8"].assignment.route[0] == RouteStop(order_id="o0", stop=0)
    scene.place("more")
    assert [w.order_id for w in scene.decide()[1].waits] == ["more"]


def test_a_row_that_is_used_again_has_nothing_of_the_old_order(kit, scene):
    scene.rider("r")
    scene.place(
        "old", (900, 900), (800, 800), skills=("ice",), ride_max_ms=5, load=(3, 3, 3),
        pickup={"latest_ms": kit.T0 + 5, "place_id": "m"},
    )  # fmt: skip
    before = scene.dispatcher.columns.order_row["old"]
    stop = scene.dispatcher.columns.stop_row("old", 0)
    scene.do("old", kit.cancel(kit.T0))
    scene.place("new", (10, 20), (30, 40), load=(1,))
    columns = scene.dispatcher.columns
    assert columns.order_row == {"new": before}
    assert columns.stop_row("new", 0) == stop
    fresh = kit.Scene()
    fresh.rider("r")
    fresh.place("new", (10, 20), (30, 40), load=(1,))
    one, two = scene.snapshot(), fresh.snapshot()
    for table in ("stops", "orders"):
        for name in getattr(one, table).__dataclass_fields__:
            a, b = getattr(getattr(one, table), name), getattr(getattr(two, table), name)
            own = slice(0, 2) if table == "stops" else slice(0, 1)
            assert np.array_equal(a[own], b[own]), (table, name)


def test_a_city_may_name_more_skills_than_a_column_has_bits(kit, scene):
    """Those beyond are nobody's: their orders wait, the others and the city go on.

    One bit is the tenant's.
    """
    scene.rider("able", skills=tuple(f"s{i}" for i in range(80)))
    scene.place("first", skills=("s0", "s60"))
    scene.place("beyond", skills=("s0", "s61"))
    scene.place("both", skills=("s78", "s79"))
    _, plan = scene.decide()
    assert [o.order_id for o in plan.offers] == ["first"]
    assert {w.order_id: w.reason.value for w in plan.waits} == {
        "beyond": "no_rider_with_skills",
        "both": "no_rider_with_skills",
    }


def test_a_rider_serves_his_own_tenant_only(kit, scene):
    scene.rider("ours")
    scene.rider("theirs", tenant="other")
    scene.place("mine", (5, 0))
    scene.place("hers", (5, 0), tenant="other")
    _, plan = scene.decide()
    assert {o.order_id: o.rider_id for o in plan.offers} == {"mine": "ours", "hers": "theirs"}


def test_recent_pickups_are_the_latest(kit, scene):
    scene.rider("r", capacity=(10**6,))
    for i in range(RECENT_PICKUPS + 5):
        scene.place(f"o{i}", (10.0 * i, 0))
        scene.give(f"o{i}", "r", route=[(f"o{i}", 0), (f"o{i}", 1)])
        for stop in (0, 1):
            scene.serve(f"o{i}", stop, kit.T0 + i)
    recent = scene.snapshot().recent
    assert recent.shape == (RECENT_PICKUPS, 2)
    assert recent[:, 0] == pytest.approx([10.0 * (i + 5) for i in range(RECENT_PICKUPS)], abs=1e-3)


def test_a_shared_snapshot_is_what_a_copy_is_until_something_is_written(kit, scene):
    scene.rider("r", 50, 60)
    scene.place("o", (900, 900), (800, 800), load=(3, 3, 3))
    scene.place("p")
    scene.give("p", "r")
    columns = scene.dispatcher.columns
    copied, shared = columns.snapshot(kit.T0 + 5), columns.snapshot(kit.T0 + 5, shared=True)
    for table in ("stops", "orders", "riders"):
        for name in getattr(copied, table).__dataclass_fields__:
            a, b = getattr(getattr(copied, table), name), getattr(getattr(shared, table), name)
            assert np.array_equal(a, b), (table, name)
            assert name == "id" or not b.flags.writeable, (table, name)
    assert np.array_equal(copied.recent, shared.recent)
    scene.do("o", kit.cancel(kit.T0))
    assert copied.orders.waiting.tolist() == [True, False]
    assert shared.orders.waiting.tolist() == [False, False]


def test_a_round_looks_where_everybody_is_before_it_begins(kit, scene):
    scene.rider("r")
    asked = []

    def look(now_ms):
        asked.append(now_ms)
        lat, lon = kit.PLANE.lat_lon(np.array([30.0]), np.array([40.0]))
        return Fixes(rider_id=("r",), lat=lat, lon=lon, at_ms=np.array([now_ms]))

    dispatcher = scene.dispatcher
    dispatcher.tick(kit.T0, look)
    assert asked == []
    assert dispatcher.outbox() == []
    scene.place("o")
    dispatcher.tick(kit.T0 + 10, look)
    assert asked == [kit.T0 + 10]
    (effect,) = dispatcher.outbox()
    riders = effect.snapshot.riders
    assert (riders.x[0], riders.y[0]) == pytest.approx((30.0, 40.0))
