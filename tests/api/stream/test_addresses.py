"""Addresses on a rider's socket: his accepted stops have them, whenever he comes, nobody else's."""

from __future__ import annotations

from typing import Any

from api.clock import now_ms
from api.gateway.addresses import Addresses
from dispatch.commands import Accept, Cancel, DropOut
from dispatch.model import Order, Party

LAT = 31.2304
DOORS = [f"door {LAT}", f"door {LAT + 0.01}"]


def texts(frame: dict[str, Any]) -> dict[str, list[str]]:
    """By order, in the order of the route."""
    found: dict[str, list[str]] = {}
    for stop in frame["stops"]:
        found.setdefault(stop["order_id"], []).append(stop["text"])
    return found


async def accept(world: Any, order_id: str, rider_id: str) -> Order:
    order = await world.offer(await world.place(order_id), rider_id)
    done = await world.store.run(
        order_id, Accept(at_ms=now_ms(), rider_id=rider_id, number=order.attempts)
    )
    assert done.refusal is None
    return done.order


async def test_a_rider_who_comes_later_has_them_too(live):
    await live.on_shift("r1")
    await accept(live, "a", "r1")
    await live.offer(await live.place("b"), "r1")
    rider = await live.enter("rider", "r1")
    offer = await rider.hear("offer")
    assert [s["text"] for s in offer["stops"]] == ["", ""]
    assert sorted(s["text"] for s in offer["route"]) == ["", "", *DOORS]
    assert texts(await rider.hear("route")) == {"a": DOORS}


async def test_they_come_with_the_accepted_order_and_go_with_it(live):
    await live.on_shift("r1")
    rider = await live.enter("rider", "r1")
    await accept(live, "a", "r1")
    await accept(live, "b", "r1")
    both = await rider.hear("route", lambda frame: len(frame["stops"]) == 4)
    assert texts(both) == {"a": DOORS, "b": DOORS}
    done = await live.store.run("a", Cancel(at_ms=now_ms(), by=Party.CUSTOMER, reason=""))
    assert done.refusal is None
    assert texts(await rider.hear("route", lambda frame: len(frame["stops"]) == 2)) == {"b": DOORS}


async def test_only_orders_that_are_served_are_remembered_and_few(world):
    await world.on_shift("r1")
    addresses = Addresses(world.store, orders_max=2)
    orders = [await accept(world, order_id, "r1") for order_id in "abc"]
    offered = await world.offer(await world.place("d"), "r1")
    await addresses.fetch([*orders[:2], offered])
    assert [addresses.text(order, 1) for order in (*orders, offered)] == [
        DOORS[1],
        DOORS[1],
        "",
        "",
    ]
    await addresses.fetch([orders[0]])
    await addresses.fetch([orders[2]])
    assert [addresses.text(order, 0) for order in orders] == [DOORS[0], "", DOORS[0]]
    given_back = await world.store.run("a", DropOut(at_ms=now_ms(), rider_id="r1", number=1))
    assert addresses.text(given_back.order, 0) == ""
    addresses.forget("c")
    assert addresses.text(orders[2], 0) == ""
