"""Those who order: customers by token, a shop by its API key. They ask again until they are
answered, cancel a few, pay some, and put some into the hall. Some orders nobody wants: they expire.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import httpx2

from bench.chaos import markers
from bench.chaos.logs import now_ms
from bench.chaos.phones import Phone
from bench.chaos.world import Caller, City, World

LOOK_S = 0.02
CLAIMANTS = 4
CLAIM_AGAIN_S = 1.0
# Whoever hears one of these knows that the order is not to be had any more.
SETTLED = ("ok", "already_taken", "not_open", "expired")
PROVIDER = "sandbox"


class Customers:
    """Places `count` orders: as many at once as keep `live_max` of them under way, but no more than
    `rate` a second on average where that is not 0.

    `keys` are the API keys of the shop by city, `phones` the riders who look into the hall.
    """

    def __init__(
        self,
        world: World,
        client: httpx2.AsyncClient,
        phones: Sequence[Phone],
        keys: dict[str, str],
        *,
        count: int,
        rate: float,
        live_max: int,
    ) -> None:
        self._world, self._client, self._phones = world, client, phones
        self._count, self._rate, self._live_max = count, rate, live_max
        self._shops = {city.name: Caller(world, client, keys[city.name]) for city in world.cities}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hall: set[asyncio.Task[None]] = set()

    async def run(self, progress: Callable[[float], None]) -> None:
        """Until all are placed and answered; tells how much of that is done, 0 to 1."""
        rng = random.Random(f"customers {self._world.seed}")
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        for number in range(self._count):
            if self._rate:
                next_s = max(next_s + rng.expovariate(self._rate), loop.time() - 1.0)
                await asyncio.sleep(max(0.0, next_s - loop.time()))
            while self._world.live >= self._live_max:
                await asyncio.sleep(LOOK_S)
            progress(number / self._count)
            self._world.live += 1
            self._start(self._one(number), self._tasks)
        await asyncio.gather(*self._tasks)
        progress(1.0)

    def _start(self, work: Any, tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _one(self, number: int) -> None:
        world, key = self._world, f"order-{self._world.seed}-{number}"
        rng = random.Random(key)
        city = world.cities[number % len(world.cities)]
        customer = f"c{number}"
        caller = Caller(world, self._client, world.token(customer, "customer", city))
        shop = rng.random() < 0.2
        hall = rng.random() < 0.2
        unwanted = rng.random() < 0.06
        body = _form(rng, city, number, hall=hall, unwanted=unwanted)
        if shop:
            body["customer_id"] = customer
        buyer = self._shops[city.name] if shop else caller
        world.log.write("order_sent", key=key)
        sends = [self._place(buyer, city, customer, key, body, rng.randrange(2))]
        if rng.random() < 0.1:  # a double tap
            sends.append(self._place(buyer, city, customer, key, body, rng.randrange(2)))
        answers = await asyncio.gather(*sends)
        if not answers[0]:
            world.live -= 1
            return
        if unwanted:
            world.unwanted.add(answers[0])
        elif hall:
            self._start(self._claimed(answers[0], city, rng), self._hall)
        if rng.random() < 0.3:
            await self._pay(answers[0], customer, city, number, rng)
        if rng.random() < 0.1:  # a phone that has lost the answer
            await asyncio.sleep(rng.uniform(0.5, 3.0))
            await self._place(buyer, city, customer, key, body, rng.randrange(2))
        if rng.random() < 0.06:
            await asyncio.sleep(rng.uniform(0.2, 6.0))
            await self._cancel(caller, answers[0], key if rng.random() < 0.5 else "", number)

    async def _place(
        self, caller: Caller, city: City, customer: str, key: str, body: dict[str, Any], first: int
    ) -> str:
        sent_ms = now_ms()
        status, answer = await caller.post("/v1/orders", body, first=first, key=key)
        if status not in (200, 201):
            self._world.log.write("order_refused", key=key, status=status, answer=answer)
            return ""
        self._world.log.write(
            "order",
            key=key,
            order=answer["id"],
            city=city.name,
            customer=customer,
            matching=body["matching"],
            price_fen=answer["price_fen"],
            sent_ms=sent_ms,
        )
        return str(answer["id"])

    async def _cancel(self, caller: Caller, order: str, key: str, number: int) -> None:
        """Without a key the answer to a repeated one is a refusal, which says nothing false."""
        path = f"/v1/orders/{order}/cancel"
        body = {"reason": f"call me on {markers.phone(number)}"}
        status, answer = await caller.post(path, body, first=0, key=key and f"cancel-{key}")
        ok = status == 200
        code = answer["state"] if ok else answer["error"]["code"]
        self._world.log.write("cancel", order=order, ok=ok, code=code)

    async def _pay(
        self, order: str, customer: str, city: City, number: int, rng: random.Random
    ) -> None:
        """The provider repeats its notice, sometimes at both processes at once."""
        notice = {
            "provider": PROVIDER,
            "notice_id": f"n{self._world.seed}-{number}",
            "customer_id": customer,
            "fen": 100 + number % 900,
            "order_id": order,
        }
        shop = self._shops[city.name]

        async def send() -> None:
            status, answer = await shop.post("/v1/payments/notices", notice, first=rng.randrange(2))
            told = answer.get("transfer_id") if status == 201 else None
            self._world.log.write("payment", **notice, status=status, transfer=told)

        await asyncio.gather(*(send() for _ in range(rng.choice((1, 1, 2, 3)))))
        if rng.random() < 0.3:
            await send()

    # --- the hall -------------------------------------------------------------------------------

    async def _claimed(self, order: str, city: City, rng: random.Random) -> None:
        """A few riders press at once, again and again, until somebody has it."""
        riders = [phone for phone in self._phones if phone.city is city]
        while not self._world.over.is_set():
            asked = rng.sample(riders, min(CLAIMANTS, len(riders)))
            presses = [self._claim_by_http(asked[0], order)]
            presses += [phone.claim(order) for phone in asked[1:]]
            codes = await asyncio.gather(*presses)
            if set(codes) & set(SETTLED):
                return
            await asyncio.sleep(CLAIM_AGAIN_S)

    async def _claim_by_http(self, phone: Phone, order: str) -> str:
        """The same rider from a mini-program: his key does what the action's id does."""
        world = self._world
        action_id = phone.next_action()
        line = {"rider": phone.rider, "action_id": action_id}
        world.log.write("action_sent", **line, type="claim", order_id=order)
        caller = Caller(world, self._client, world.token(phone.rider, "rider", phone.city))
        status, answer = await caller.post(f"/v1/orders/{order}/claim", {}, first=0, key=action_id)
        code = "ok" if status == 200 else answer["error"]["code"]
        world.log.write("action", **line, ok=status == 200, code=code)
        return str(code)


def _form(
    rng: random.Random, city: City, number: int, *, hall: bool, unwanted: bool
) -> dict[str, Any]:
    here, there = city.place(rng), city.place(rng) | {"text": markers.address(number)}
    return {
        "job_type": "hurried" if unwanted else "delivery",
        "matching": "hall" if hall else "dispatch",
        "stops": [{"place": here}, {"place": there, "contact": markers.contact(number)}],
        "note": markers.note(number),
    }
