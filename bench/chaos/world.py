"""What all clients of a run know, and how they ask over HTTP until they are answered."""

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


@dataclass(frozen=True)
class City:
    """Its name, and its centre in WGS-84 degrees."""

    name: str
    lat: float
    lon: float

    def place(self, rng: random.Random, radius_m: float = CITY_M) -> dict[str, Any]:
        """Somewhere in it."""
        north, east = (rng.uniform(-radius_m, radius_m) for _ in range(2))
        lat = self.lat + north / DEGREE_M
        lon = self.lon + east / DEGREE_M / math.cos(math.radians(self.lat))
        return {"lat": round(lat, 6), "lon": round(lon, 6), "coordinate_system": "wgs84"}


@dataclass
class World:
    """`live` is how many orders are placed and have not ended, as an integrator sees it.
    `unwanted` are orders that no rider accepts.
    """

    cities: list[City]
    secret: str
    http: list[str]
    streams: list[str]
    log: Log
    seed: int
    over: asyncio.Event = field(default_factory=asyncio.Event)
    live: int = 0
    unwanted: set[str] = field(default_factory=set)

    def token(self, sub: str, role: str, city: City, tenant: str = TENANT) -> str:
        """Issued an hour ago, so that a server whose clock is behind takes it too."""
        now_s = now_ms() // 1000
        return jwt.encode(
            {
                "iss": "hexrun",
                "sub": sub,
                "role": role,
                "tenant": tenant,
                "city": city.name,
                "iat": now_s - 3600,
                "exp": now_s + TOKEN_S,
            },
            self.secret,
            algorithm="HS256",
        )


class Caller:
    """One HTTP client of somebody; asks the servers in turn until one answers for good.

    `token` is a token or an API key.
    """

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
