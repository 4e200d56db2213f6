"""A gateway that is full: who watches stays out first, riders with an order never."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from api.auth import Role
from api.capacity import Limits
from api.gateway.entrance import Entrance


async def refused(world: Any, role: str, sub: str) -> tuple[int, str]:
    client = await world.connect()
    await client.say("hello", token=world.tokens.mint(sub=sub, role=role, city="sh"))
    return await client.closed()


async def busy(world: Any, rider_id: str) -> Any:
    """A rider with an offer, whom the gateway knows as such."""
    await world.on_shift(rider_id)
    rider = await world.enter("rider", rider_id)
    await world.offer(await world.place(f"for {rider_id}"), rider_id)
    await rider.hear("offer")
    return rider


async def test_connections(world: Any) -> None:
    world.settings = replace(world.settings, limits=Limits(connections=10))
    await world.start()
    first, second = await busy(world, "b1"), await busy(world, "b2")
    await second.socket.close()
    for n in range(7):
        await world.enter("customer", f"c{n}")
    code, reason = await refused(world, "customer", "c8")
    assert code == 1013
    assert "watchers" in reason
    await world.enter("rider", "idle0")
    await world.register("idle1")
    code, reason = await refused(world, "rider", "idle1")
    assert code == 1013
    assert "idle_riders" in reason
    again = await world.enter("rider", "b2")
    await again.hear("offer")
    # All ten are taken: the door itself answers.
    with pytest.raises(InvalidStatus) as full:
        await world.connect()
    assert full.value.response.status_code == 503
    assert full.value.response.headers["Retry-After"] == "1"
    await first.say("heartbeat")
    await first.hear("ack")


def test_a_late_event_loop_keeps_out_watchers_then_idle_riders() -> None:
    entrance = Entrance(Limits(watchers_lag_ms=100, idle_riders_lag_ms=200))
    out = {}
    for lag_ms in (50.0, 150.0, 250.0):
        entrance.load.lag_ms = lag_ms
        out[lag_ms] = [
            entrance.full_for(Role.CUSTOMER, False, 1),
            entrance.full_for(Role.RIDER, False, 1),
            entrance.full_for(Role.RIDER, True, 1),
        ]
    assert out == {
        50.0: [None, None, None],
        150.0: ["watchers_lag", None, None],
        250.0: ["watchers_lag", "idle_riders_lag", None],
    }
