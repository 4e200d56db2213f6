"""Customers: they place orders over HTTP, ask again until they are answered, and cancel a few."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field
from typing import Any

import httpx2
import jwt

from bench.chaos.logs import Log, now_ms

TENANT = "chaos"
TOKEN_S = 24 * 3600
ANSWER_LIMIT_S = 3.0
CITY_M = 1_500.0
DEGREE_M = 111_195.0


@dataclass
class World:
    """What all clients of a run know."""

    city: str
    lat: float
    lon: float
    secret: str
    http: list[str]
    streams: list[str]
    log: Log
    seed: int
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def token(self, sub: str, role: str, tenant: str = TENANT) -> str:
        """Issued an hour ago, so that a server whose clock is behind takes it too."""
        now_s = now_ms() // 1000
        return jwt.encode(
            {
                "iss": "hexrun",
                "sub": sub,
                "role": role,
                "tenant": tenant,
                "city": self.city,
                "iat": now_s - 3600,
                "exp": now_s + TOKEN_S,
            },
            self.secret,
            algorithm="HS256",
        )

    def place(self, rng: random.Random, radius_m: float = CITY_M) -> dict[str, Any]:
        """Somewhere in the city."""
        north, east = (rng.uniform(-radius_m, radius_m) for _ in range(2))
        lat = self.lat + north / DEGREE_M
        lon = self.lon + east / DEGREE_M / math.cos(math.radians(self.lat))
        return {"lat": round(lat, 6), "lon": round(lon, 6), "coordinate_system": "wgs84"}


class Caller:
    """One HTTP client of somebody; asks the servers in turn until one answers for good."""

    def __init__(self, world: World, client: httpx2.AsyncClient, token: str) -> None:
        self._world, self._client = world, client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def post(
        self, path: str, body: dict[str, Any], *, first: int, key: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """The first answer that is not a server's failure, however long that takes."""
        headers = {**self._headers, **({"Idempotency-Key": key} if key else {})}
        attempt = first
        while True:
            base = self._world.http[attempt % len(self._world.http)]
            try:
                async with asyncio.timeout(ANSWER_LIMIT_S):
                    answer = await self._client.post(base + path, json=body, headers=headers)
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer.status_code, answer.json()
            except (httpx2.TransportError, httpx2.DecodingError, TimeoutError, ValueError):
                pass
            attempt += 1
            await asyncio.sleep(min(1.0, 0.1 * 2 ** min(attempt - first, 4)))

    async def get(self, path: str, *, first: int = 0) -> dict[str, Any] | None:
        """One try; None where nothing good came back."""
        base = self._world.http[first % len(self._world.http)]
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                answer = await self._client.get(base + path, headers=self._headers)
            found: dict[str, Any] = answer.json()
            return found if answer.status_code == 200 else None
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError, ValueError):
            return None


def new_client() -> httpx2.AsyncClient:
    """Enough connections for all customers; limits are set around each request."""
    limits = httpx2.Limits(max_connections=400, max_keepalive_connections=50)
    return httpx2.AsyncClient(limits=limits, timeout=ANSWER_LIMIT_S)


class Customers:
    """Places `count` orders, `rate` a second on average."""

    def __init__(
        self, world: World, client: httpx2.AsyncClient, *, count: int, rate: float
    ) -> None:
        self._world, self._client = world, client
        self._count, self._rate = count, rate
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until all are placed and answered."""
        rng = random.Random(f"customers {self._world.seed}")
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        for number in range(self._count):
            next_s = max(next_s + rng.expovariate(self._rate), loop.time() - 1.0)
            await asyncio.sleep(max(0.0, next_s - loop.time()))
            task = asyncio.create_task(self._one(number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)

    async def _one(self, number: int) -> None:
        world, key = self._world, f"order-{self._world.seed}-{number}"
        rng = random.Random(key)
        caller = Caller(world, self._client, world.token(f"c{number}", "customer"))
        body = {
            "job_type": "delivery",
            "stops": [{"place": world.place(rng)}, {"place": world.place(rng)}],
            "note": key,
        }
        world.log.write("order_sent", key=key)
        sends = [self._place(caller, key, body, rng.randrange(2))]
        if rng.random() < 0.1:  # a double tap
            sends.append(self._place(caller, key, body, rng.randrange(2)))
        answers = await asyncio.gather(*sends)
        if rng.random() < 0.1:  # a phone that has lost the answer
            await asyncio.sleep(rng.uniform(0.5, 3.0))
            await self._place(caller, key, body, rng.randrange(2))
        if answers[0] and rng.random() < 0.06:
            await asyncio.sleep(rng.uniform(0.2, 6.0))
            await self._cancel(caller, answers[0], key)

    async def _place(self, caller: Caller, key: str, body: dict[str, Any], first: int) -> str:
        sent_ms = now_ms()
        status, answer = await caller.post("/v1/orders", body, first=first, key=key)
        if status not in (200, 201):
            self._world.log.write("order_refused", key=key, status=status, answer=answer)
            return ""
        self._world.log.write(
            "order", key=key, order=answer["id"], price_fen=answer["price_fen"], sent_ms=sent_ms
        )
        return str(answer["id"])

    async def _cancel(self, caller: Caller, order: str, key: str) -> None:
        path = f"/v1/orders/{order}/cancel"
        status, answer = await caller.post(path, {}, first=0, key=f"cancel-{key}")
        ok = status == 200
        code = answer["state"] if ok else answer["error"]["code"]
        self._world.log.write("cancel", order=order, ok=ok, code=code)
