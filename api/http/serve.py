"""Serves the HTTP API until it is told to stop; may import uvicorn, redis and the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import uvicorn
from redis.asyncio import Redis

from api.http.app import make_app
from api.settings import Settings
from api.store import Store, migrate
from geo.errors import StartupError

GRACE_S = 10
CONNECTIONS_MAX = 2_000
ANSWER_LIMIT_S = 2.0
POLL_S = 0.02


class _Server(uvicorn.Server):
    """Leaves the signals to the process, which sets `stop`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    settings: Settings, stop: asyncio.Event, *, ready: Callable[[int], None] | None = None
) -> None:
    """Bring the database up to date and serve on `settings.host`:`http_port` until `stop` is set.

    `ready` is called with the port once it listens. After `stop`, requests that are under way
    have 10 s to end.

    Raises:
        StartupError: the port cannot be had.
        What `migrate` and `Store.open` raise.
    """
    await migrate(settings.postgres_url)
    store = await Store.open(settings.postgres_url)
    redis = Redis.from_url(settings.redis_url, socket_timeout=ANSWER_LIMIT_S)
    app = make_app(store, settings, redis)
    guard = app.state.parts.guard
    guard.hurry_on_hangup()
    guarding = asyncio.create_task(guard.run(), name="guard")
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.http_port,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # whom to believe is said by HEXRUN_TRUSTED_PROXIES
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    serving = asyncio.create_task(_serve(server, settings), name="http")
    stopped = asyncio.create_task(stop.wait())
    try:
        while not server.started and not serving.done() and not stop.is_set():
            await asyncio.wait({serving, stopped}, timeout=POLL_S)
        if server.started and ready is not None:
            ready(server.servers[0].sockets[0].getsockname()[1])
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        server.should_exit = True
        try:
            await serving
        finally:
            guarding.cancel()
            await asyncio.wait({guarding})
            await redis.aclose()
            await store.close()


async def _serve(server: uvicorn.Server, settings: Settings) -> None:
    try:
        await server.serve()
    except SystemExit:
        where = f"{settings.host}:{settings.http_port}"
        raise StartupError(f"cannot listen on {where}: is it in use?") from None
