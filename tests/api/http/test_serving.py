"""The process: health, the console, a real port, and a stop that lets requests end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from api.auth import Tokens
from api.guard import Guard
from api.http import make_app, serve_http
from api.settings import Settings
from api.store import Store
from api.store.quick import Quick
from geo.errors import StartupError

Client = httpx2.AsyncClient
ClientAs = Callable[..., Client]


def client_of(app: FastAPI) -> Client:
    return Client(transport=httpx2.ASGITransport(app=app), base_url="http://hexrun")


async def test_health(client_as: ClientAs) -> None:
    stranger = client_as()
    assert (await stranger.get("/livez")).json() == {"status": "ok"}
    ready = await stranger.get("/readyz")
    assert ready.status_code == 200
    assert (ready.json()["postgres"], ready.json()["redis"]) == ("ok", "ok")


async def test_a_server_that_is_away_is_named(store: Store, settings: Settings) -> None:
    redis = Redis.from_url("redis://127.0.0.1:1")
    async with client_of(make_app(store, settings, redis)) as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["postgres"] == "ok"
    assert ready.json()["redis"] == "no answer: ConnectionError"
    await redis.aclose()


async def test_without_postgresql_it_says_so(settings: Settings, app: FastAPI) -> None:
    url = make_url("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    store = Store(create_async_engine(url), url, "none", await Quick.open(url))
    token = Tokens(settings.secret).mint(sub="anna", role="customer")
    async with client_of(make_app(store, settings, app.state.parts.redis)) as client:
        headers = {"Authorization": f"Bearer {token}"}
        response = await client.get("/v1/orders/o1", headers=headers)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "unavailable"
        assert response.headers["Retry-After"] == "1"
        ready = await client.get("/readyz")
        assert ready.json()["postgres"] == "no answer: ConnectionRefusedError"
        assert ready.json()["redis"] == "ok"
    await store.close()


async def test_our_own_mistake_tells_nothing(anna: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr("api.store.reading.order", broken)
    response = await anna.get("/v1/orders/o1")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal"
    assert "secret" not in response.text


async def test_a_console_that_is_not_built(client_as: ClientAs) -> None:
    for path in ("/", "/console", "/console/", "/console/app.js"):
        response = await client_as().get(path)
        assert response.status_code == 404
        assert "make console" in response.json()["error"]["message"]


async def test_the_console(store: Store, settings: Settings, app: FastAPI, tmp_path: Path) -> None:
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "index.html").write_text("<title>hexrun</title>")
    (folder / "worker.mjs").write_text("export {}")
    (tmp_path / "secret").write_text("no")
    built = make_app(store, settings, app.state.parts.redis, console_folder=folder)
    async with client_of(built) as client:
        root = await client.get("/")
        assert (root.status_code, root.headers["location"]) == (307, "/console/")
        assert "hexrun" in (await client.get("/console/")).text
        worker = await client.get("/console/worker.mjs")
        assert worker.headers["content-type"].startswith("text/javascript")
        assert (await client.get("/console/none.js")).status_code == 404
        assert (await client.get("/console/%2e%2e/secret")).status_code == 404


async def test_the_description_names_every_route(client_as: ClientAs) -> None:
    paths = (await client_as().get("/openapi.json")).json()["paths"]
    others = {path for path in paths if not path.startswith("/v1/webhooks")}
    assert others == {
        "/v1/quotes",
        "/v1/orders",
        "/v1/orders/{order_id}",
        "/v1/orders/{order_id}/cancel",
        "/v1/orders/{order_id}/transfers",
        "/v1/payments/notices",
        "/v1/events",
        "/v1/hall",
        "/v1/riders",
        "/v1/riders/{rider_id}",
        "/v1/riders/{rider_id}/shift",
        "/v1/city/{city}/status",
        "/v1/orders/{order_id}/claim",
        "/v1/orders/{order_id}/contacts",
        "/v1/erasures",
        "/v1/keys",
        "/v1/keys/{key_id}",
        "/v1/tokens",
        "/v1/tokens/revoke",
        "/v1/audit",
        "/livez",
        "/readyz",
    }


async def test_serving_and_stopping(
    store: Store, settings: Settings, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_http(settings, stop, ready=port.set_result))
    async with asyncio.timeout(20):
        base = f"http://127.0.0.1:{await port}"
    token = Tokens(settings.secret).mint(sub="anna", role="customer")
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    slow = asyncio.Event()
    original = Store.create_order

    async def slowly(self: Store, *args: Any, **options: Any) -> Any:
        slow.set()
        await asyncio.sleep(0.3)
        return await original(self, *args, **options)

    monkeypatch.setattr(Store, "create_order", slowly)
    async with httpx2.AsyncClient(base_url=base, headers=headers) as client:
        assert (await client.get("/livez")).status_code == 200
        placing = asyncio.create_task(client.post("/v1/orders", json=form))
        await slow.wait()
        stop.set()
        assert (await placing).status_code == 201
    await asyncio.wait_for(serving, 5)
    with pytest.raises(httpx2.ConnectError):
        await httpx2.AsyncClient().get(f"{base}/livez")


async def test_who_leaves_says_so_first_and_another_serves_the_same_port(
    store: Store, settings: Settings
) -> None:
    loop = asyncio.get_running_loop()
    stops = [asyncio.Event(), asyncio.Event()]
    ports: list[asyncio.Future[int]] = [loop.create_future(), loop.create_future()]
    leaving = replace(settings, lead_s=1.0)
    first = asyncio.create_task(serve_http(leaving, stops[0], ready=ports[0].set_result))
    base = f"http://127.0.0.1:{await ports[0]}"
    async with httpx2.AsyncClient(base_url=base) as client:
        assert (await client.get("/readyz")).status_code == 200
        stops[0].set()
        async with asyncio.timeout(5):
            while (ready := await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
        assert ready.json()["leaving"]
        assert ready.headers["connection"] == "close"
        assert (await client.get("/livez")).status_code == 200  # it still answers
    again = replace(settings, http_port=await ports[0])
    second = asyncio.create_task(serve_http(again, stops[1], ready=ports[1].set_result))
    assert await ports[1] == await ports[0]
    await first
    async with httpx2.AsyncClient(base_url=base) as client:
        assert (await client.get("/readyz")).status_code == 200
    stops[1].set()
    await second


async def test_nobody_is_let_in_before_it_is_known_who_was_revoked(
    store: Store, settings: Settings, http_database: str
) -> None:
    stop, told = asyncio.Event(), list[str]()
    sql = await asyncpg.connect(http_database.replace("+asyncpg", "", 1))
    async with asyncio.timeout(30):
        async with sql.transaction():
            await sql.execute("LOCK TABLE revocations IN ACCESS EXCLUSIVE MODE")
            serving = asyncio.create_task(
                serve_http(settings, stop, ready=lambda _: told.append("ready"))
            )
            while not await sql.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted"
                " AND relation = 'revocations'::regclass"
            ):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert told == []
        while not told:
            await asyncio.sleep(0.01)
    stop.set()
    await serving
    await sql.close()


async def test_it_ends_with_what_it_cannot_do_without(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor starts it again; going on without it would be seen by nobody."""
    ready = asyncio.Event()

    async def broken(*_: Any) -> None:
        await ready.wait()
        raise KeyError("the guard's own mistake")

    monkeypatch.setattr(Guard, "run", broken)
    with pytest.raises(KeyError):
        async with asyncio.timeout(20):
            await serve_http(settings, asyncio.Event(), ready=lambda _: ready.set())


async def test_a_port_that_is_taken(store: Store, settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1:{port}"):
            await serve_http(replace(settings, http_port=port), asyncio.Event())
