"""Probes: somebody at each door who knocks all the time, so that the log says when it opened.

A probe at an HTTP process asks for the answer to an order placed before; one at a gateway sends
fixes and answers an offer that nobody made, and stays with its gateway.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx2

from bench.chaos.logs import now_ms
from bench.chaos.phones import Phone
from bench.chaos.world import ANSWER_LIMIT_S, World

EVERY_S = 0.15
TENANT = "probe"


async def probe_http(world: World, client: httpx2.AsyncClient, number: int) -> None:
    """Places one order and asks for it again for ever, at one process."""
    city = world.cities[0]
    token = world.token(f"probe{number}", "customer", city, TENANT)
    rng = random.Random(f"probe {number}")
    stops = [{"place": city.place(rng)}, {"place": city.place(rng)}]
    body = {"job_type": "delivery", "stops": stops, "note": f"probe-{number}"}
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"probe-{number}"}
    while not world.over.is_set():
        begun_ms = now_ms()
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                answer = await client.post(
                    f"{world.http[number]}/v1/orders", json=body, headers=headers
                )
            if answer.status_code in (200, 201):
                world.log.write("probe", what="order", door=number + 1, begun_ms=begun_ms)
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError):
            pass
        await asyncio.sleep(EVERY_S)


class ProbePhone(Phone):
    """A rider of another tenant, who is offered nothing."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(
            world, f"probe{number}", number, world.cities[0], tenant=TENANT, pinned=True
        )
        self._door = number + 1
        self._waiting: tuple[str, int] | None = None

    def settled(self, fix: dict[str, Any]) -> None:
        self.world.log.write("probe", what="fix", door=self._door, begun_ms=fix["at_ms"])

    async def act(self) -> None:
        if self._waiting is None:
            self._waiting = self.next_action(), now_ms()
            await self.do("decline", self._waiting[0], order_id="nothing", number=1, reason="probe")

    def answered(self, action_id: str) -> None:
        if self._waiting is not None and self._waiting[0] == action_id:
            begun_ms = self._waiting[1]
            self.world.log.write("probe", what="action", door=self._door, begun_ms=begun_ms)
            self._waiting = None
            self._next_act_s = self._now_s() + EVERY_S
