"""The HTTP API on a port of this machine, served by a thread of its own, with a real database."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
import requests
from sqlalchemy.engine import make_url

from api.auth import Tokens
from api.clock import now_ms
from api.http import serve_http
from api.settings import CityArea, RateSettings, Settings, WebhookSettings
from api.store import migrate
from api.supervisor import ServerUrls

SECRET = "a-secret-of-the-tests-0123456789-abcdef"
PLACE = {"lat": 31.2285, "lon": 121.4782}
MANY = "1000000/second"
ROLES = ("customer", "merchant", "rider", "operator", "integrator")


@dataclass
class Server:
    """Where it listens, and who may ask: `bearers` by role, by API key and scoped."""

    url: str
    bearers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, who: str, method: str, path: str, body: Any = None, **headers: str
    ) -> requests.Response:
        headers |= {"Authorization": f"Bearer {self.bearers[who]}"}
        return requests.request(method, self.url + path, json=body, headers=headers, timeout=30)

    def made(self, who: str, path: str, body: Any, **headers: str) -> dict[str, Any]:
        answer = self.ask(who, "POST", path, body, **headers)
        assert answer.status_code in (200, 201), answer.text
        made: dict[str, Any] = answer.json()
        return made

    def order(self, **changes: Any) -> str:
        """A fresh one of the customer `me`, in the shop `me`."""
        stops = [{"place": PLACE}, {"place": PLACE | {"lat": 31.24, "text": "third floor"}}]
        body = {"stops": stops, "customer_id": "me", "merchant_id": "me"} | changes
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return str(self.made("operator", "/v1/orders", body, **key)["id"])


@pytest.fixture(scope="module")
def server(servers: ServerUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    settings = Settings(
        postgres_url=asyncio.run(_database(servers)),
        redis_url=f"{servers.redis}?db=0",
        data=folder,
        secret=SECRET,
        cities=(CityArea(name="demo", lat=31.2304, lon=121.4737),),
        http_port=0,
        rates=RateSettings(subject=MANY, address=MANY, stranger=MANY, sockets=MANY),
        # Names that nobody has must not be looked up.
        webhooks=WebhookSettings(allow_private=True),
    )
    port: Future[int] = Future()
    stopping: Future[Any] = Future()

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        stopping.set_result(lambda: loop.call_soon_threadsafe(stop.set))
        await serve_http(settings, stop, ready=port.set_result)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="served")
    thread.start()
    try:
        served = Server(f"http://127.0.0.1:{port.result(timeout=60)}")
        _fill(served)
        yield served
    finally:
        stopping.result(timeout=60)()
        thread.join(timeout=60)


async def _database(servers: ServerUrls) -> str:
    name = f"contract_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(servers.postgres.replace("+asyncpg", "", 1))
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await admin.close()
    url = make_url(servers.postgres).set(database=name).render_as_string(hide_password=False)
    await migrate(url)
    return url


def _fill(served: Server) -> None:
    """Everybody's token, and something of everything."""
    tokens = Tokens(SECRET)
    for role in ROLES:
        served.bearers[role] = tokens.mint(sub="me", role=role, ttl_s=86_400)
    served.made("rider", "/v1/riders", {"id": "me", "name": "Max Mei", "phone": "13812345678"})
    shift = {"on": True, "shift_end_ms": now_ms() + 3_600_000, "place": PLACE}
    served.made("rider", "/v1/riders/me/shift", shift)
    for role in ("integrator", "merchant"):
        key = served.made("operator", "/v1/keys", {"role": role, "sub": "me"})
        served.bearers[f"key of {role}"] = key["key"]
    scope = (served.order(),)
    served.bearers["scoped"] = tokens.mint(sub="me", role="customer", ttl_s=86_400, orders=scope)
